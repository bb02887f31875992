//! One partition as everyone but the writer sees it: its segments and its watermarks.

use super::{
    recovery::Place,
    segment::{Cursor, Segment},
};
use crate::log::{FetchLimit, LogError, Message, Topic, Watermarks};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// A partition; shared by the writer, which alone changes it, and its readers.
#[derive(Debug)]
pub struct Partition {
    /// Which topic.
    pub topic: Topic,
    /// Which partition of it.
    pub number: u32,
    /// In order, never empty; the last one is being written.
    segments: RwLock<Vec<Arc<Segment>>>,
    high: watch::Sender<i64>,
}

impl Partition {
    /// A partition of `segments`, which are in order; the last one is being written.
    pub fn new(topic: Topic, number: u32, segments: Vec<Arc<Segment>>) -> Self {
        let high = segments.last().map_or(0, |segment| segment.end().offset);
        Self { topic, number, segments: RwLock::new(segments), high: watch::Sender::new(high) }
    }

    /// What it holds now.
    pub fn watermarks(&self) -> Watermarks {
        let high = *self.high.borrow();
        Watermarks { low: self.low(), high }
    }

    /// Tells when the high watermark moves.
    pub fn high(&self) -> watch::Receiver<i64> {
        self.high.subscribe()
    }

    /// Lets readers see everything up to `end` of the last segment, which is durable now.
    pub fn publish(&self, end: Place, places: &[Place]) {
        let last = self.read(|segments| segments.last().cloned());
        if let Some(segment) = last {
            segment.publish(end, places);
            self.high.send_replace(end.offset);
        }
    }

    /// Adds a segment, which is written from now on.
    pub fn push(&self, segment: Arc<Segment>) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment);
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.read(|segments| segments.to_vec())
    }

    /// Forgets the segments before offset `low`.
    pub fn forget_below(&self, low: i64) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.retain(|segment| segment.header.base >= low);
    }

    /// Reads from `offset` on, or from the low watermark when that is behind it; goes on at `cursor` when that is the
    /// place. The messages, and a cursor behind them. Blocks.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when stored bytes are not what was written.
    pub fn read_from(
        &self,
        offset: i64,
        cursor: Option<Cursor>,
        limit: FetchLimit,
    ) -> Result<(Vec<Message>, Option<Cursor>), LogError> {
        let mut cursor = cursor.filter(|cursor| cursor.place.offset == offset);
        loop {
            let at_end = |cursor: &Cursor| cursor.place.offset >= cursor.segment.end().offset;
            let mut here = match cursor.take().filter(|cursor| !at_end(cursor)) {
                Some(cursor) => cursor,
                None => match self.find(offset)? {
                    Some(cursor) => cursor,
                    None => return Ok((Vec::new(), None)),
                },
            };
            let messages = here.read(limit)?;
            if !messages.is_empty() || here.place.offset >= *self.high.borrow() {
                return Ok((messages, Some(here)));
            }
        }
    }

    /// A cursor before message `offset`, or the first one kept when that is behind it; none at or past the end.
    fn find(&self, offset: i64) -> Result<Option<Cursor>, LogError> {
        loop {
            let low = self.low();
            let offset = offset.max(low);
            if offset >= *self.high.borrow() {
                return Ok(None);
            }
            let segment = self.read(|segments| {
                let behind = segments.partition_point(|segment| segment.header.base <= offset);
                behind.checked_sub(1).map(|at| segments[at].clone())
            });
            let Some(segment) = segment else { continue };
            match segment.cursor(offset) {
                // Retention was quicker: look again.
                Err(_) if self.low() > low => {}
                found => return found.map(Some),
            }
        }
    }

    fn low(&self) -> i64 {
        self.read(|segments| segments.first().map_or(0, |segment| segment.header.base))
    }

    fn read<T>(&self, look: impl FnOnce(&[Arc<Segment>]) -> T) -> T {
        look(&self.segments.read().unwrap_or_else(PoisonError::into_inner))
    }
}
