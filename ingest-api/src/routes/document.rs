//! `GET /openapi.json`.

use crate::openapi;
use axum::{http::header, response::IntoResponse};

/// The OpenAPI document; asks for no key.
pub async fn get() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::json())
}
