//! A stream of bytes → the JSON text of each record, one at a time, in bounded memory.
//!
//! Two forms: *lines* (NDJSON), where a broken line costs only itself; and *documents*: one record, an array, or
//! `{"records":[…]}`, however they are laid out, one after the other. A scanner that only knows strings and brackets
//! takes them apart; whether a record is good JSON is not its business.

use std::io::{self, BufRead, Cursor, Read};

/// How records stand in an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One per line.
    Lines,
    /// JSON documents.
    Documents,
}

/// Where a record was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line, or ordinal of the record in documents; from 1.
    pub at: u64,
    /// The record is longer than the limit; only its beginning was kept.
    pub cut: bool,
}

/// Why the rest of an input cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// The disk, or the compression.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// Not a JSON document, and there is no line to go on from.
    #[error("record {at}: {reason}")]
    Document {
        /// Ordinal of the record at or before which it happened.
        at: u64,
        /// What was expected and what came.
        reason: String,
    },
}

/// Takes records out of one input.
pub struct Splitter {
    reader: Box<dyn BufRead + Send>,
    form: Form,
    limit: usize,
    /// Lines or records seen.
    count: u64,
    level: Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// Between documents.
    Top,
    /// In an array; `wrapped` by `{"records": … }`; `after` an element, so that a comma must come.
    Array { wrapped: bool, after: bool },
}

impl Splitter {
    /// Looks at the first line that is not blank, unless the form is known. Records longer than `limit` bytes are cut.
    ///
    /// # Errors
    /// The first bytes cannot be read.
    pub fn open(mut reader: Box<dyn BufRead + Send>, form: Option<Form>, limit: usize) -> io::Result<Self> {
        let mut head = Vec::new();
        let form = loop {
            let before = head.len();
            let read = reader.by_ref().take(limit as u64 + 1).read_until(b'\n', &mut head)?;
            if before == 0 && head.starts_with("\u{feff}".as_bytes()) {
                head.drain(..3);
            }
            if let Some(form) = form {
                break form;
            }
            if read == 0 {
                break Form::Lines;
            }
            if !head.trim_ascii().is_empty() {
                break guess(head.trim_ascii());
            }
        };
        let reader = Box::new(Cursor::new(head).chain(reader));
        Ok(Self { reader, form, limit, count: 0, level: Level::Top })
    }

