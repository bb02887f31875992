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
use std::borrow::Cow;
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

/// What is known of a body once its records have been told apart.
#[derive(Debug)]
pub struct Checked<'a> {
    /// How many records are good, at least one.
    pub accepted: u32,
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

/// Splits and checks a body. Every good record is handed to `each` with its place in the body as soon as it is read,
/// while its text is still in the processor's cache; it counts for nothing if the batch is refused in the end.
///
/// # Errors
/// 400 with the reason.
pub fn check<'a>(
    body: &'a [u8],
    form: Form,
    limits: &Limits,
    mut each: impl FnMut(u32, Record<'a>),
) -> Result<Checked<'a>, Refused> {
    let pieces = split(body, form, limits.max_batch_records).map_err(unsplittable)?;
    let records = pieces.len();
    let mut bad = Bad { records: Vec::new(), total_errors: 0, errors: Vec::new(), room: MAX_BATCH_KEPT_ERRORS };
    let mut good = Good::default();
    for (index, piece) in (0u32..).zip(pieces) {
        match record::parse(piece.text) {
            Ok(record) => {
                good.add(index, &record);
                each(index, record);
            }
            Err(errors) => bad.add(index, piece, errors),
        }
    }
    let refused = |failure| Refused { failure, records };
    let Some((kind, _)) = good.first else { return Err(refused(all_rejected(&bad))) };
    let attachments = good.attachments(limits).map_err(refused)?;
    let Bad { records: rejected, total_errors, errors, .. } = bad;
    Ok(Checked { accepted: good.count, rejected, total_errors, errors, kind, attachments })
}

/// The bad records of a body so far.
struct Bad<'a> {
    records: Vec<Rejected<'a>>,
    total_errors: u32,
    errors: Vec<RecordError>,
    /// How many more errors are kept beyond the first of each record.
    room: usize,
}

impl<'a> Bad<'a> {
    fn add(&mut self, index: u32, piece: Piece<'a>, mut errors: Vec<FieldError>) {
        let count = errors.iter().fold(0u32, |sum, error| sum.saturating_add(error.count));
        self.total_errors = self.total_errors.saturating_add(count);
        let shown_room = MAX_SHOWN_ERRORS - self.errors.len();
        self.errors.extend(errors.iter().take(shown_room).map(|error| shown(index, piece.line, error)));
        errors.truncate(MAX_KEPT_ERRORS.min(self.room).max(1));
        errors.shrink_to_fit();
        self.room = self.room.saturating_sub(errors.len());
        self.records.push(Rejected { index, piece, errors });
    }
}

/// An error as the sender sees it: with the line, which is easier to find than the index.
fn shown(index: u32, line: Option<u32>, error: &FieldError) -> RecordError {
    let line = line.map(|line| format!(" (line {line})")).unwrap_or_default();
    let room = MAX_MESSAGE_CHARS - line.len();
    let mut message: String = error.message.chars().take(room).collect();
    message.push_str(&line);
    RecordError { index, code: error.code.as_str().to_owned(), message }
}

/// What the rules ask of the good records of a body so far.
#[derive(Default)]
struct Good<'a> {
    count: u32,
    attachments: usize,
    /// Type and product of the first.
    first: Option<(RecordType, Cow<'a, str>)>,
    /// The first with another type.
    other_kind: Option<(u32, RecordType)>,
    /// The first with another product.
    other_product: Option<(u32, String)>,
}

impl<'a> Good<'a> {
    fn add(&mut self, index: u32, record: &Record<'a>) {
        self.count += 1;
        self.attachments += record.attachments.len();
        let (kind, product) = self.first.get_or_insert_with(|| (record.kind, record.product_id.clone()));
        if record.kind != *kind {
            self.other_kind.get_or_insert((index, record.kind));
        }
        if record.product_id != *product {
            self.other_product.get_or_insert_with(|| (index, record.product_id.clone().into_owned()));
        }
    }

    /// Their number, when the records obey the rules.
    fn attachments(&self, limits: &Limits) -> Result<u32, Failure> {
        let Some((kind, product)) = &self.first else { return Ok(0) };
        if let Some((index, other)) = &self.other_kind {
            return Err(mixed("MIXED_TYPES", "_type", *index, other.as_str(), kind.as_str()));
        }
        if let Some((index, other)) = &self.other_product {
            return Err(mixed("MIXED_PRODUCTS", "_product_id", *index, other, product));
        }
        let (attachments, most) = (self.attachments, limits.max_batch_attachments);
        if attachments > most {
            let message =
                format!("the batch has {attachments} attachments, it may have {most}: send it as several batches");
            return Err(Failure::bad_request("TOO_MANY_ATTACHMENTS", message));
        }
        Ok(u32::try_from(attachments).unwrap_or(u32::MAX))
    }
}

fn mixed(code: &'static str, field: &str, index: u32, is: &str, was: &str) -> Failure {
    let message = format!(
        "all records of a batch must have the same {field}: record {index} has {is:?}, those before have {was:?}; send \
         one batch for each {field}"
    );
    Failure::bad_request(code, message)
}

fn all_rejected(bad: &Bad<'_>) -> Failure {
    let message = "every record of the batch was rejected, nothing was stored: see details.errors";
    let mut failure = Failure::bad_request("ALL_RECORDS_REJECTED", message);
    failure.details = Some(json!({ "errors": bad.errors, "totalErrorCount": bad.total_errors }));
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
