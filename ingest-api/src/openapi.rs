//! The OpenAPI document, made from the types and handlers that serve it.

use crate::routes;
use bytes::Bytes;
use std::sync::OnceLock;
use tributary_schemas::api::Envelope;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        RefOr,
        path::Operation,
        security::{ApiKey, ApiKeyValue, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tributary",
        description = "Send batches of records; follow them until they are in the lake."
    ),
    paths(
        routes::ingest::post,
        routes::batches::get,
        routes::batch::get,
        routes::rejects::get,
        routes::attachments::get
    ),
    tags((name = "ingest", description = "Batches of records")),
    modifiers(&Keys, &Errors)
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

/// What each error status means, and whether only a request with a body can get it.
const ERRORS: [(&str, bool, &str); 10] = [
    ("400", false, "The request cannot be taken as it is: a bad body, parameter or Idempotency-Key"),
    ("401", false, "No API key, or one that is unknown or revoked"),
    ("403", false, "The API key lacks the permission"),
    ("404", false, "No such batch in the key's workspace"),
    ("408", true, "The body came too slowly"),
    ("413", true, "The body is too large, before or after decompression"),
    ("415", true, "Not a content type or encoding that is taken"),
    (
        "429",
        false,
        "Too many requests with this key, the same request is being processed, or the lake is behind with this \
         workspace: wait retryAfter seconds",
    ),
    ("500", false, "A bug on our side"),
    ("503", false, "A backend is away or too much is going on: wait retryAfter seconds"),
];

/// Lists every error of every operation, with the one shape of them all.
struct Errors;

impl Modify for Errors {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for item in openapi.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                list_errors(operation);
            }
        }
    }
}

fn list_errors(operation: &mut Operation) {
    let Some(RefOr::T(shape)) = operation.responses.responses.get("default").cloned() else { return };
    let has_body = operation.request_body.is_some();
    for (status, _, meaning) in ERRORS.iter().filter(|(_, needs_body, _)| has_body || !needs_body) {
        let mut response = shape.clone();
        response.description = (*meaning).to_owned();
        operation.responses.responses.insert((*status).to_owned(), RefOr::T(response));
    }
}

/// The document as JSON.
pub fn json() -> Bytes {
    static JSON: OnceLock<Bytes> = OnceLock::new();
    JSON.get_or_init(|| Document::openapi().to_json().map(Bytes::from).unwrap_or_default()).clone()
}

/// A body of `application/json`.
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used: bodies are read without building it")]
pub(crate) enum IngestBody {
    /// One record.
    One(Envelope),
    /// Several.
    Many(Vec<Envelope>),
    /// Several, wrapped; there is no other member.
    Wrapped(Wrapper),
}

/// Several records, wrapped.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used: bodies are read without building it")]
pub(crate) struct Wrapper {
    /// 1 to 1,000 of them.
    #[schema(min_items = 1, max_items = 1000)]
    records: Vec<Envelope>,
}