    /// How records stand here.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Reads the next record into `out` (cleared first); `None` at the end.
    ///
    /// # Errors
    /// The rest of the input cannot be read.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Option<Place>, SplitError> {
        out.clear();
        match self.form {
            Form::Lines => self.next_line(out),
            Form::Documents => self.next_element(out),
        }
    }

    fn next_line(&mut self, out: &mut Vec<u8>) -> Result<Option<Place>, SplitError> {
        loop {
            out.clear();
            let read = self.reader.by_ref().take(self.limit as u64 + 2).read_until(b'\n', out)?;
            if read == 0 {
                return Ok(None);
            }
            self.count += 1;
            if out.last() == Some(&b'\n') {
                out.pop();
            } else if out.len() > self.limit {
                self.reader.skip_until(b'\n')?;
            }
            if out.last() == Some(&b'\r') {
                out.pop();
            }
            let cut = out.len() > self.limit;
            if !out.trim_ascii().is_empty() {
                return Ok(Some(Place { at: self.count, cut }));
            }
        }
    }

    fn next_element(&mut self, out: &mut Vec<u8>) -> Result<Option<Place>, SplitError> {
        loop {
            let Some(byte) = self.peek_token()? else {
                return if self.level == Level::Top { Ok(None) } else { Err(self.broken("the array is not closed")) };
            };
            match (self.level, byte) {
                (Level::Top, b'[') => {
                    self.reader.consume(1);
                    self.level = Level::Array { wrapped: false, after: false };
                }
                (Level::Array { wrapped, .. }, b']') => {
                    self.reader.consume(1);
                    if wrapped {
                        self.close_wrapper()?;
                    }
                    self.level = Level::Top;
                }
                (Level::Array { wrapped, after: true }, b',') => {
                    self.reader.consume(1);
                    self.level = Level::Array { wrapped, after: false };
                }
                (Level::Array { after: true, .. }, _) => {
                    return Err(self.broken("expected `,` or `]` after a record"));
                }
                (_, b',' | b']' | b'}' | b':') => {
                    return Err(self.broken(&format!("expected a record, got `{}`", char::from(byte))));
                }
                (level, _) => {
                    if let Some(place) = self.scan(level, out)? {
                        return Ok(Some(place));
                    }
                }
            }
        }
    }

    /// Reads one value; `None` when it turned out to be the beginning of `{"records":[`.
    fn scan(&mut self, level: Level, out: &mut Vec<u8>) -> Result<Option<Place>, SplitError> {
        let mut value = Value::default();
        self.count += 1;
        loop {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                // A bare number or word may end with the input; anything else is cut off.
                if value.is_bare() {
                    break;
                }
                return Err(self.broken("the input ends in the middle of a record"));
            }
            let mut used = 0;
            let mut step = Step::Inside;
            for &byte in available {
                step = value.step(byte);
                if step == Step::Before {
                    break;
                }
                used += 1;
                if out.len() <= self.limit {
                    out.push(byte);
                }
                if step == Step::Opens && level == Level::Top && opens_wrapper(out) {
                    break;
                }
                if step == Step::Last {
                    break;
                }
                step = Step::Inside;
            }
            self.reader.consume(used);
            match step {
                Step::Opens => {
                    out.clear();
                    self.count -= 1;
                    self.level = Level::Array { wrapped: true, after: false };
                    return Ok(None);
                }
                Step::Last | Step::Before => break,
                Step::Inside => {}
            }
        }
        if let Level::Array { wrapped, .. } = level {
            self.level = Level::Array { wrapped, after: true };
        }
        Ok(Some(Place { at: self.count, cut: out.len() > self.limit }))
    }

    fn close_wrapper(&mut self) -> Result<(), SplitError> {
        match self.peek_token()? {
            Some(b'}') => {
                self.reader.consume(1);
                Ok(())
            }
            Some(_) => Err(self.broken("`{\"records\":[…]}` has no other member")),
            None => Err(self.broken("`{\"records\":[…]}` is not closed")),
        }
    }

    /// The next byte that is not white space, not consumed.
    fn peek_token(&mut self) -> io::Result<Option<u8>> {
        loop {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                return Ok(None);
            }
            match available.iter().position(|byte| !byte.is_ascii_whitespace()) {
                Some(at) => {
                    let byte = available[at];
                    self.reader.consume(at);
                    return Ok(Some(byte));
                }
                None => {
                    let all = available.len();
                    self.reader.consume(all);
                }
            }
        }
    }

    fn broken(&self, reason: &str) -> SplitError {
        SplitError::Document { at: self.count, reason: reason.to_owned() }
    }
}

/// Where a byte stands in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It belongs to the value, which goes on.
    Inside,
    /// It is a `[` directly in the outermost object.
    Opens,
    /// It is the value's last.
    Last,
    /// It belongs to what follows.
    Before,
}

/// The state of a scan through one JSON value.
#[derive(Debug, Default)]
struct Value {
    depth: usize,
    started: bool,
    in_string: bool,
    escaped: bool,
}

impl Value {
    fn is_bare(&self) -> bool {
        self.started && self.depth == 0 && !self.in_string
    }

    fn step(&mut self, byte: u8) -> Step {
        if self.in_string {
            return self.step_in_string(byte);
        }
        if self.is_bare() && (byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}')) {
            return Step::Before;
        }
        self.started = true;
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth += 1;
                if byte == b'[' && self.depth == 2 {
                    return Step::Opens;
                }
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    return Step::Last;
                }
            }
            _ => {}
        }
        Step::Inside
    }

    fn step_in_string(&mut self, byte: u8) -> Step {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            if self.depth == 0 {
                return Step::Last;
            }
        }
        Step::Inside
    }
}

/// True for `{"records":[` with white space anywhere between its tokens.
fn opens_wrapper(text: &[u8]) -> bool {
    let mut rest = text;
    for token in [&b"{"[..], b"\"records\"", b":", b"["] {
        let Some(after) = rest.trim_ascii_start().strip_prefix(token) else { return false };
        rest = after;
    }
    true
}

/// From the first line that is not blank. A line that is a whole JSON object means lines; one that ends in the middle
/// of a value means a document laid out over several lines.
fn guess(line: &[u8]) -> Form {
    let wrapper = line.iter().position(|byte| *byte == b'[').is_some_and(|at| opens_wrapper(&line[..=at]));
    if line.starts_with(b"[") || wrapper {
        return Form::Documents;
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(line) {
        Err(error) if error.is_eof() => Form::Documents,
        _ => Form::Lines,
    }
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
