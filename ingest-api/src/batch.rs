//! A body → a checked batch: parse every record, collect every error, apply the batch rules. Pure.
//!
//! The rules about one `_type`, one `_product_id` and the number of attachments look at the records that are good by
//! themselves: a rejected record has no type that could be relied on, and must not cost its neighbours anything.

use crate::{
    config::Limits,
    failure::Failure,
    split::{Form, Piece, SplitError, split},
};
use serde_json::json;
use tributary_schemas::{
    api::RecordError,
    limits::{MAX_MESSAGE_CHARS, MAX_SHOWN_ERRORS},
    record::{self, FieldError, Record, RecordType},
};

/// Errors kept of one rejected record; all are counted.
const MAX_KEPT_ERRORS: usize = 100;
/// Errors kept of a batch beyond the first of each record: a few bytes can be wrong in a way that takes many to say, and
/// the rejects of a body must not take many times its memory.
const MAX_BATCH_KEPT_ERRORS: usize = 10_000;

/// The records of a body, told apart.
#[derive(Debug)]
pub struct Checked<'a> {
    /// Good records with their place in the body, at least one.
    pub accepted: Vec<(u32, Record<'a>)>,
    /// Bad ones.
    pub rejected: Vec<Rejected<'a>>,
    /// Errors of all bad records.
    pub total_errors: u32,
    /// The first of them, as shown to the sender.
    pub errors: Vec<RecordError>,
    /// The one type of the good records.
    pub kind: RecordType,
    /// Attachments of the good records.
    pub attachments: u32,
}

/// A record that cannot be taken.
#[derive(Debug)]
pub struct Rejected<'a> {
    /// Place in the body, from 0.
    pub index: u32,
    /// Its text, and its line for NDJSON.
    pub piece: Piece<'a>,
    /// What is wrong with it, at least one and at most [`MAX_KEPT_ERRORS`].
    pub errors: Vec<FieldError>,
}

/// Why a whole body is refused.
#[derive(Debug)]
pub struct Refused {
    /// The answer.
    pub failure: Failure,
    /// How many records it held that were looked at.
    pub records: usize,
}

/// Splits and checks a body.
///
/// # Errors
/// 400 with the reason.
pub fn check<'a>(body: &'a [u8], form: Form, limits: &Limits) -> Result<Checked<'a>, Refused> {
    let pieces = split(body, form, limits.max_batch_records).map_err(unsplittable)?;
    let records = pieces.len();
    let read = read_all(pieces);
    let refused = |failure| Refused { failure, records };
    let kind = match read.accepted.first() {
        Some((_, first)) => first.kind,
        None => return Err(refused(all_rejected(&read))),
    };
    let attachments = check_rules(&read.accepted, limits).map_err(refused)?;
    let Read { accepted, rejected, total_errors, errors } = read;
    Ok(Checked { accepted, rejected, total_errors, errors, kind, attachments })
}

struct Read<'a> {
    accepted: Vec<(u32, Record<'a>)>,
    rejected: Vec<Rejected<'a>>,
    total_errors: u32,
    errors: Vec<RecordError>,
}

fn read_all(pieces: Vec<Piece<'_>>) -> Read<'_> {
    let mut read =
        Read { accepted: Vec::with_capacity(pieces.len()), rejected: Vec::new(), total_errors: 0, errors: Vec::new() };
    let mut left = MAX_BATCH_KEPT_ERRORS;
    for (index, piece) in (0u32..).zip(pieces) {
        match record::parse(piece.text) {
            Ok(record) => read.accepted.push((index, record)),
            Err(mut errors) => {
                let count = errors.iter().fold(0u32, |sum, error| sum.saturating_add(error.count));
                read.total_errors = read.total_errors.saturating_add(count);
                let room = MAX_SHOWN_ERRORS - read.errors.len();
                read.errors.extend(errors.iter().take(room).map(|error| shown(index, piece.line, error)));
                errors.truncate(MAX_KEPT_ERRORS.min(left).max(1));
                errors.shrink_to_fit();
                left = left.saturating_sub(errors.len());
                read.rejected.push(Rejected { index, piece, errors });
            }
        }
    }
    read
}

/// An error as the sender sees it: with the line, which is easier to find than the index.
fn shown(index: u32, line: Option<u32>, error: &FieldError) -> RecordError {
    let line = line.map(|line| format!(" (line {line})")).unwrap_or_default();
    let room = MAX_MESSAGE_CHARS - line.len();
    let mut message: String = error.message.chars().take(room).collect();
    message.push_str(&line);
    RecordError { index, code: error.code.as_str().to_owned(), message }
}

/// The rules about good records together; gives the number of their attachments.
fn check_rules(accepted: &[(u32, Record<'_>)], limits: &Limits) -> Result<u32, Failure> {
    let Some(((_, first), others)) = accepted.split_first() else { return Ok(0) };
    let (mut kind, mut product) = (None, None);
    for (index, record) in others {
        if record.kind != first.kind {
            kind.get_or_insert((index, record));
        }
        if record.product_id != first.product_id {
            product.get_or_insert((index, record));
        }
    }
    if let Some((index, record)) = kind {
        let (is, was) = (record.kind.as_str(), first.kind.as_str());
        return Err(mixed("MIXED_TYPES", "_type", *index, is, was));
    }
    if let Some((index, record)) = product {
        return Err(mixed("MIXED_PRODUCTS", "_product_id", *index, &record.product_id, &first.product_id));
    }
    let attachments = accepted.iter().map(|(_, record)| record.attachments.len()).sum::<usize>();
    if attachments > limits.max_batch_attachments {
        let most = limits.max_batch_attachments;
        let message =
            format!("the batch has {attachments} attachments, it may have {most}: send it as several batches");
        return Err(Failure::bad_request("TOO_MANY_ATTACHMENTS", message));
    }
    Ok(u32::try_from(attachments).unwrap_or(u32::MAX))
}

fn mixed(code: &'static str, field: &str, index: u32, is: &str, was: &str) -> Failure {
    let message = format!(
        "all records of a batch must have the same {field}: record {index} has {is:?}, those before have {was:?}; send \
         one batch for each {field}"
    );
    Failure::bad_request(code, message)
}

fn all_rejected(read: &Read<'_>) -> Failure {
    let message = "every record of the batch was rejected, nothing was stored: see details.errors";
    let mut failure = Failure::bad_request("ALL_RECORDS_REJECTED", message);
    failure.details = Some(json!({ "errors": read.errors, "totalErrorCount": read.total_errors }));
    failure
}

fn unsplittable(error: SplitError) -> Refused {
    let code = match error {
        SplitError::Empty => "EMPTY_BATCH",
        SplitError::TooMany(_) => "TOO_MANY_RECORDS",
        SplitError::Syntax { .. } => "INVALID_JSON",
    };
    Refused { failure: Failure::bad_request(code, error.to_string()), records: 0 }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
