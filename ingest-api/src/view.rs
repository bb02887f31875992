//! What the tables hold → what a sender sees; and cursors, which are opaque to them. Pure.

use crate::failure::Failure;
use tributary_backends::tables::{AttachmentPosition, Batch, BatchPosition};
use tributary_schemas::{
    api::{AttachmentView, BatchView, PointedError, RecordError, RejectedRecord},
    batch::{BatchStatus, Fact, status},
    frame::{Attachment, Reject},
    identity::Identity,
    limits::{DEFAULT_PAGE, MAX_CURSOR_CHARS, MAX_PAGE},
};

/// Processors that must have processed a batch before it is `COMPLETE`: none can be registered yet.
const PROCESSORS: [String; 0] = [];

/// Nothing downloads attachments yet, so all of them are still to be fetched.
const PENDING: &str = "PENDING";

/// The status of a batch.
pub fn status_of(batch: &Batch) -> BatchStatus {
    status(batch.facts.iter().map(|(fact, _)| fact), &PROCESSORS)
}

/// A batch as the API shows it.
pub fn batch(batch: Batch) -> BatchView {
    let status = status_of(&batch);
    let mut errors = batch.row.errors;
    if status == BatchStatus::Failed {
        let reasons = batch.facts.iter().filter_map(|(fact, _)| match fact {
            Fact::Failed { reason } => Some(reason),
            _ => None,
        });
        let failed = |reason: &String| RecordError { index: 0, code: "BATCH_FAILED".into(), message: reason.clone() };
        errors.extend(reasons.map(failed));
    }
    let attachments = Some(batch.row.attachments).filter(|n| *n > 0);
    BatchView {
        batch_id: batch.row.batch_id,
        status,
        created_at: batch.row.created_at,
        accepted_count: batch.row.accepted,
        rejected_count: batch.row.rejected,
        total_error_count: batch.row.total_errors,
        errors: Some(errors).filter(|errors| !errors.is_empty()),
        source: Some(batch.row.source),
        kind: Some(batch.row.kind),
        attachment_download_total: attachments,
        attachment_download_complete: attachments.map(|_| 0),
        attachment_download_failed: attachments.map(|_| 0),
        attachment_download_status: attachments.map(|_| PENDING.to_owned()),
    }
}

/// A rejected record as the API shows it.
pub fn reject(reject: Reject) -> RejectedRecord {
    let errors = reject.errors.into_iter().map(|error| PointedError {
        pointer: error.pointer,
        code: error.code,
        message: error.message,
    });
    RejectedRecord {
        index: reject.record_index,
        line: reject.line,
        errors: errors.collect(),
        payload: reject.payload,
        payload_cut: reject.payload_cut,
    }
}

/// An attachment as the API shows it.
pub fn attachment(attachment: Attachment) -> AttachmentView {
    AttachmentView {
        index: attachment.record_index,
        n: attachment.n,
        state: PENDING.to_owned(),
        key: digits(attachment.key),
        kind: attachment.kind,
        filename: attachment.filename,
        size: attachment.size,
        mime_type: attachment.mime_type,
        sha1: attachment.sha1,
        md5: attachment.md5,
        vendor_url: attachment.vendor_url,
        upload_intent_id: attachment.upload_intent_id,
    }
}

/// As DuckDB's `hex` writes it, in small letters.
fn digits(Identity(key): Identity) -> String {
    format!("{:032x}", u128::from_be_bytes(key))
}

/// `?limit=`: 1 to 100, 20 when not given.
///
/// # Errors
/// 400.
pub fn limit(text: Option<&str>) -> Result<usize, Failure> {
    let Some(text) = text else { return Ok(DEFAULT_PAGE) };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|n| digits && (1..=MAX_PAGE).contains(n));
    limit.ok_or_else(|| Failure::bad_parameter("limit", "a whole number from 1 to 100"))
}

fn bad_cursor() -> Failure {
    Failure::bad_parameter("cursor", "a nextCursor that this endpoint gave, unchanged")
}

/// The cursor behind a batch.
pub fn batch_cursor(position: &BatchPosition) -> String {
    format!("b{:016x}{}", position.created_at, position.batch_id)
}

