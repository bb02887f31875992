//! The Integration Envelope as a table: every field, whether it must be there, and what it must be. The thorough
//! reader walks it, and the served OpenAPI document is made from it.

use crate::limits;

/// Normalised names of `_type`.
pub(crate) const TYPES: &[&str] = &[
    "email_thread",
    "email",
    "meeting_notes",
    "call",
    "call_transcription",
    "conversation",
    "message",
    "document",
    "spreadsheet",
];
pub(crate) const SCHEMA_VERSION: &str = "1.0.0";
pub(crate) const NATURES: &[&str] = &["evidence", "guidance", "context"];
pub(crate) const ROLES: &[&str] = &["internal", "external", "unknown"];
pub(crate) const PARTICIPANT_TYPES: &[&str] = &["user", "contact", "workspace_member", "bot", "system", "unknown"];
pub(crate) const ATTACHMENT_TYPES: &[&str] = &["audio", "video", "file", "image", "text", "unknown"];
pub(crate) const REDACTIONS: &[&str] = &["unredacted", "redacted", "encrypted"];

/// What a value must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// `_type`: one of [`TYPES`] in any letter case.
    Type,
    /// The one schema version.
    Version,
    /// `_event_at`.
    EventAt,
    /// A string of at most so many code points; empty is fine.
    Text(usize),
    /// Likewise, and an e-mail address.
    Email(usize),
    /// Likewise, and a URI.
    Uri(usize),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// An integer from 0 to 2^63−1.
    Size,
    /// A number from 0 to 1.
    Ratio,
    /// `true` or `false`.
    Bool,
    /// An object with at least one entry, all strings.
    TextMap,
    /// Any object, never looked into.
    Data,
    /// An array of strings of at most `chars` code points each.
    Texts { min: usize, max: Option<usize>, chars: usize },
    /// An object with these fields.
    Object(&'static [Field]),
    /// An array of such objects.
    Objects { max: Option<usize>, fields: &'static [Field] },
}

/// One field of an object.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) shape: Shape,
    /// For the served document.
    pub(crate) about: &'static str,
}

const fn required(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, required: true, shape, about }
}

const fn optional(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, required: false, shape, about }
}

/// The two names of which exactly one must be there.
pub(crate) const PROJECT_ID: &str = "_project_id";
pub(crate) const PROJECT_IDS: &str = "_project_ids";

/// The envelope. `_project_id` and `_project_ids` are not marked as required: exactly one of them is.
pub(crate) static ENVELOPE: &[Field] = &[
    required("_type", Shape::Type, "What the record is; any letter case, stored in lower case."),
    required("_schema_version", Shape::Version, "Version of this envelope."),
    required(
        "_event_at",
        Shape::EventAt,
        "When it happened, UTC: YYYY-MM-DDTHH:MM:SS[.f]Z, one to three fraction digits, years 0001 to 9999. Rounded to \
         the nearest second, halves up; part of the record's identity.",
    ),
    required(
        "_vendor_ids",
        Shape::TextMap,
        "The record's ids where it comes from, name → id. Part of the record's identity, in any order.",
    ),
    required("_product_id", Shape::Text(limits::MAX_ID_CHARS), "The product it belongs to; one per batch."),
    optional(PROJECT_ID, Shape::Text(limits::MAX_ID_CHARS), "Short for `_project_ids` with one entry; not both."),
    optional(
        PROJECT_IDS,
        Shape::Texts { min: 1, max: None, chars: limits::MAX_ID_CHARS },
        "The projects it belongs to. Either this or `_project_id` is required.",
    ),
    required("data", Shape::Data, "The record itself: any JSON object, stored byte for byte as sent."),
    optional("_nature", Shape::OneOf(NATURES), "`evidence` when left out."),
    optional("_thread_id", Shape::Text(limits::MAX_THREAD_ID_CHARS), "The thread it belongs to."),
    optional(
        "_participants",
        Shape::Objects { max: Some(limits::MAX_PARTICIPANTS), fields: PARTICIPANT },
        "Who took part.",
    ),
    optional(
        "_attachments",
        Shape::Objects { max: Some(limits::MAX_ATTACHMENTS), fields: ATTACHMENT },
        "Files that belong to it.",
    ),
    optional(
        "_tags",
        Shape::Texts { min: 0, max: Some(limits::MAX_TAGS), chars: limits::MAX_TAG_CHARS },
        "Free labels.",
    ),
    optional("_pii", Shape::Object(PII), "What is known about personal data in it."),
];

static PARTICIPANT: &[Field] = &[
    required("id", Shape::Text(limits::MAX_PARTICIPANT_CHARS), "The participant's id at the source."),
    required("role", Shape::OneOf(ROLES), "Seen from the workspace."),
    optional("name", Shape::Text(limits::MAX_PARTICIPANT_CHARS), "Display name."),
    optional("email", Shape::Email(limits::MAX_EMAIL_CHARS), "E-mail address."),
    optional("type", Shape::OneOf(PARTICIPANT_TYPES), "What kind of participant."),
];

static ATTACHMENT: &[Field] = &[
    required("type", Shape::OneOf(ATTACHMENT_TYPES), "What kind of file."),
    optional("filename", Shape::Text(limits::MAX_FILENAME_CHARS), "File name."),
    optional("size", Shape::Size, "Bytes."),
    optional("mime_type", Shape::Text(limits::MAX_ATTACHMENT_CHARS), "Media type."),
    optional("sha1", Shape::Text(limits::MAX_DIGEST_CHARS), "SHA-1 of the file."),
    optional("md5", Shape::Text(limits::MAX_DIGEST_CHARS), "MD5 of the file."),
    optional("vendor_url", Shape::Uri(limits::MAX_URL_CHARS), "Where the file can be fetched: a URI (RFC 3986)."),
    optional("upload_intent_id", Shape::Text(limits::MAX_ATTACHMENT_CHARS), "Id of an upload that was announced."),
];

static PII: &[Field] = &[
    optional("contains_email", Shape::Bool, "There are e-mail addresses in it."),
    optional("contains_phone", Shape::Bool, "There are telephone numbers in it."),
    optional("sensitive_score", Shape::Ratio, "How sensitive it is."),
    optional("detected_entities", Shape::Objects { max: None, fields: ENTITY }, "What was found."),
    optional("redaction_status", Shape::OneOf(REDACTIONS), "What was done about it."),
];

static ENTITY: &[Field] = &[
    required("type", Shape::Text(limits::MAX_TAG_CHARS), "Kind of entity."),
    optional("value", Shape::Text(limits::MAX_ENTITY_VALUE_CHARS), "The text found."),
    optional("confidence", Shape::Ratio, "How sure the finder is."),
];
