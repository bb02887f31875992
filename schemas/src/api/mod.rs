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
    /// Names the batch in every other call.
    #[schema(max_length = 128)]
    pub batch_id: String,
    /// Records accepted.
    pub accepted_count: u32,
    /// Records rejected.
    pub rejected_count: u32,
    /// Errors of all rejected records.
    pub total_error_count: u32,
    /// The first 20 of them, in the body's order.
    #[schema(max_items = 20)]
    pub errors: Vec<RecordError>,
}

/// One error of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordError {
    /// Record's place in the body, from 0, blank lines not counted.
    pub index: u32,
    /// `VALIDATION_ERROR` or `INVALID_JSON`.
    #[schema(max_length = 64, examples("VALIDATION_ERROR", "INVALID_JSON"))]
    pub code: String,
    /// JSON pointer, what was expected, what came; the line number for NDJSON.
    #[schema(max_length = 2048, examples("/_tags/1: expected a string of at most 64 characters, got 7"))]
    pub message: String,
}

/// Every error answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// A stable code.
    #[schema(max_length = 64)]
    pub error: String,
    /// What happened and what to do.
    #[schema(max_length = 2048)]
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
#[expect(missing_docs, reason = "the names say it")]
pub struct BatchView {
    pub batch_id: String,
    pub status: BatchStatus,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// Records that were accepted, whatever became of them since: one that could not be processed (a dead letter) does not
    /// keep the batch from being `COMPLETE`.
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
#[expect(missing_docs, reason = "the names say it")]
pub struct BatchPage {
    pub batches: Vec<BatchView>,
    /// Null on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// One rejected record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
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
pub struct PointedError {
    /// JSON pointer (RFC 6901) of the place, empty for the record itself; long names in it are cut, with `…` at the end.
    pub pointer: String,
    /// `VALIDATION_ERROR` or `INVALID_JSON`.
    #[schema(max_length = 64)]
    pub code: String,
    /// Starts with the pointer; what was expected, what came.
    #[schema(max_length = 2048)]
    pub message: String,
}

/// A page of rejected records, in the batch's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct RejectPage {
    pub rejects: Vec<RejectedRecord>,
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// One attachment of a record of a batch. What the sender did not say is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct AttachmentView {
    /// Record's place in the batch, from 0.
    pub index: u32,
    /// Place in the record's `_attachments`, from 0.
    pub n: u32,
    /// `PENDING`: still to be fetched.
    #[schema(examples("PENDING"))]
    pub state: String,
    /// The record's `key` in the lake, as 32 hexadecimal digits.
    #[schema(min_length = 32, max_length = 32)]
    pub key: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// Bytes, as the sender said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha1: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_intent_id: Option<String>,
}

/// A page of attachments, in the batch's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct AttachmentPage {
    pub attachments: Vec<AttachmentView>,
    #[schema(required)]
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests;
