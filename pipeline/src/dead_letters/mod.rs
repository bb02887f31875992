//! Dead letters, and what operators did about them.
//!
//! **The topic `dead-letters` is the whole story.** A letter is told by where its message was: (topic, partition, offset).
//! Whatever is done about it is one more frame in the same topic, of the same schema and with the same key, whose *stage*
//! is what was done (`replayed`, `discarded`), whose *reason* is why, and whose payload is JSON: who did it, and the offset
//! that the bytes have now. So there is nothing to keep in step with the topic, every tool that reads it reads the
//! audit trail, the number of distinct places in it stays the number of letters, and as the entry comes behind its letter
//! in the same partition no retention drops it before the letter.
//!
//! A letter with any such entry is *handled*, in whatever order the frames come: a crashed lane may put a copy of a letter
//! behind the entry.

mod examine;
mod handle;
mod ledger;
#[cfg(test)]
mod tests;

pub use examine::Contents;
pub use handle::{Fate, Handling, handle};
pub use ledger::Ledger;

use crate::trouble::Trouble;
use examine::Examiner;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};
use tributary_backends::log::{FetchLimit, LogError, Message, RecordLog, Topic};
use tributary_schemas::frame::{DeadLetter, Frame, Meaning, SchemaIds, wire_id};

/// How much is read at a time.
const PAGE: FetchLimit = FetchLimit { max_bytes: 4 << 20, max_messages: 1_000, max_wait: Duration::from_secs(10) };
/// So many ids are asked for at a time: of garbage each frame may seem to have one of its own.
const MOST_UNKNOWN: usize = 100;

/// Where the message was that became a letter: `records/2/17`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LetterId {
    /// Name of the topic; any text, for whoever can write to the log chose it.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: i64,
}

impl LetterId {
    fn of(letter: &DeadLetter) -> Self {
        Self { topic: letter.topic.clone(), partition: letter.partition, offset: letter.offset }
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.rsplitn(3, '/');
        let (offset, partition, topic) = (parts.next(), parts.next(), parts.next());
        let id = (|| {
            Some(Self { offset: offset?.parse().ok()?, partition: partition?.parse().ok()?, topic: topic?.to_owned() })
        })();
        id.ok_or_else(|| "a dead letter's id is TOPIC/PARTITION/OFFSET, such as records/0/17".to_owned())
    }
}

impl From<LetterId> for String {
    fn from(id: LetterId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for LetterId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What can be done about a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Deed {
    /// Its bytes went back to where they came from.
    Replayed,
    /// Nothing more will be done.
    Discarded,
}

impl Deed {
    /// As the stage of an entry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }

    fn of_stage(stage: &str) -> Option<Self> {
        [Self::Replayed, Self::Discarded].into_iter().find(|deed| deed.name() == stage)
    }
}

/// What was done about a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// What.
    pub deed: Deed,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in microseconds since the Unix epoch.
    pub at: i64,
    /// The offset that the replayed bytes have now.
    pub offset: Option<i64>,
}

/// The payload of an entry.
#[derive(Serialize, Deserialize)]
struct Signed {
    by: String,
    offset: Option<i64>,
}

impl Action {
    /// The entry about it. Only frames that are signed are entries: a stage of this name alone is none.
    fn of(frame: &DeadLetter) -> Option<Self> {
        let deed = Deed::of_stage(&frame.stage)?;
        let Signed { by, offset } = serde_json::from_slice(&frame.payload).ok()?;
        Some(Self { deed, by, reason: frame.reason.clone(), at: frame.at, offset })
    }

    fn entry(&self, letter: &DeadLetter) -> DeadLetter {
        let signed = Signed { by: self.by.clone(), offset: self.offset };
        DeadLetter {
            stage: self.deed.name().to_owned(),
            reason: self.reason.clone(),
            at: self.at,
            payload: serde_json::to_vec(&signed).unwrap_or_default(),
            ..letter.clone()
        }
    }
}

/// A letter, without its bytes.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Which one.
    pub id: LetterId,
    /// What failed.
    pub stage: String,
    /// And why.
    pub reason: String,
    /// When it was put aside, in microseconds since the Unix epoch.
    pub at: i64,
    /// Length of its payload, in bytes.
    pub bytes: usize,
    /// What the payload says, as far as it can be read now.
    pub contents: Contents,
    /// What was done about it, oldest first; nothing: it is open.
    pub actions: Vec<Action>,
    /// Partition and offset of its frame in `dead-letters`.
    place: (u32, i64),
}

/// All letters that are kept, in the order of their ids.
///
/// # Errors
/// The log does not answer, or not the registry that has its schemas.
pub async fn read(log: &dyn RecordLog) -> Result<Vec<Letter>, Trouble> {
    let (letters, unknown) = gather(log).await?;
    if unknown.is_empty() || !log.learn_schemas(&Vec::from_iter(unknown)).await? {
        return Ok(letters);
    }
    // The registry knows more now than when they were put aside, or than this process did.
    gather(log).await.map(|(letters, _)| letters)
}

