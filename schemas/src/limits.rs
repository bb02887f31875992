//! The limits of the HTTP contract, one place for each. Lengths count Unicode code points.

/// A request body, before and after decompression, in bytes (5 MB).
pub const MAX_BODY_BYTES: usize = 5 * 1024 * 1024;
/// Records in one batch.
pub const MAX_BATCH_RECORDS: usize = 1_000;
/// Attachments in one batch.
pub const MAX_BATCH_ATTACHMENTS: usize = 1_000;
/// Errors shown in a `202` or in `details.errors`; all are counted.
pub const MAX_SHOWN_ERRORS: usize = 20;
/// Characters of an error's `message`.
pub const MAX_MESSAGE_CHARS: usize = 2_048;
/// Characters of an `Idempotency-Key`.
pub const MAX_IDEMPOTENCY_KEY_CHARS: usize = 256;
/// Characters of a `cursor`.
pub const MAX_CURSOR_CHARS: usize = 256;
/// Largest page of the batches list.
pub const MAX_PAGE: usize = 100;
/// Page of the batches list when none is asked for.
pub const DEFAULT_PAGE: usize = 20;
/// Live API keys of one workspace.
pub const MAX_LIVE_KEYS: usize = 10;

/// Errors listed for one record; what is wrong beyond them is summed up in one more.
pub const MAX_RECORD_ERRORS: usize = 1_000;
/// Characters of `_product_id`, `_project_id` and each of `_project_ids`.
pub const MAX_ID_CHARS: usize = 128;
/// Characters of `_thread_id`.
pub const MAX_THREAD_ID_CHARS: usize = 512;
/// Entries of `_participants`.
pub const MAX_PARTICIPANTS: usize = 5_000;
/// Characters of a participant's `id` and `name`.
pub const MAX_PARTICIPANT_CHARS: usize = 256;
/// Characters of a participant's `email`.
pub const MAX_EMAIL_CHARS: usize = 320;
/// Entries of one record's `_attachments`.
pub const MAX_ATTACHMENTS: usize = 10;
/// Characters of an attachment's `filename`.
pub const MAX_FILENAME_CHARS: usize = 512;
/// Characters of an attachment's `mime_type` and `upload_intent_id`.
pub const MAX_ATTACHMENT_CHARS: usize = 256;
/// Characters of an attachment's `sha1` and `md5`.
pub const MAX_DIGEST_CHARS: usize = 128;
/// Characters of an attachment's `vendor_url`.
pub const MAX_URL_CHARS: usize = 2_048;
/// Entries of `_tags`.
pub const MAX_TAGS: usize = 200;
/// Characters of a tag, and of a detected entity's `type`.
pub const MAX_TAG_CHARS: usize = 64;
/// Characters of a detected entity's `value`.
pub const MAX_ENTITY_VALUE_CHARS: usize = 1_024;
