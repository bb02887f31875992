//! The HTTP contract's request and response types; the served OpenAPI document is generated from them.

use crate::batch::BatchStatus;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod envelope;

pub use envelope::Envelope;

/// Answer to `POST /api/v1/ingest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngestAccepted {
    /// At most 128 characters.
    pub batch_id: String,
    /// Records accepted.
    pub accepted_count: u32,
    /// Records rejected.
    pub rejected_count: u32,
    /// Errors of all rejected records.
    pub total_error_count: u32,
    /// The first 20 of them.
    pub errors: Vec<RecordError>,
}

/// One error of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordError {
    /// Record's place in the body, from 0, blank lines not counted.
    pub index: u32,
    /// `VALIDATION_ERROR` or `INVALID_JSON`.
    pub code: String,
    /// JSON pointer, what was expected, what came; the line number for NDJSON.
    pub message: String,
}

/// Every error answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// A stable code, at most 64 characters.
    pub error: String,
    /// What happened and what to do, at most 2,048 characters.
    pub message: String,
    /// Seconds to wait before the next try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// More, by kind of error; `errors` when every record was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

/// One batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct BatchView {
    pub batch_id: String,
    pub status: BatchStatus,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    pub accepted_count: u32,
    pub rejected_count: u32,
    pub total_error_count: u32,
    /// Of rejected records the first 20 errors, and the reason of a failed batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<RecordError>>,
    /// Source name of the key that sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Normalised `_type` of its records.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment_download_total: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment_download_complete: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment_download_failed: Option<u32>,
    /// `PENDING, IN_PROGRESS, COMPLETE, PARTIAL_FAILURE, FAILED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment_download_status: Option<String>,
}

/// A page of batches, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct BatchPage {
    pub batches: Vec<BatchView>,
    /// Null on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// One rejected record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct RejectedRecord {
    pub index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    pub errors: Vec<PointedError>,
    /// As sent; cut when `payloadCut`.
    pub payload: String,
    pub payload_cut: bool,
}

/// An error with its JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PointedError {
    pub pointer: String,
    pub code: String,
    pub message: String,
}

/// A page of rejected records, in the batch's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct RejectPage {
    pub rejects: Vec<RejectedRecord>,
    #[schema(required)]
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests;
