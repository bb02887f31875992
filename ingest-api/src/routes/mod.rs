//! The endpoints, one module each, and what surrounds them all.

pub mod attachments;
pub mod batch;
pub mod batches;
pub mod document;
pub mod ingest;
mod page;
pub mod rejects;

use crate::{Api, failure::Failure, metrics::Counted};
use axum::{
    Router,
    extract::{FromRequestParts, MatchedPath, Query, Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::FutureExt;
use serde::de::DeserializeOwned;
use std::panic::AssertUnwindSafe;
use tokio::time::Instant;
use tracing::{Instrument, Span, field::Empty};
use tributary_backends::trace::{self, TraceParent};

/// All endpoints of the public listener.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/api/v1/ingest", post(ingest::post))
        .route("/api/v1/ingest/batches", get(batches::get))
        .route("/api/v1/ingest/batches/{batch_id}", get(batch::get))
        .route("/api/v1/ingest/batches/{batch_id}/rejects", get(rejects::get))
        .route("/api/v1/ingest/batches/{batch_id}/attachments", get(attachments::get))
        .route("/openapi.json", get(document::get))
        .route("/api/v1/openapi.json", get(document::get))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(api.clone(), surround))
        .with_state(api)
}

/// Around every request: refuse when stopping, answer in any case when that is over, turn a panic into a 500, end the
/// connection when leaving, count.
async fn surround(State(api): State<Api>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let _in_flight = Counted::up(&api.metrics.in_flight);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let span = span_of(&request, &route);
    let mut response = if api.stopping.is_cancelled() {
        Failure::stopping().into_response()
    } else {
        let answer = AssertUnwindSafe(next.run(request).instrument(span.clone())).catch_unwind();
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| {
                tracing::error!(route, "a request panicked");
                Failure::internal().closing().into_response()
            }),
            () = api.over.cancelled() => Failure::stopping().into_response(),
        }
    };
    if api.leaving.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status().as_u16();
    span.record("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
    api.metrics.count_request(&route, &method, status, started.elapsed());
    response
}

/// For traces: goes on with the sender's, if there is one. Names and fields are OpenTelemetry's conventions.
fn span_of(request: &Request, route: &str) -> Span {
    // A sender may call a method what it likes.
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => known,
        _ => "_OTHER",
    };
    // It is filtered by its target, before anything else of it is known.
    macro_rules! span {
        ($target:expr) => {
            tracing::info_span!(
                target: $target,
                "request",
                otel.name = format_args!("{method} {route}"),
                otel.kind = "server",
                otel.status_code = Empty,
                http.request.method = method,
                http.route = route,
                http.response.status_code = Empty,
            )
        };
    }
    let senders = request.headers().get(trace::HEADER).and_then(|header| TraceParent::read(header.as_bytes()));
    match senders.map(|senders| (senders.is_sampled(), senders)) {
        None | Some((None, _)) => span!(trace::TARGET),
        Some((Some(false), _)) => Span::none(),
        Some((Some(true), senders)) => {
            let span = span!(trace::SENDERS);
            senders.adopt(&span);
            span
        }
    }
}

async fn unknown_path() -> Failure {
    let message = "there is nothing at this path: see /openapi.json for what there is";
    Failure::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

async fn wrong_method() -> Failure {
    let message = "this path does not take this method: see the header Allow";
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
}

/// Reads the query string; its values are still text.
async fn query<T: DeserializeOwned + 'static>(parts: &mut Parts) -> Result<T, Failure> {
    let Query(query) = Query::<T>::from_request_parts(parts, &()).await.map_err(|error| {
        Failure::bad_request("INVALID_PARAMETER", format!("the query string cannot be read: {}", error.body_text()))
    })?;
    Ok(query)
}
