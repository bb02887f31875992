//! Frames of the topic, a page at a time: all of them, or what lies at some places.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};
use tributary_backends::log::{FetchLimit, LogError, Message, RecordLog, Topic};
use tributary_schemas::frame::{DeadLetter, Frame, Meaning, SchemaIds, wire_id};

/// How much is read at a time.
const PAGE: FetchLimit = FetchLimit { max_bytes: 4 << 20, max_messages: 1_000, max_wait: Duration::from_secs(10) };
/// So many ids are asked for at a time: of garbage each frame may seem to have one of its own.
pub(super) const MOST_UNKNOWN: usize = 100;

/// Partition and offset of a frame in `dead-letters`.
pub(super) type Place = (u32, i64);

/// A walk through the topic, from a position in each partition to the end that it has when the walk comes to it.
pub(super) struct Walk<'l> {
    log: &'l dyn RecordLog,
    ids: Arc<dyn SchemaIds>,
    /// Where to go on, by partition: behind what was given out.
    pub(super) positions: Vec<i64>,
    /// Below which offset each partition keeps nothing, as far as the walk has come.
    pub(super) lows: Vec<i64>,
    /// What is left of the partition whose low offset is the last.
    left: Option<Range<i64>>,
}

impl<'l> Walk<'l> {
    pub(super) fn new(log: &'l dyn RecordLog) -> Self {
        Self::from(log, Vec::new())
    }

    pub(super) fn from(log: &'l dyn RecordLog, mut positions: Vec<i64>) -> Self {
        positions.resize(log.partitions(Topic::DeadLetters) as usize, 0);
        Self { log, ids: log.schema_ids(), positions, lows: Vec::new(), left: None }
    }

    /// The next frames, in the order of partitions and offsets; none at the end. What is no such frame is passed over.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<(Place, DeadLetter)>>, LogError> {
        loop {
            let Some(left) = &mut self.left else {
                let Some(&position) = self.positions.get(self.lows.len()) else { return Ok(None) };
                let held = self.log.watermarks(Topic::DeadLetters, self.lows.len() as u32).await?;
                self.lows.push(held.low);
                let from = held.low.max(position);
                self.left = Some(from..held.high.max(from));
                self.positions[self.lows.len() - 1] = from;
                continue;
            };
            let partition = self.lows.len().saturating_sub(1) as u32;
            if left.is_empty() {
                self.left = None;
                continue;
            }
            let messages = page(self.log, &*self.ids, partition, left.clone()).await?;
            left.start = messages.last().map_or(left.end, |last| last.offset + 1);
            if let Some(position) = self.positions.get_mut(partition as usize) {
                *position = left.start;
            }
            let frames = frames(partition, messages, &*self.ids);
            if !frames.is_empty() {
                return Ok(Some(frames));
            }
        }
    }
}

/// What lies at some places, in their order. What the log has dropped by now is passed over.
pub(super) struct Places<'l> {
    log: &'l dyn RecordLog,
    ids: Arc<dyn SchemaIds>,
    places: Vec<Place>,
    /// So many of them are behind us.
    done: usize,
}

impl<'l> Places<'l> {
    pub(super) fn new(log: &'l dyn RecordLog, places: impl IntoIterator<Item = Place>) -> Self {
        let mut places = Vec::from_iter(places);
        places.sort_unstable();
        Self { log, ids: log.schema_ids(), places, done: 0 }
    }

    /// The next frames; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<(Place, DeadLetter)>>, LogError> {
        loop {
            let left = self.places.get(self.done..).unwrap_or_default();
            let Some(&(partition, start)) = left.first() else { return Ok(None) };
            // Whatever lies closer together than a page is read at once.
            let reach = (partition, start.saturating_add(PAGE.max_messages as i64));
            let near = left.iter().take_while(|place| **place < reach).last();
            let end = near.map_or(start, |near| near.1).saturating_add(1);
            let mut messages = page(self.log, &*self.ids, partition, start..end).await?;
            let past = (partition, messages.last().map_or(end, |last| last.offset + 1));
            let (sought, _) = left.split_at(left.partition_point(|place| *place < past));
            self.done += sought.len();
            messages.retain(|message| sought.binary_search(&(partition, message.offset)).is_ok());
            let frames = frames(partition, messages, &*self.ids);
            if !frames.is_empty() {
                return Ok(Some(frames));
            }
        }
    }
}

/// Messages of a range of offsets, once the log knows their schemas; none when nothing that can be read is left of it.
async fn page(
    log: &dyn RecordLog,
    ids: &dyn SchemaIds,
    partition: u32,
    range: Range<i64>,
) -> Result<Vec<Message>, LogError> {
    let asked = Instant::now();
    let most = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let limit = FetchLimit { max_messages: PAGE.max_messages.min(most), ..PAGE };
    let found = log.look(Topic::DeadLetters, &[(partition, range.start)], limit).await?;
    let messages: Vec<_> = found.into_iter().flatten().filter(|message| message.offset < range.end).collect();
    if messages.is_empty() && asked.elapsed() >= PAGE.max_wait {
        return Err(LogError::Unavailable("it does not answer in time".to_owned()));
    }
    let unknown = messages.iter().filter_map(|message| unknown_id(&message.value, ids));
    let unknown: BTreeSet<_> = unknown.take(MOST_UNKNOWN).collect();
    if !unknown.is_empty() {
        log.learn_schemas(&Vec::from_iter(unknown)).await?;
    }
    Ok(messages)
}

/// What of messages is a frame of the topic.
fn frames(partition: u32, messages: Vec<Message>, ids: &dyn SchemaIds) -> Vec<(Place, DeadLetter)> {
    let frame = |message: Message| {
        let frame = DeadLetter::decode_as(&message.value, ids).ok()?;
        Some(((partition, message.offset), frame))
    };
    messages.into_iter().filter_map(frame).collect()
}

/// The schema id of a frame, if this process does not know what it means.
pub(super) fn unknown_id(frame: &[u8], ids: &dyn SchemaIds) -> Option<u32> {
    wire_id(frame).filter(|id| ids.meaning(*id) == Meaning::Nothing)
}
