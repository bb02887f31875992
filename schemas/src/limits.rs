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
