//! The OpenAPI document, made from the types and handlers that serve it.

use crate::routes;
use bytes::Bytes;
use std::sync::OnceLock;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, SecurityScheme},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tributary",
        description = "Send batches of records; follow them until they are in the lake."
    ),
    paths(routes::ingest::post, routes::batches::get, routes::batch::get, routes::rejects::get),
    tags((name = "ingest", description = "Batches of records")),
    modifiers(&Keys)
)]
struct Document;

/// Says how requests are authenticated.
struct Keys;

impl Modify for Keys {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(crate::auth::HEADER)));
        openapi.components.get_or_insert_default().add_security_scheme("api_key", scheme);
    }
}

/// The document as JSON.
pub fn json() -> Bytes {
    static JSON: OnceLock<Bytes> = OnceLock::new();
    JSON.get_or_init(|| Document::openapi().to_json().map(Bytes::from).unwrap_or_default()).clone()
}

/// A body of `application/json`.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used: bodies are read without building it")]
pub enum IngestBody {
    /// One record.
    One(Record),
    /// Several.
    Many(Vec<Record>),
    /// Several, wrapped; there is no other member.
    Wrapped {
        /// The records.
        records: Vec<Record>,
    },
}

/// A record: the Integration Envelope.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct Record {}
