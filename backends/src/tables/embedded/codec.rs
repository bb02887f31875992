//! Bytes of keys and rows.
//!
//! A key is a sequence of parts, each of which says where it ends: a text carries its length, a number has a fixed
//! width, only the last part may be bare. So two different sequences of parts never give the same key, and all keys
//! that begin with the same parts lie together. A row is a format version (one byte) and its JSON; `fjall` keeps a
//! checksum over every block of rows.

use crate::tables::TablesError;
use serde::{Serialize, de::DeserializeOwned};

/// The only format of rows so far.
const ROW_FORMAT: u8 = 1;
/// `fjall` takes keys up to this length.
const MAX_KEY_BYTES: usize = u16::MAX as usize;

/// Builds a key part by part.
#[derive(Default)]
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A text that other parts follow: its length, then its bytes.
    pub(super) fn text(mut self, text: &str) -> Self {
        // A text too long for four bytes of length is too long for a key; `done` refuses it.
        self.0.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A number that sorts as it counts, negative ones first.
    pub(super) fn time(mut self, time: i64) -> Self {
        self.0.extend_from_slice(&(time.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        self
    }

    /// A number that sorts as it counts.
    pub(super) fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// The last part, bare: keys then sort by it.
    pub(super) fn last(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The key, or the reason why it cannot be one.
    pub(super) fn done(self) -> Result<Vec<u8>, TablesError> {
        if self.0.len() > MAX_KEY_BYTES {
            return Err(TablesError::Halted(format!(
                "a key of {} bytes cannot be stored: its texts may have {MAX_KEY_BYTES} bytes together",
                self.0.len()
            )));
        }
        Ok(self.0)
    }
}

/// Reads a key back, part by part, in the order in which it was built.
pub(super) struct Parts<'a>(Fields<'a>);

impl<'a> Parts<'a> {
    pub(super) fn of(key: &'a [u8]) -> Self {
        Self(Fields::of(key, "key"))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, TablesError> {
        let length = u32::from_be_bytes(self.0.take()?);
        let cut = || damaged("key", "it is cut");
        let (text, rest) = self.0.bytes.split_at_checked(length as usize).ok_or_else(cut)?;
        self.0.bytes = rest;
        std::str::from_utf8(text).map_err(|error| damaged("key", &error))
    }

    pub(super) fn time(&mut self) -> Result<i64, TablesError> {
        Ok((u64::from_be_bytes(self.0.take()?) ^ (1 << 63)).cast_signed())
    }

    pub(super) fn number(&mut self) -> Result<u32, TablesError> {
        Ok(u32::from_be_bytes(self.0.take()?))
    }

    pub(super) fn last_text(self) -> Result<&'a str, TablesError> {
        std::str::from_utf8(self.0.rest()).map_err(|error| damaged("key", &error))
    }
}

/// Reads a binary row field by field.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    /// `what` names the row in errors.
    pub(super) fn of(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, what }
    }

    /// The first byte, which must be the format known here.
    pub(super) fn format(&mut self, known: u8) -> Result<(), TablesError> {
        let [format] = self.take()?;
        if format == known { Ok(()) } else { Err(newer(self.what, format)) }
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], TablesError> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(|| damaged(self.what, "it is cut"))?;
        self.bytes = rest;
        Ok(*head)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.bytes
    }
}

/// A row's bytes.
pub(super) fn encode(row: &impl Serialize) -> Result<Vec<u8>, TablesError> {
    let mut bytes = vec![ROW_FORMAT];
    serde_json::to_writer(&mut bytes, row)
        .map_err(|error| TablesError::Halted(format!("cannot store a row: {error}")))?;
    Ok(bytes)
}

/// Reads a row back; `what` names it in errors.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, TablesError> {
    match bytes.split_first() {
        Some((&ROW_FORMAT, json)) => serde_json::from_slice(json).map_err(|error| damaged(what, &error)),
        Some((&format, _)) => Err(newer(what, format)),
        None => Err(damaged(what, "it is empty")),
    }
}

fn newer(what: &str, format: u8) -> TablesError {
    TablesError::Halted(format!(
        "a stored {what} has format {format}: it was written by a newer version, so run that one"
    ))
}

/// The error of stored bytes that are not what was written.
pub(super) fn damaged(what: &str, why: &(impl std::fmt::Display + ?Sized)) -> TablesError {
    TablesError::Halted(format!("a stored {what} is damaged: {why}; restore the data directory from a backup"))
}
