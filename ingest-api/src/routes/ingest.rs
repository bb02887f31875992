//! `POST /api/v1/ingest`.

use crate::{
    Api,
    accept::{Order, accept},
    body::{drain, receive},
    decode::Encoding,
    failure::Failure,
    idempotency, routes,
    split::Form,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tracing::Instrument;
use tributary_backends::tables::Permission;

/// The values of `?format=`.
pub const FORMATS: [&str; 4] = ["text", "audio", "video", "file"];

#[derive(Debug, Deserialize)]
struct IngestQuery {
    format: Option<String>,
}

/// Takes a batch.
#[utoipa::path(
    post,
    path = "/api/v1/ingest",
    operation_id = "ingest",
    tag = "ingest",
    params(
        ("format" = Option<String>, Query, description = "A hint about the content: text, audio, video or file"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 256 characters; a repeat with the same key and body within 24 h gets the stored answer"),
        ("Content-Encoding" = Option<String>, Header, description = "gzip or zstd"),
    ),
    request_body(
        description = "One record, an array of records or {\"records\": […]} as application/json; one record per line as \
                       application/x-ndjson. At most 5,242,880 bytes before and after decompression, 1,000 records, \
                       1,000 attachments; all records of one _type and one _product_id (rejected records do not count)",
        content(
            (crate::openapi::IngestBody = "application/json"),
            (String = "application/x-ndjson"),
        ),
    ),
    responses(
        (status = 202, description = "Durably accepted", body = tributary_schemas::api::IngestAccepted),
        (status = "default", description = "Not accepted; `error` says why", body = tributary_schemas::api::ApiError),
    ),
    security(("api_key" = [])),
)]
pub async fn post(State(api): State<Api>, request: Request) -> Result<Response, Failure> {
    let (mut parts, body) = request.into_parts();
    let limit = api.config.limits.max_body_bytes;
    let order = match order(&api, &mut parts).await {
        Ok(order) => order,
        Err(failure) => {
            drain(&parts.headers, body, limit);
            return Err(failure);
        }
    };
    let received = receive(&parts.headers, body, limit, &api.budget, &api.config.timeouts).await?;
    let accepting = accept(api.clone(), order, received).in_current_span();
    let accepted = api.accepting.spawn(accepting).await.map_err(|error| {
        tracing::error!(%error, "accepting a batch failed");
        Failure::internal()
    })??;
    Ok((StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], accepted).into_response())
}

/// What the request's head says, in the order in which it is checked.
async fn order(api: &Api, parts: &mut Parts) -> Result<Order, Failure> {
    let key = api.gate.admit(&parts.headers, Permission::Write).await?;
    api.pressure.admit(&key.workspace, &api.lanes)?;
    let form = form_of(&parts.headers)?;
    let encoding = encoding_of(&parts.headers)?;
    let query: IngestQuery = routes::query(parts).await?;
    if query.format.as_deref().is_some_and(|format| !FORMATS.contains(&format)) {
        return Err(Failure::bad_parameter("format", "text, audio, video or file"));
    }
    let idempotency_key = idempotency::key_of(&parts.headers)?;
    Ok(Order { key, form, encoding, format: query.format, idempotency_key })
}

fn form_of(headers: &HeaderMap) -> Result<Form, Failure> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = value.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let form = match kind.as_str() {
        "application/json" => Some(Form::Json),
        "application/x-ndjson" => Some(Form::Ndjson),
        _ => None,
    };
    let charset =
        parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    let utf8 = charset.is_none_or(|(_, set)| set.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"));
    form.filter(|_| utf8).ok_or_else(|| {
        let message = "send the body as application/json or application/x-ndjson, in UTF-8 (header Content-Type)";
        Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)
    })
}

fn encoding_of(headers: &HeaderMap) -> Result<Encoding, Failure> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let encoding = match (values.next(), values.next()) {
        (None, _) => Some(Encoding::Identity),
        (Some(value), None) => match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "identity" => Some(Encoding::Identity),
            "gzip" | "x-gzip" => Some(Encoding::Gzip),
            "zstd" => Some(Encoding::Zstd),
            _ => None,
        },
        (Some(_), Some(_)) => None,
    };
    encoding.ok_or_else(|| {
        let message = "compress the body with gzip or zstd, once, or not at all (header Content-Encoding)";
        Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_ENCODING", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("value"))])
    }

    #[test]
    fn content_types() {
        let form = |value| form_of(&with(header::CONTENT_TYPE, value)).ok();
        assert_eq!(form("application/json"), Some(Form::Json));
        assert_eq!(form("Application/JSON; charset=UTF-8"), Some(Form::Json));
        assert_eq!(form("application/x-ndjson;charset=\"utf-8\""), Some(Form::Ndjson));
        for other in ["", "text/plain", "application/json; charset=latin1", "application/xml", "application/jsonx"] {
            assert_eq!(form(other), None, "{other}");
        }
        assert!(form_of(&HeaderMap::new()).is_err());
    }

    #[test]
    fn content_encodings() {
        let encoding = |value| encoding_of(&with(header::CONTENT_ENCODING, value)).ok();
        assert_eq!(encoding("GZIP"), Some(Encoding::Gzip));
        assert_eq!(encoding("zstd"), Some(Encoding::Zstd));
        assert_eq!(encoding("identity"), Some(Encoding::Identity));
        for other in ["br", "gzip, zstd", "", "deflate"] {
            assert_eq!(encoding(other), None, "{other}");
        }
        assert_eq!(encoding_of(&HeaderMap::new()).ok(), Some(Encoding::Identity));
    }
}
