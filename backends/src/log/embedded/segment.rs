//! One segment file as readers see it: what is durable in it, its sparse index, and reading slices of it.

use super::{
    frame::{self, FILE_HEADER, FileHeader, Parsed},
    recovery::{Place, ReadAt, Step, Walk},
};
use crate::{
    log::{FetchLimit, LogError, Message},
    trace::TraceParent,
};
use bytes::Bytes;
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock},
};

/// Bytes between two entries of the sparse index.
const INDEX_STEP: u64 = 64 << 10;
/// A slice is at least this large, when there is so much.
const MIN_SLICE: usize = 64 << 10;
/// Bytes that a message is taken to have when a fetch is bounded by their number.
const USUAL_MESSAGE: usize = 4 << 10;

/// Adds `place` to a sparse index when it is far enough behind the last entry.
pub fn note(index: &mut Vec<Place>, place: Place) {
    if index.last().is_none_or(|last| place.at >= last.at + INDEX_STEP) {
        index.push(place);
    }
}

/// A segment file.
#[derive(Debug)]
pub struct Segment {
    /// Where it is.
    pub path: PathBuf,
    /// What it says about itself.
    pub header: FileHeader,
    /// Behind the last durable message.
    end: RwLock<Place>,
    index: Mutex<Vec<Place>>,
}

/// A reader's place in a segment; reading goes on there without a search.
#[derive(Debug)]
pub struct Cursor {
    /// Which segment.
    pub segment: std::sync::Arc<Segment>,
    file: File,
    /// Where in it.
    pub place: Place,
}

impl Segment {
    /// A segment that is durable up to `end`; `index` may be empty, it fills as it is used.
    pub fn new(path: PathBuf, header: FileHeader, end: Place, index: Vec<Place>) -> Self {
        Self { path, header, end: RwLock::new(end), index: Mutex::new(index) }
    }

    /// Reads the header of the segment in `path`, which must start at `base`.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when it is not what was written.
    pub fn read_header(path: &Path, base: i64) -> Result<FileHeader, LogError> {
        let file = File::open(path).map_err(|error| super::io_error("open", path, &error))?;
        let mut bytes = [0; FILE_HEADER];
        let read = ReadAt::read_at(&file, &mut bytes, 0).map_err(|error| super::io_error("read", path, &error))?;
        let header = FileHeader::decode(&bytes[..read]).map_err(|reason| super::corrupt(path, 0, reason))?;
        if header.base != base {
            return Err(super::corrupt(path, 8, "the segment's first offset is not the one in its name"));
        }
        Ok(header)
    }

    /// Behind the last durable message.
    pub fn end(&self) -> Place {
        *self.end.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets readers see messages up to `end`, which are durable now; `index` are places among them.
    pub fn publish(&self, end: Place, places: &[Place]) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        for place in places {
            note(&mut index, *place);
        }
        drop(index);
        *self.end.write().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// A cursor before message `offset`, which must be in the segment or just behind it. Blocks.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when a header on the way is not what was written.
    pub fn cursor(self: &std::sync::Arc<Self>, offset: i64) -> Result<Cursor, LogError> {
        let file = File::open(&self.path).map_err(|error| super::io_error("open", &self.path, &error))?;
        let place = self.locate(&file, offset)?;
        Ok(Cursor { segment: self.clone(), file, place })
    }

    /// Finds a message: from the nearest entry of the index on, header by header, adding entries on the way.
    fn locate(&self, file: &File, offset: i64) -> Result<Place, LogError> {
        let first = Place { offset: self.header.base, at: FILE_HEADER as u64 };
        let nearest = {
            let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
            let behind = index.partition_point(|place| place.offset <= offset);
            behind.checked_sub(1).map_or(first, |at| index[at])
        };
        let mut walk = Walk::new(file, self.header.salt, nearest, self.end().at, false);
        let mut passed = Vec::new();
        while walk.place().offset < offset {
            note(&mut passed, walk.place());
            match walk.step().map_err(|error| super::io_error("read", &self.path, &error))? {
                Step::Frame(_) => {}
                Step::End => return Err(self.ends_early(walk.place())),
                Step::Bad(reason) => return Err(super::corrupt(&self.path, walk.place().at, reason)),
            }
        }
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        for place in passed {
            // Another reader may have been here; only what is behind the last entry is news.
            note(&mut index, place);
        }
        Ok(walk.place())
    }

    fn ends_early(&self, place: Place) -> LogError {
        let reason = format!("the file ends before message {}, which is stored in it", place.offset);
        super::corrupt(&self.path, place.at, &reason)
    }
}

impl Cursor {
    /// The messages from the cursor on, at least one unless it is at the end, all slices of one buffer; the cursor
    /// moves behind them. Blocks.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when a message is not what was written; those before it are given first.
    pub fn read(&mut self, limit: FetchLimit) -> Result<Vec<Message>, LogError> {
        let end = self.segment.end();
        if self.place.offset >= end.offset {
            return Ok(Vec::new());
        }
        let by_number = limit.max_messages.saturating_mul(USUAL_MESSAGE);
        let mut wanted = limit.max_bytes.min(by_number).max(MIN_SLICE);
        loop {
            let slice = self.slice(end, wanted)?;
            let (messages, place, stop) = self.messages(&slice, end, limit);
            match stop {
                Some(Parsed::Bad(reason)) if messages.is_empty() => {
                    return Err(super::corrupt(&self.segment.path, place.at, reason));
                }
                Some(Parsed::Short(needs)) if messages.is_empty() => {
                    if self.place.at + needs as u64 > end.at || needs <= slice.len() {
                        return Err(self.segment.ends_early(place));
                    }
                    wanted = needs;
                }
                _ => {
                    self.place = place;
                    return Ok(messages);
                }
            }
        }
    }

    fn slice(&self, end: Place, wanted: usize) -> Result<Bytes, LogError> {
        let left = usize::try_from(end.at.saturating_sub(self.place.at)).unwrap_or(usize::MAX);
        let mut slice = vec![0; wanted.min(left)];
        let path = &self.segment.path;
        let read = ReadAt::read_at(&self.file, &mut slice, self.place.at)
            .map_err(|error| super::io_error("read", path, &error))?;
        slice.truncate(read);
        Ok(Bytes::from(slice))
    }

    fn messages(&self, slice: &Bytes, end: Place, limit: FetchLimit) -> (Vec<Message>, Place, Option<Parsed>) {
        let (mut messages, mut place, mut at, mut bytes) = (Vec::new(), self.place, 0, 0usize);
        while place.offset < end.offset && (messages.is_empty() || messages.len() < limit.max_messages) {
            let frame = match frame::parse(&slice[at..], self.segment.header.salt, place.offset, true) {
                Parsed::Frame(frame) => frame,
                stop => return (messages, place, Some(stop)),
            };
            bytes += frame.message_len();
            if !messages.is_empty() && bytes > limit.max_bytes {
                break;
            }
            let [trace, key, value] = frame.body(at);
            messages.push(Message {
                offset: frame.offset,
                appended_at: frame.appended_at,
                key: slice.slice(key),
                value: slice.slice(value),
                trace: TraceParent::read(&slice[trace]),
            });
            at += frame.frame_len();
            place = Place { offset: place.offset + 1, at: place.at + frame.frame_len() as u64 };
        }
        (messages, place, None)
    }
}
