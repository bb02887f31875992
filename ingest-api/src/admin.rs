//! The admin listener: `/healthz`, `/readyz`, `/metrics`. For operators and their tools; it asks for no key, so it
//! listens on its own address.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use serde_json::{Map, json};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

/// What a backend has answered.
#[derive(Debug)]
pub struct Answer {
    /// Which one.
    pub backend: &'static str,
    /// What is wrong, if anything is.
    pub is: Result<(), String>,
    /// How long it took.
    pub took: Duration,
}

/// Asks every backend whether it answers.
pub type Ready = Arc<dyn Fn() -> BoxFuture<'static, Vec<Answer>> + Send + Sync>;

#[derive(Clone)]
struct Admin {
    process: Arc<str>,
    registry: Arc<Registry>,
    ready: Ready,
}

/// Serves until `stop`. `process`: what it is called where others name it, as the owner of a partition.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: TcpListener,
    process: Arc<str>,
    registry: Arc<Registry>,
    ready: Ready,
    stop: CancellationToken,
) -> Result<(), std::io::Error> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Admin { process, registry, ready });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// 200 when every backend answers, else 503; the body names the process and each of them, and how long each took.
async fn readyz(State(admin): State<Admin>) -> Response {
    let answers = (admin.ready)().await;
    let ready = answers.iter().all(|answer| answer.is.is_ok());
    let millis = |took: Duration| (took.as_secs_f64() * 1e3).round() / 1e3;
    let seconds: Map<_, _> = answers.iter().map(|one| (one.backend.to_owned(), json!(millis(one.took)))).collect();
    let said = |is: Result<(), String>| json!(is.err().unwrap_or_else(|| "ok".into()));
    let backends: Map<_, _> = answers.into_iter().map(|one| (one.backend.to_owned(), said(one.is))).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "process": &*admin.process, "ready": ready, "backends": backends, "seconds": seconds })))
        .into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    // Some of it is asked of file systems, which may take their time.
    let encoded = spawn_blocking(move || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &admin.registry).map(|()| text)
    });
    match encoded.await.unwrap_or(Err(std::fmt::Error)) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
