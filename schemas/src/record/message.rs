//! The words of a per-record error.

use super::shape::{Field, SCHEMA_VERSION, Shape, TYPES};
use super::{ErrorCode, FieldError, date};
use crate::limits::MAX_MESSAGE_CHARS;
use std::borrow::Cow;

/// Characters of a value, and of one step of a pointer, that a message shows.
const SHOWN_CHARS: usize = 80;

/// An error whose message starts with the pointer; that of the record itself is empty.
pub(super) fn error(code: ErrorCode, pointer: String, what: &str) -> FieldError {
    let message = if pointer.is_empty() { what.to_owned() } else { format!("{pointer}: {what}") };
    let message = cut(&message, MAX_MESSAGE_CHARS).into_owned();
    FieldError { code, pointer, message, count: 1 }
}

/// At most `max` code points of `text`, with `…` as the last of them when there were more.
pub(super) fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max || text.chars().nth(max).is_none() {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(max.saturating_sub(1)).collect();
    Cow::Owned(kept + "…")
}

/// One step of a JSON pointer (RFC 6901), cut like a value.
pub(super) fn step(name: &str) -> String {
    format!("/{}", cut(name, SHOWN_CHARS).replace('~', "~0").replace('/', "~1"))
}

/// What a value must be, in words.
pub(super) fn expected(shape: &Shape) -> String {
    match *shape {
        Shape::Type => format!("one of {} (in any letter case)", TYPES.join(", ")),
        Shape::Version => format!("\"{SCHEMA_VERSION}\""),
        Shape::EventAt => format!("a UTC date and time {} of the years 0001 to 9999", date::FORM),
        Shape::Text(max) => format!("a string of at most {max} characters"),
        Shape::Email(max) => format!("an e-mail address of at most {max} characters"),
        Shape::Uri(max) => format!("a URI of at most {max} characters"),
        Shape::OneOf(names) => format!("one of {}", names.join(", ")),
        Shape::Size => "an integer from 0 to 9223372036854775807".to_owned(),
        Shape::Ratio => "a number from 0 to 1".to_owned(),
        Shape::Bool => "true or false".to_owned(),
        Shape::TextMap => "an object with at least one entry, all of them strings".to_owned(),
        Shape::Data | Shape::Object(_) => "an object".to_owned(),
        Shape::Texts { min, max, chars } => format!("{} of strings of at most {chars} characters", array(min, max)),
        Shape::Objects { max, .. } => format!("{} of objects", array(0, max)),
    }
}

fn array(min: usize, max: Option<usize>) -> String {
    match (min, max) {
        (0, None) => "an array".to_owned(),
        (0, Some(max)) => format!("an array of at most {max} entries"),
        (min, None) => format!("an array of at least {min} entry"),
        (min, Some(max)) => format!("an array of {min} to {max} entries"),
    }
}

/// What came, in words: scalars as they were written, the rest by name.
pub(super) fn came(json: &str) -> Cow<'_, str> {
    match json.as_bytes().first() {
        Some(b'{') => Cow::Borrowed("an object"),
        Some(b'[') => Cow::Borrowed("an array"),
        Some(b'"') => quoted(json),
        Some(b'n') => Cow::Borrowed("null (leave it out instead)"),
        _ => cut(json, SHOWN_CHARS),
    }
}

fn quoted(json: &str) -> Cow<'_, str> {
    match cut(json, SHOWN_CHARS) {
        Cow::Borrowed(whole) => Cow::Borrowed(whole),
        Cow::Owned(start) => Cow::Owned(start + "\""),
    }
}

/// The fields that an object may have, for a sender who used another.
pub(super) fn known(fields: &[Field]) -> String {
    fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
}
