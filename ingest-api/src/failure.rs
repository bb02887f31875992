//! Every answer that is not a success, in the one documented shape.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::LazyLock;
use tributary_backends::{log::LogError, said::Said, tables::TablesError};
use tributary_schemas::{api::ApiError, limits::MAX_MESSAGE_CHARS};

/// A request that failed: its status, and what the body says.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The HTTP status.
    pub status: StatusCode,
    /// `error`: stable, for programs.
    pub code: &'static str,
    /// `message`: what happened and what to do, for people.
    pub message: String,
    /// `retryAfter` and the header `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// `details`.
    pub details: Option<serde_json::Value>,
    /// Whether the connection must end with this answer, because the rest of the body is not going to be read.
    pub close: bool,
}

impl Failure {
    /// A failure with a status, a code and a message.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, details: None, close: false }
    }

    /// 400.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 400 for one query parameter.
    pub fn bad_parameter(name: &str, expected: &str) -> Self {
        Self::bad_request("INVALID_PARAMETER", format!("the query parameter {name:?} must be {expected}"))
    }

    /// 413 with the limit that was passed.
    pub fn too_large(limit: usize, when: &str) -> Self {
        let message = format!("the body is larger than {limit} bytes {when}: send it as several batches");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message)
    }

    /// 404: no such batch in the caller's workspace.
    pub fn no_such_batch() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "this workspace has no batch with this id")
    }

    /// 503: the memory budget is used up.
    pub fn overloaded() -> Self {
        let message = "too many bodies are being received at once: send this request again after retryAfter seconds";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message).retry_after(1)
    }

    /// 503: a request that holds an idempotency key took too long.
    pub fn unfinished() -> Self {
        let message = "the batch could not be stored in time: repeat the request with the same Idempotency-Key";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message).retry_after(1)
    }

    /// 503 while the server stops.
    pub fn stopping() -> Self {
        let message = "this server is stopping: send this request again after retryAfter seconds";
        let mut failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "SHUTTING_DOWN", message).retry_after(1);
        failure.close = true;
        failure
    }

    /// 500: a bug of ours. What it was is logged, not told.
    pub fn internal() -> Self {
        let message = "something went wrong on our side and has been logged; whether the request took effect is not \
                       known: repeating it is safe, since a record sent twice is stored once";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", message)
    }

    /// The same, with `retryAfter`.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same, ending the connection.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "BACKEND_UNAVAILABLE", message).retry_after(5)
    }
}

const AWAY: &str = "a backend is not available right now: send this request again after retryAfter seconds";
const FULL: &str = "there is no space left to store this: send this request again after retryAfter seconds";
const HALTED: &str = "a backend has stopped for safety and its operator must act: try again later";

/// Of all requests of the process: each gets its answer, but the operator is told once.
static SAID: LazyLock<Said> = LazyLock::new(Said::default);

/// Logs what a backend said, unless the same was wrong a moment ago.
fn say(kind: &'static str, what_fails: &str, error: &dyn std::error::Error, only_wait: bool) {
    let Some(unsaid) = SAID.may_say(&format!("{what_fails}: {kind}")) else { return };
    if only_wait {
        tracing::warn!(%error, unsaid, "{what_fails}");
    } else {
        tracing::error!(%error, unsaid, "{what_fails}");
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let (kind, message) = match error {
            LogError::Unavailable(_) => ("away", AWAY),
            LogError::Full(_) => ("full", FULL),
            LogError::Fenced { .. } | LogError::Corrupt { .. } | LogError::Halted(_) => ("halted", HALTED),
        };
        say(kind, "cannot append", &error, message == AWAY);
        Self::unavailable(message)
    }
}

impl From<TablesError> for Failure {
    fn from(error: TablesError) -> Self {
        let (kind, message) = match error {
            TablesError::Unavailable(_) => ("away", AWAY),
            TablesError::Full(_) => ("full", FULL),
            TablesError::Halted(_) => ("halted", HALTED),
            // Requests create no keys.
            TablesError::KeyLimit { .. } => {
                tracing::error!(%error, "the tables gave an answer that was not asked for");
                return Self::internal();
            }
        };
        say(kind, "cannot use the tables", &error, message == AWAY);
        Self::unavailable(message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = ApiError {
            error: self.code.to_owned(),
            message: self.message.chars().take(MAX_MESSAGE_CHARS).collect(),
            retry_after: self.retry_after,
            details: self.details,
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_wait_is_in_the_body_and_in_the_header() {
        let response = Failure::overloaded().into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.expect("body");
        let error: ApiError = serde_json::from_slice(&body).expect("shape");
        assert_eq!(error.retry_after, Some(1));
        assert_eq!(error.error, "OVERLOADED");
    }

    #[test]
    fn backends_that_are_away_or_halted_are_503_and_worth_a_retry() {
        let corrupt = LogError::Corrupt { file: "log".into(), at: 1, reason: "checksum".into() };
        let failures: [Failure; 6] = [
            LogError::Unavailable("x".into()).into(),
            LogError::Full("x".into()).into(),
            corrupt.into(),
            TablesError::Unavailable("x".into()).into(),
            TablesError::Full("x".into()).into(),
            TablesError::Halted("x".into()).into(),
        ];
        for failure in failures {
            assert_eq!(failure.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(failure.retry_after.is_some());
            assert!(!failure.message.contains("checksum"), "inner reasons stay in the log");
        }
    }

    #[tokio::test]
    async fn messages_are_bounded() {
        let failure = Failure::bad_request("INVALID_JSON", "ä".repeat(5_000));
        let body = axum::body::to_bytes(failure.into_response().into_body(), 100_000).await.expect("body");
        let error: ApiError = serde_json::from_slice(&body).expect("shape");
        assert_eq!(error.message.chars().count(), MAX_MESSAGE_CHARS);
    }
}