/// All letters, and the schema ids in their payloads that mean nothing, as far as this process knows.
async fn gather(log: &dyn RecordLog) -> Result<(Vec<Letter>, BTreeSet<u32>), Trouble> {
    let (ids, mut unknown) = (log.schema_ids(), BTreeSet::new());
    let mut examiner = Examiner::new(ids.clone());
    let (mut letters, mut actions) = (BTreeMap::new(), BTreeMap::<LetterId, Vec<Action>>::new());
    let mut positions = Vec::new();
    scan(log, &mut positions, &mut |place, frame| {
        let id = LetterId::of(&frame);
        match Action::of(&frame) {
            Some(action) => actions.entry(id).or_default().push(action),
            None => {
                if unknown.len() < MOST_UNKNOWN {
                    unknown.extend(unknown_id(&frame.payload, &*ids));
                }
                letters.entry(id.clone()).or_insert_with(|| Letter {
                    id,
                    contents: examiner.examine(&frame),
                    bytes: frame.payload.len(),
                    stage: frame.stage,
                    reason: frame.reason,
                    at: frame.at,
                    actions: Vec::new(),
                    place,
                });
            }
        }
    })
    .await?;
    for (id, done) in actions {
        if let Some(letter) = letters.get_mut(&id) {
            letter.actions = done;
        }
    }
    Ok((letters.into_values().collect(), unknown))
}

/// The schema id of a frame, if this process does not know what it means.
fn unknown_id(frame: &[u8], ids: &dyn SchemaIds) -> Option<u32> {
    wire_id(frame).filter(|id| ids.meaning(*id) == Meaning::Nothing)
}

/// The letter as it lies in the topic.
///
/// # Errors
/// The log does not answer, or no longer keeps it.
pub async fn fetch(log: &dyn RecordLog, letter: &Letter) -> Result<DeadLetter, Trouble> {
    let one = FetchLimit { max_messages: 1, ..PAGE };
    let found = log.look(Topic::DeadLetters, &[letter.place], one).await?.into_iter().flatten().next();
    let found = found.filter(|message| message.offset == letter.place.1);
    let frame = found.and_then(|message| DeadLetter::decode_as(&message.value, &*log.schema_ids()).ok());
    frame.ok_or_else(|| Trouble::Retry(format!("the log does not show {} any more: list again", letter.id)))
}

/// Shows all frames of the topic from `positions` on, and moves these to the end; below which offset each partition keeps
/// nothing. What is no such frame is passed over.
async fn scan(
    log: &dyn RecordLog,
    positions: &mut Vec<i64>,
    visit: &mut (dyn FnMut((u32, i64), DeadLetter) + Send),
) -> Result<Vec<i64>, LogError> {
    let (ids, mut lows) = (log.schema_ids(), Vec::new());
    positions.resize(log.partitions(Topic::DeadLetters) as usize, 0);
    for (partition, position) in (0u32..).zip(positions) {
        let held = log.watermarks(Topic::DeadLetters, partition).await?;
        lows.push(held.low);
        *position = held.low.max(*position);
        let from = *position;
        each(log, (Topic::DeadLetters, partition), from..held.high, &mut |message| {
            if let Ok(frame) = DeadLetter::decode_as(&message.value, &*ids) {
                visit((partition, message.offset), frame);
            }
        })
        .await?;
        *position = held.high.max(from);
    }
    Ok(lows)
}

/// Shows every message of a range of offsets, once the log knows its schema.
async fn each(
    log: &dyn RecordLog,
    (topic, partition): (Topic, u32),
    range: std::ops::Range<i64>,
    visit: &mut (dyn FnMut(Message) + Send),
) -> Result<(), LogError> {
    let (ids, mut from) = (log.schema_ids(), range.start);
    while from < range.end {
        let asked = Instant::now();
        let messages: Vec<_> = log.look(topic, &[(partition, from)], PAGE).await?.into_iter().flatten().collect();
        let unknown = messages.iter().filter_map(|message| unknown_id(&message.value, &*ids));
        let unknown: BTreeSet<_> = unknown.take(MOST_UNKNOWN).collect();
        if !unknown.is_empty() {
            log.learn_schemas(&Vec::from_iter(unknown)).await?;
        }
        let mut found = false;
        for message in messages.into_iter().filter(|message| message.offset < range.end) {
            (from, found) = (message.offset + 1, true);
            visit(message);
        }
        if !found {
            // Nothing that can be read is left, unless the answer did not come in time.
            let late = asked.elapsed() >= PAGE.max_wait;
            return if late { Err(LogError::Unavailable("it does not answer in time".to_owned())) } else { Ok(()) };
        }
    }
    Ok(())
}
