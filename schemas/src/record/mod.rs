//! One JSON text → a validated, normalised record, or every error in it.
//!
//! Good records, nearly all of them, take one pass ([`fast`]: serde into borrowed fields, `data` skipped over). Only a
//! record that fails it is read again by [`thorough`], which walks the envelope's table ([`shape`]) and collects every
//! error. Both ask [`check`] and [`date`] about single values.
//!
//! What the contract does not forbid is accepted: strings may be empty (but not where they must be an e-mail address, a
//! URI or a date), hold any Unicode character, and repeat in arrays.

use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

mod check;
pub(crate) mod date;
mod fast;
mod message;
pub(crate) mod shape;
mod thorough;

/// `_type`, lower-cased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum RecordType {
    EmailThread,
    Email,
    MeetingNotes,
    Call,
    CallTranscription,
    Conversation,
    Message,
    Document,
    Spreadsheet,
}

impl RecordType {
    /// The normalised name, as in the lake's `type` partition: `email_thread`, `email`, …
    pub fn as_str(self) -> &'static str {
        shape::TYPES[self as usize]
    }

    /// In the order of [`shape::TYPES`].
    const ALL: [Self; 9] = [
        Self::EmailThread,
        Self::Email,
        Self::MeetingNotes,
        Self::Call,
        Self::CallTranscription,
        Self::Conversation,
        Self::Message,
        Self::Document,
        Self::Spreadsheet,
    ];

    /// The type of this name, in any letter case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name))
    }
}

/// `_nature`; `evidence` when the record does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Nature {
    Evidence,
    Guidance,
    Context,
}

impl Nature {
    /// `evidence`, `guidance` or `context`.
    pub fn as_str(self) -> &'static str {
        shape::NATURES[self as usize]
    }

    /// The nature of a name that is one of [`shape::NATURES`].
    fn from_name(name: &str) -> Self {
        match name {
            "guidance" => Self::Guidance,
            "context" => Self::Context,
            _ => Self::Evidence,
        }
    }
}

/// A validated and normalised record; strings borrow from the body where JSON escapes allow it.
#[derive(Debug)]
pub struct Record<'a> {
    /// `_type`, any letter case accepted.
    pub kind: RecordType,
    /// `_event_at` rounded to the nearest second (.500 up), in seconds since the Unix epoch, year 1 to 9999.
    pub event_at: i64,
    /// `_vendor_ids`, sorted by key.
    pub vendor_ids: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// `_product_id`.
    pub product_id: Cow<'a, str>,
    /// `_project_ids`, or `_project_id` as its only element.
    pub project_ids: Vec<Cow<'a, str>>,
    /// `_nature`.
    pub nature: Nature,
    /// `_thread_id`.
    pub thread_id: Option<Cow<'a, str>>,
    /// `_participants`, empty when absent.
    pub participants: Vec<Participant<'a>>,
    /// `_attachments`, empty when absent.
    pub attachments: Vec<Attachment<'a>>,
    /// `_tags`, empty when absent.
    pub tags: Vec<Cow<'a, str>>,
    /// `_pii`.
    pub pii: Option<Pii<'a>>,
    /// `data`, byte for byte as sent.
    pub data: &'a RawValue,
}

/// One of `_participants`.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Participant<'a> {
    pub id: Cow<'a, str>,
    pub role: &'static str,
    pub name: Option<Cow<'a, str>>,
    pub email: Option<Cow<'a, str>>,
    #[serde(rename = "type")]
    pub kind: Option<&'static str>,
}

/// One of `_attachments`.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Attachment<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub filename: Option<Cow<'a, str>>,
    pub size: Option<i64>,
    pub mime_type: Option<Cow<'a, str>>,
    pub sha1: Option<Cow<'a, str>>,
    pub md5: Option<Cow<'a, str>>,
    pub vendor_url: Option<Cow<'a, str>>,
    pub upload_intent_id: Option<Cow<'a, str>>,
}

/// `_pii`.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Pii<'a> {
    pub contains_email: Option<bool>,
    pub contains_phone: Option<bool>,
    pub sensitive_score: Option<f64>,
    pub detected_entities: Vec<PiiEntity<'a>>,
    pub redaction_status: Option<&'static str>,
}

/// One of `_pii.detected_entities`.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PiiEntity<'a> {
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
    pub value: Option<Cow<'a, str>>,
    pub confidence: Option<f64>,
}

/// What is wrong at one place of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// `VALIDATION_ERROR` or `INVALID_JSON`.
    pub code: ErrorCode,
    /// JSON pointer (RFC 6901) of the place, empty for the record itself. Names longer than 80 characters are cut in it.
    pub pointer: String,
    /// Starts with the pointer; says what was expected and what came; at most 2,048 characters.
    pub message: String,
    /// How many errors it tells of: 1, unless it sums up those that are not listed.
    pub count: u32,
}

/// Codes of per-record errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names say it")]
pub enum ErrorCode {
    ValidationError,
    InvalidJson,
}

impl ErrorCode {
    /// `VALIDATION_ERROR` or `INVALID_JSON`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidationError => "VALIDATION_ERROR",
            Self::InvalidJson => "INVALID_JSON",
        }
    }
}

/// Reads, validates and normalises one record without building a tree of `data`.
///
/// # Errors
/// Every error of the record, in the order of the text, what is missing at the end of its object; never empty. Past
/// [`MAX_RECORD_ERRORS`](crate::limits::MAX_RECORD_ERRORS) they are counted in one last error, so that a hostile record
/// cannot take many times its own size in memory.
pub fn parse(json: &[u8]) -> Result<Record<'_>, Vec<FieldError>> {
    let text = thorough::text(json).map_err(|error| vec![error])?;
    fast::read(text).map_err(|rejected| thorough::errors(text, &rejected.0))
}

#[cfg(test)]
pub(crate) mod tests;
