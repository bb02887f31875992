//! The thorough reader: every error of a record, in the order of the text. Walks the envelope's table
//! ([`super::shape`]) over slices of the text; no tree is built, and nothing recurses deeper than the table does.

use super::{
    ErrorCode, FieldError, check, date,
    message::{self, came, expected},
    shape::{ENVELOPE, Field, PROJECT_ID, PROJECT_IDS, SCHEMA_VERSION, Shape, TYPES},
};
use crate::limits::MAX_RECORD_ERRORS;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeSet, fmt};

/// The record's bytes as text.
pub(super) fn text(json: &[u8]) -> Result<&str, FieldError> {
    if json.starts_with(b"\xEF\xBB\xBF") {
        return Err(invalid_json("expected a JSON object, got a byte order mark at byte 0"));
    }
    std::str::from_utf8(json).map_err(|error| {
        let at = error.valid_up_to();
        let byte = json.get(at).copied().unwrap_or_default();
        invalid_json(&format!("expected UTF-8, got the byte 0x{byte:02X} at byte {at}"))
    })
}

/// Every error of a record that the fast reader rejected, with its reason in case that none is found here.
pub(super) fn errors(text: &str, rejected: &str) -> Vec<FieldError> {
    let record = match serde_json::from_str::<&RawValue>(text) {
        Ok(record) => record,
        Err(error) => return vec![invalid_json(&format!("expected a JSON object, got invalid JSON: {error}"))],
    };
    let mut walk = Walk::default();
    match record.get() {
        object if object.starts_with('{') => walk.object(ENVELOPE, record),
        "null" => walk.mismatch("a JSON object", "null"),
        other => walk.mismatch("a JSON object", &came(other)),
    }
    walk.finish(rejected)
}

fn invalid_json(what: &str) -> FieldError {
    message::error(ErrorCode::InvalidJson, String::new(), what)
}

#[derive(Default)]
struct Walk {
    /// Steps of the pointer to where the walk is.
    path: Vec<String>,
    errors: Vec<FieldError>,
    /// Errors past the most that are listed.
    unlisted: u32,
}

impl Walk {
    fn finish(mut self, rejected: &str) -> Vec<FieldError> {
        let record = |what: &str| message::error(ErrorCode::ValidationError, String::new(), what);
        if self.errors.is_empty() {
            self.errors.push(record(&format!("expected a valid record, got one that is not: {rejected}")));
        }
        if self.unlisted > 0 {
            let rest = self.unlisted;
            let sum = record(&format!("expected a valid record, got {rest} errors more than are listed"));
            self.errors.push(FieldError { count: rest, ..sum });
        }
        self.errors
    }

    fn mismatch(&mut self, expected: &str, got: &str) {
        if self.errors.len() < MAX_RECORD_ERRORS {
            let what = format!("expected {expected}, got {got}");
            self.errors.push(message::error(ErrorCode::ValidationError, self.path.concat(), &what));
        } else {
            self.unlisted = self.unlisted.saturating_add(1);
        }
    }

    fn at(&mut self, step: String, look: impl FnOnce(&mut Self)) {
        self.path.push(step);
        look(self);
        self.path.pop();
    }

    fn object(&mut self, fields: &'static [Field], object: &RawValue) {
        let mut seen = BTreeSet::new();
        self.members(object, |walk, name, value| {
            let first = seen.insert(name.to_string());
            let other_project = match &*name {
                PROJECT_ID => seen.contains(PROJECT_IDS),
                PROJECT_IDS => seen.contains(PROJECT_ID),
                _ => false,
            };
            match fields.iter().find(|field| field.name == name) {
                None => walk.mismatch(&format!("only the fields {}", message::known(fields)), "an unknown field"),
                Some(_) if !first => walk.mismatch("the field once", "it again"),
                Some(_) if other_project => walk.mismatch("either _project_id or _project_ids", "both"),
                Some(field) => walk.value(&field.shape, value),
            }
        });
        for field in fields.iter().filter(|field| field.required && !seen.contains(field.name)) {
            self.at(message::step(field.name), |walk| walk.mismatch(&expected(&field.shape), "nothing"));
        }
        let projects = fields.iter().filter(|field| [PROJECT_ID, PROJECT_IDS].contains(&field.name));
        if let Some(field) = projects.filter(|field| !seen.contains(field.name)).nth(1) {
            let either = format!("{}, or one in {PROJECT_ID}", expected(&field.shape));
            self.at(message::step(PROJECT_IDS), |walk| walk.mismatch(&either, "nothing"));
        }
    }