/// Reads a cursor of the batches list back.
///
/// # Errors
/// 400.
pub fn batch_position(cursor: &str) -> Result<BatchPosition, Failure> {
    let parse = || {
        let (time, id) = bounded(cursor)?.strip_prefix('b')?.split_at_checked(16)?;
        let id_like = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let created_at = i64::try_from(hex(time)?).ok()?;
        (!id.is_empty() && id.chars().all(id_like)).then(|| BatchPosition { created_at, batch_id: id.to_owned() })
    };
    parse().ok_or_else(bad_cursor)
}

/// The cursor behind a rejected record.
pub fn reject_cursor(index: u32) -> String {
    format!("r{index:08x}")
}

/// Reads a cursor of the rejects list back.
///
/// # Errors
/// 400.
pub fn reject_position(cursor: &str) -> Result<u32, Failure> {
    let text = bounded(cursor).and_then(|cursor| cursor.strip_prefix('r'));
    text.and_then(number).ok_or_else(bad_cursor)
}

/// The cursor behind an attachment.
pub fn attachment_cursor(AttachmentPosition { record_index, n }: AttachmentPosition) -> String {
    format!("a{record_index:08x}{n:08x}")
}

/// Reads a cursor of the attachments list back.
///
/// # Errors
/// 400.
pub fn attachment_position(cursor: &str) -> Result<AttachmentPosition, Failure> {
    let parse = || {
        let (index, n) = bounded(cursor)?.strip_prefix('a')?.split_at_checked(8)?;
        Some(AttachmentPosition { record_index: number(index)?, n: number(n)? })
    };
    parse().ok_or_else(bad_cursor)
}

fn bounded(cursor: &str) -> Option<&str> {
    (cursor.chars().count() <= MAX_CURSOR_CHARS).then_some(cursor)
}

/// Eight digits.
fn number(text: &str) -> Option<u32> {
    if text.len() == 8 { u32::try_from(hex(text)?).ok() } else { None }
}

/// Digits only: `from_str_radix` alone would take a sign.
fn hex(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits() {
        assert_eq!(limit(None), Ok(20));
        assert_eq!(limit(Some("1")), Ok(1));
        assert_eq!(limit(Some("100")), Ok(100));
        for bad in ["0", "101", "-1", "+5", "", "x", "1.5", "99999999999999999999"] {
            assert_eq!(limit(Some(bad)).expect_err(bad).code, "INVALID_PARAMETER");
        }
    }

    #[test]
    fn cursors_that_were_not_given_are_refused() {
        for bad in [
            "",
            "b",
            "r",
            "a",
            "x",
            "a00000000",
            "a000000000000000g",
            "a00000000000000000",
            "b0000000000000001",
            "b000000000000000g0",
            "r+0000001",
            "é",
            &"b".repeat(300),
        ] {
            assert!(batch_position(bad).is_err(), "{bad}");
            assert!(reject_position(bad).is_err(), "{bad}");
            assert!(attachment_position(bad).is_err(), "{bad}");
        }
        assert!(batch_position("bffffffffffffffff0").is_err());
        assert!(reject_position(&reject_cursor(7)).is_ok() && batch_position(&reject_cursor(7)).is_err());
    }

    #[test]
    fn a_key_is_shown_as_32_digits() {
        let shown = digits(Identity([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]));
        assert_eq!(shown, "000102030405060708090a0b0c0d0eff");
    }

    proptest! {
        #[test]
        fn cursors_come_back(created_at in 0i64.., batch_id in "[0-9a-f-]{1,36}", index: u32, n: u32) {
            let position = BatchPosition { created_at, batch_id };
            let cursor = batch_cursor(&position);
            prop_assert!(cursor.chars().count() <= MAX_CURSOR_CHARS);
            prop_assert_eq!(batch_position(&cursor), Ok(position));
            prop_assert_eq!(reject_position(&reject_cursor(index)), Ok(index));
            let position = AttachmentPosition { record_index: index, n };
            prop_assert_eq!(attachment_position(&attachment_cursor(position)), Ok(position));
        }

        #[test]
        fn any_text_is_a_cursor_or_a_400(text in ".{0,60}") {
            let _ = (batch_position(&text), reject_position(&text), attachment_position(&text), limit(Some(&text)));
        }
    }
}
