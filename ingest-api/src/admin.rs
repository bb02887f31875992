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
use serde_json::json;
use std::sync::Arc;
use tokio::{net::TcpListener, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

/// Asks every backend whether it answers: its name, and what is wrong if anything is.
pub type Ready = Arc<dyn Fn() -> BoxFuture<'static, Vec<(String, Result<(), String>)>> + Send + Sync>;

#[derive(Clone)]
struct Admin {
    registry: Arc<Registry>,
    ready: Ready,
}

/// Serves until `stop`.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    ready: Ready,
    stop: CancellationToken,
) -> Result<(), std::io::Error> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Admin { registry, ready });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// 200 when every backend answers, else 503; the body names each of them.
async fn readyz(State(admin): State<Admin>) -> Response {
    let checks = (admin.ready)().await;
    let ready = checks.iter().all(|(_, answer)| answer.is_ok());
    let backends: serde_json::Map<_, _> =
        checks.into_iter().map(|(name, answer)| (name, json!(answer.err().unwrap_or_else(|| "ok".into())))).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "backends": backends }))).into_response()
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
