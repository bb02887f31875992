//! Letters for those who look: the newest first, and how many there are.

use super::{
    Action, Deed, Letter, LetterId, cut,
    examine::Examiner,
    register::Register,
    walk::{Place, Walk},
};
use crate::trouble::Trouble;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
};
use tributary_backends::log::RecordLog;
use tributary_schemas::frame::DeadLetter;

/// Reasons that are told apart while counting, and those that are told.
const REASONS: usize = 1_000;
const TOLD: usize = 20;
/// Longest reason by which letters are counted, in characters.
const REASON: usize = 200;

/// How much to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Also those that something was done about.
    pub handled: bool,
    /// At most so many, the newest.
    pub limit: usize,
    /// Only those behind this one, where a page before ended.
    pub before: Option<Cursor>,
}

/// A letter's place in a list that has the newest first: when it was put aside, and where it lies in the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cursor {
    at: i64,
    place: Place,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.at, self.place.0, self.place.1)
    }
}

impl FromStr for Cursor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        let cursor = (|| {
            let (at, partition, offset) = (parts.next()?, parts.next()?, parts.next()?);
            let cursor = Self { at: at.parse().ok()?, place: (partition.parse().ok()?, offset.parse().ok()?) };
            parts.next().is_none().then_some(cursor)
        })();
        cursor.ok_or_else(|| "it is not what a list said where it ended".to_owned())
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

impl TryFrom<String> for Cursor {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A letter with what was done about it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// It.
    pub letter: Letter,
    /// Oldest first; at most the last ten.
    pub actions: Vec<Action>,
    /// Where it stands in the list.
    pub cursor: Cursor,
}

/// A page of letters, and how many there are in all.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Newest first.
    pub letters: Vec<Shown>,
    /// Whether there are more behind the last.
    pub more: bool,
    /// Of all that were asked for, whatever was done about them.
    pub summary: Summary,
}

/// How many letters there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// That nothing was done about.
    pub open: u64,
    /// Whose bytes went back to where they came from.
    pub replayed: u64,
    /// About which nothing more will be done.
    pub discarded: u64,
    /// The open ones by why they were put aside, the most first; at most twenty.
    pub reasons: Vec<Count>,
    /// Open ones that are in none of these.
    pub other_reasons: u64,
}

/// Open letters of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Count {
    pub topic: String,
    pub stage: String,
    /// Its first 200 characters.
    pub reason: String,
    pub letters: u64,
}

/// Counts in bounded memory.
#[derive(Default)]
struct Tally {
    summary: Summary,
    reasons: HashMap<(String, String, String), u64>,
}

impl Tally {
    fn add(&mut self, letter: &Letter) {
        match letter.state {
            Some(Deed::Replayed) => self.summary.replayed += 1,
            Some(Deed::Discarded) => self.summary.discarded += 1,
            None => {
                self.summary.open += 1;
                let kind = (letter.id.topic.clone(), cut(&letter.stage, REASON), cut(&letter.reason, REASON));
                if self.reasons.len() < REASONS || self.reasons.contains_key(&kind) {
                    *self.reasons.entry(kind).or_default() += 1;
                }
            }
        }
    }

    fn end(self) -> Summary {
        let count = |((topic, stage, reason), letters)| Count { topic, stage, reason, letters };
        let mut reasons: Vec<_> = self.reasons.into_iter().map(count).collect();
        reasons.sort_by(|a, b| {
            b.letters
                .cmp(&a.letters)
                .then_with(|| (&a.topic, &a.stage, &a.reason).cmp(&(&b.topic, &b.stage, &b.reason)))
        });
        reasons.truncate(TOLD);
        let told: u64 = reasons.iter().map(|kind| kind.letters).sum();
        Summary { other_reasons: self.summary.open.saturating_sub(told), reasons, ..self.summary }
    }
}

/// Lists those that `takes` takes.
///
/// # Errors
/// The log does not answer, or not the registry that has its schemas.
pub async fn list(
    log: &dyn RecordLog,
    bounds: &Bounds,
    takes: &(dyn Fn(&Letter) -> bool + Send + Sync),
) -> Result<Listing, Trouble> {
    let mut register = Register::read(log, []).await?;
    let (mut page, mut tally, mut more) = (BTreeMap::new(), Tally::default(), false);
    let mut examiner = Examiner::new(log.schema_ids());
    let mut walk = Walk::new(log);
    while let Some(frames) = walk.next().await? {
        for (place, frame) in frames.iter().filter(|(_, frame)| Action::of(frame).is_none()) {
            let Some(state) = register.meet(frame) else { continue };
            let letter = Letter::of(frame, examiner.examine(frame), state);
            if !takes(&letter) {
                continue;
            }
            tally.add(&letter);
            let cursor = Cursor { at: letter.at, place: *place };
            let in_range = bounds.before.is_none_or(|before| cursor < before);
            if in_range && (bounds.handled || state.is_none()) {
                page.insert(cursor, letter);
            }
            if page.len() > bounds.limit {
                page.pop_first();
                more = true;
            }
        }
    }
    let handled = page.values().filter(|letter| letter.state.is_some()).map(|letter| letter.id.clone());
    let handled: Vec<_> = handled.collect();
    if !handled.is_empty() {
        register = Register::read(log, handled).await?;
    }
    let shown = |(cursor, letter): (Cursor, Letter)| {
        let actions = register.actions(&letter.id).to_vec();
        Shown { letter, actions, cursor }
    };
    Ok(Listing { letters: page.into_iter().rev().map(shown).collect(), more, summary: tally.end() })
}

/// One letter with its bytes; `None` when it is not there.
///
/// # Errors
/// As [`list`].
pub async fn show(log: &dyn RecordLog, id: &LetterId) -> Result<Option<(Shown, DeadLetter)>, Trouble> {
    let register = Register::read(log, [id.clone()]).await?;
    if register.missing().is_some() {
        return Ok(None);
    }
    let mut examiner = Examiner::new(log.schema_ids());
    let mut walk = Walk::new(log);
    while let Some(frames) = walk.next().await? {
        let is_it = |(_, frame): &(Place, DeadLetter)| LetterId::of(frame) == *id && Action::of(frame).is_none();
        if let Some((place, frame)) = frames.into_iter().find(is_it) {
            let actions = register.actions(id).to_vec();
            let state = actions.last().map(|action| action.deed);
            let letter = Letter::of(&frame, examiner.examine(&frame), state);
            let cursor = Cursor { at: letter.at, place };
            return Ok(Some((Shown { letter, actions, cursor }, frame)));
        }
    }
    Ok(None)
}