    fn value(&mut self, shape: &Shape, value: &RawValue) {
        let json = value.get();
        let kind = json.as_bytes().first().copied().unwrap_or_default();
        match (shape, kind) {
            (Shape::Object(fields), b'{') => self.object(fields, value),
            (Shape::Objects { max, fields }, b'[') => {
                self.array(shape, (0, *max), value, |walk, entry| walk.value(&Shape::Object(fields), entry));
            }
            (Shape::Texts { min, max, chars }, b'[') => {
                self.array(shape, (*min, *max), value, |walk, entry| walk.value(&Shape::Text(*chars), entry));
            }
            (Shape::TextMap, b'{') => self.text_map(shape, value),
            (Shape::Data, b'{') | (Shape::Bool, b't' | b'f') => {}
            (Shape::Size, _) if check::size(json).is_some() => {}
            (Shape::Ratio, _) if check::ratio(json).is_some() => {}
            (
                Shape::Type
                | Shape::Version
                | Shape::EventAt
                | Shape::Text(_)
                | Shape::Email(_)
                | Shape::Uri(_)
                | Shape::OneOf(_),
                b'"',
            ) => self.string(shape, json),
            _ => self.mismatch(&expected(shape), &came(json)),
        }
    }

    fn string(&mut self, shape: &Shape, json: &str) {
        let Some(text) = decoded(json) else {
            return self.mismatch(&expected(shape), "a string with an unpaired surrogate escape");
        };
        let long = |max: usize| !check::within(&text, max);
        let wrong = match *shape {
            Shape::Type => !TYPES.iter().any(|name| name.eq_ignore_ascii_case(&text)),
            Shape::Version => text != SCHEMA_VERSION,
            Shape::EventAt => match date::seconds(&text) {
                Ok(_) => false,
                Err(reason) => return self.mismatch(&expected(shape), &format!("{}: {reason}", came(json))),
            },
            Shape::Text(max) | Shape::Email(max) | Shape::Uri(max) if long(max) => {
                return self.mismatch(&expected(shape), &format!("{} characters", text.chars().count()));
            }
            Shape::Email(_) => !check::email(&text),
            Shape::Uri(_) => !check::uri(&text),
            Shape::OneOf(names) => check::one_of(names, &text).is_none(),
            _ => false,
        };
        if wrong {
            self.mismatch(&expected(shape), &came(json));
        }
    }

    fn text_map(&mut self, shape: &Shape, object: &RawValue) {
        let mut seen = BTreeSet::new();
        let mut any = false;
        self.members(object, |walk, name, value| {
            any = true;
            if !seen.insert(name.into_owned()) {
                walk.mismatch("the field once", "it again");
            } else if !value.get().starts_with('"') {
                walk.mismatch("a string", &came(value.get()));
            } else if decoded(value.get()).is_none() {
                walk.mismatch("a string", "one with an unpaired surrogate escape");
            }
        });
        if !any {
            self.mismatch(&expected(shape), "none");
        }
    }

    fn array(
        &mut self,
        shape: &Shape,
        (min, max): (usize, Option<usize>),
        array: &RawValue,
        mut look: impl FnMut(&mut Self, &RawValue),
    ) {
        let count = count(array);
        if count < min || max.is_some_and(|max| count > max) {
            self.mismatch(&expected(shape), &format!("{count} entries"));
        }
        let mut index = 0usize;
        let _ = each_entry(array, |entry| {
            self.at(format!("/{index}"), |walk| look(walk, entry));
            index += 1;
        });
    }

    /// Calls `look` at each member whose name is text.
    fn members<'j>(&mut self, object: &'j RawValue, mut look: impl FnMut(&mut Self, Cow<'j, str>, &'j RawValue)) {
        let _ = each_member(object, |name, value| match decoded(name.get()) {
            Some(name) => self.at(message::step(&name), |walk| look(walk, name, value)),
            None => self.at(message::step(name.get().trim_matches('"')), |walk| {
                walk.mismatch("a field name", "one with an unpaired surrogate escape");
            }),
        });
    }
}

/// The string that a JSON string stands for; `None` when it holds an unpaired surrogate.
fn decoded(json: &str) -> Option<Cow<'_, str>> {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str(json).ok().map(Cow::Owned),
    }
}

fn count(array: &RawValue) -> usize {
    let mut count = 0;
    let _ = each_entry(array, |_| count += 1);
    count
}

/// The entries of an array. Its syntax was checked before, so this cannot fail.
fn each_entry<'j>(array: &'j RawValue, look: impl FnMut(&'j RawValue)) -> serde_json::Result<()> {
    Each(look).deserialize(&mut serde_json::Deserializer::from_str(array.get()))
}

/// The members of an object, names as written. Its syntax was checked before, so this cannot fail.
fn each_member<'j>(object: &'j RawValue, look: impl FnMut(&'j RawValue, &'j RawValue)) -> serde_json::Result<()> {
    EachMember(look).deserialize(&mut serde_json::Deserializer::from_str(object.get()))
}

struct Each<F>(F);

impl<'de, F: FnMut(&'de RawValue)> DeserializeSeed<'de> for Each<F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Each<F> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(entry) = array.next_element()? {
            (self.0)(entry);
        }
        Ok(())
    }
}

struct EachMember<F>(F);

impl<'de, F: FnMut(&'de RawValue, &'de RawValue)> DeserializeSeed<'de> for EachMember<F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&'de RawValue, &'de RawValue)> Visitor<'de> for EachMember<F> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<(), A::Error> {
        while let Some((name, value)) = object.next_entry()? {
            (self.0)(name, value);
        }
        Ok(())
    }
}
