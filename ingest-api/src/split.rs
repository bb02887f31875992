//! A body → the texts of its records, in one pass, without a tree and without copying.
//!
//! Only the structure around the records is checked here: where one ends and the next begins. Whether a record is JSON
//! at all is for `schemas::record::parse`, so that a bad record costs its neighbours nothing, in an array as little as
//! in NDJSON. Bytes are compared with ASCII only, so invalid UTF-8 inside a record cannot confuse the splitting.

use memchr::{memchr, memchr2};

/// How the records of a body are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One record, an array of them, or `{"records": […]}`.
    Json,
    /// One record per line; blank lines and `\r\n` allowed.
    Ndjson,
}

/// The text of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its bytes, without surrounding white space.
    pub text: &'a [u8],
    /// Line of the body, from 1, for NDJSON.
    pub line: Option<u32>,
}

/// Why a body is not a sequence of records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// No record in it.
    #[error("the body holds no record")]
    Empty,
    /// More records than a batch may have.
    #[error("the body holds more than {0} records: send them as several batches")]
    TooMany(usize),
    /// Not the JSON that was promised.
    #[error("byte {at} of the body: {reason}")]
    Syntax {
        /// Where, from 0.
        at: usize,
        /// What was expected.
        reason: &'static str,
    },
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Splits a body into at most `max` records. A byte order mark before the first one is skipped.
///
/// # Errors
/// [`SplitError`]; no more than `max` records are ever looked at.
pub fn split(body: &[u8], form: Form, max: usize) -> Result<Vec<Piece<'_>>, SplitError> {
    let start = if body.starts_with(BOM) { BOM.len() } else { 0 };
    let pieces = match form {
        Form::Ndjson => lines(&body[start..], max)?,
        Form::Json => json(body, start, max)?,
    };
    if pieces.is_empty() { Err(SplitError::Empty) } else { Ok(pieces) }
}

fn lines(body: &[u8], max: usize) -> Result<Vec<Piece<'_>>, SplitError> {
    let mut pieces = Vec::new();
    let mut rest = body;
    let mut line = 0u32;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        line = line.saturating_add(1);
        let text = trim(&rest[..end]);
        if !text.is_empty() {
            if pieces.len() == max {
                return Err(SplitError::TooMany(max));
            }
            pieces.push(Piece { text, line: Some(line) });
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    Ok(pieces)
}

fn json(body: &[u8], start: usize, max: usize) -> Result<Vec<Piece<'_>>, SplitError> {
    let mut cursor = Cursor { body, at: start };
    cursor.skip_white();
    let pieces = match cursor.peek() {
        None => return Err(SplitError::Empty),
        Some(b'[') => cursor.array(max)?,
        Some(b'{') => match cursor.wrapper()? {
            Some(inside) => {
                cursor.at = inside;
                let pieces = cursor.array(max)?;
                cursor.skip_white();
                cursor.expect(b'}', "expected '}': beside \"records\" there is no other member")?;
                pieces
            }
            None => vec![Piece { text: cursor.value("expected a record")?, line: None }],
        },
        Some(_) => return Err(cursor.error("expected a record, an array of records, or {\"records\": […]}")),
    };
    cursor.skip_white();
    match cursor.peek() {
        None => Ok(pieces),
        Some(_) => Err(cursor.error("expected the end (records on lines of their own are application/x-ndjson)")),
    }
}

/// A place in a JSON text.
#[derive(Clone)]
struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    fn error(&self, reason: &'static str) -> SplitError {
        SplitError::Syntax { at: self.at, reason }
    }

    fn skip_white(&mut self) {
        self.at += self.rest().iter().take_while(|byte| is_white(**byte)).count();
    }

    fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), SplitError> {
        if self.peek() != Some(byte) {
            return Err(self.error(reason));
        }
        self.at += 1;
        Ok(())
    }

    /// At an object: where its array begins if its first member is called `records`. Does not move.
    fn wrapper(&self) -> Result<Option<usize>, SplitError> {
        let mut ahead = self.clone();
        ahead.at += 1;
        ahead.skip_white();
        if ahead.peek() != Some(b'"') {
            return Ok(None);
        }
        let begin = ahead.at;
        ahead.string()?;
        // Read as JSON, since the name may be written with escapes.
        let name = serde_json::from_slice::<String>(&self.body[begin..ahead.at]);
        if name.as_deref().ok() != Some("records") {
            return Ok(None);
        }
        ahead.skip_white();
        ahead.expect(b':', "expected ':' after \"records\"")?;
        ahead.skip_white();
        if ahead.peek() == Some(b'[') { Ok(Some(ahead.at)) } else { Err(ahead.error("\"records\" must be an array")) }
    }

    /// Reads an array, from `[` to behind `]`.
    fn array(&mut self, max: usize) -> Result<Vec<Piece<'a>>, SplitError> {
        let mut pieces = Vec::new();
        self.expect(b'[', "expected an array")?;
        self.skip_white();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(pieces);
        }
        loop {
            self.skip_white();
            if pieces.len() == max {
                return Err(SplitError::TooMany(max));
            }
            pieces.push(Piece { text: self.value("expected a record")?, line: None });
            self.skip_white();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(pieces);
                }
                _ => return Err(self.error("expected ',' or ']' (the body ends too early?)")),
            }
        }
    }

    /// Reads up to the ',' or closing bracket that ends this value, passing over strings and nested brackets. Without
    /// recursion, so that no nesting is too deep.
    fn value(&mut self, reason: &'static str) -> Result<&'a [u8], SplitError> {
        let begin = self.at;
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b',' if depth == 0 => break,
                b'}' | b']' => match depth {
                    0 => break,
                    // The bracket that closes the value ends it.
                    1 => {
                        depth = 0;
                        self.at += 1;
                        break;
                    }
                    _ => depth -= 1,
                },
                _ => {}
            }
            self.at += 1;
        }
        let text = trim(&self.body[begin..self.at]);
        if depth > 0 {
            return Err(self.error("the body ends inside a record"));
        }
        if text.is_empty() { Err(self.error(reason)) } else { Ok(text) }
    }

    /// Passes over a string, from `"` to behind `"`.
    fn string(&mut self) -> Result<(), SplitError> {
        self.at += 1;
        loop {
            let Some(found) = memchr2(b'"', b'\\', self.rest()) else {
                self.at = self.body.len();
                return Err(self.error("the body ends inside a string"));
            };
            self.at += found + 1;
            if self.body[self.at - 1] == b'"' {
                return Ok(());
            }
            // Whatever is escaped, its first byte neither ends the string nor escapes.
            self.at += 1;
        }
    }
}

/// White space of JSON.
fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().take_while(|byte| is_white(**byte)).count();
    let text = &text[start..];
    let end = text.iter().rev().take_while(|byte| is_white(**byte)).count();
    &text[..text.len() - end]
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
