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
//!
//! Whoever can write to the log chooses how many letters there are and how long their texts: nothing here holds more of them
//! than a page, and some 100 bytes for each ([`register`]). With these the topic is read once, then what is shown or dealt
//! with is read where it lies; only that is decoded, and what the filter cannot tell from the frame.

pub(crate) mod again;
mod examine;
mod filter;
mod handle;
mod ledger;
mod list;
mod register;
mod summary;
#[cfg(test)]
mod tests;
mod walk;

pub use examine::Contents;
pub use filter::Filter;
pub use handle::{Fate, Handling, handle};
pub use ledger::Ledger;
pub use list::{Bounds, Cursor, Listing, Shown, list, show};
pub use summary::{Count, Summary};

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use tributary_schemas::frame::DeadLetter;

/// Longest text of a letter that is held, in characters.
const TEXT: usize = 1_000;
/// Longest name of a topic on Kafka.
const TOPIC: usize = 249;

/// Where the message was that became a letter: `records/2/17`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LetterId {
    /// Name of the topic; any text, for whoever can write to the log chose it. Longer than a topic's name can be, it is
    /// cut, and ends in `…`.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: i64,
}

impl LetterId {
    fn of(letter: &DeadLetter) -> Self {
        Self { topic: cut(&letter.topic, TOPIC), partition: letter.partition, offset: letter.offset }
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
            topic: letter.topic.clone(),
            partition: letter.partition,
            offset: letter.offset,
            stage: self.deed.name().to_owned(),
            reason: self.reason.clone(),
            at: self.at,
            key: letter.key.clone(),
            payload: serde_json::to_vec(&signed).unwrap_or_default(),
        }
    }
}

/// A letter, without its bytes. Its texts are cut after a thousand characters.
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
    /// What was done about it last; nothing: it is open.
    pub state: Option<Deed>,
}

impl Letter {
    fn of(frame: &DeadLetter, contents: Contents, state: Option<Deed>) -> Self {
        Self {
            id: LetterId::of(frame),
            stage: cut(&frame.stage, TEXT),
            reason: cut(&frame.reason, TEXT),
            at: frame.at,
            bytes: frame.payload.len(),
            contents,
            state,
        }
    }
}

/// The first characters, and `…` if there are more.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
