//! Letters for those who look: the newest first, and how many there are.

use super::{
    Action, Deed, Filter, Letter, LetterId,
    examine::Examiner,
    register::Register,
    summary::{Summary, Tally},
    walk::{Place, Places},
};
use crate::trouble::Trouble;
use serde::{Deserialize, Serialize};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    str::FromStr,
};
use tributary_backends::log::RecordLog;
use tributary_schemas::frame::DeadLetter;

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

/// Lists those that the filter takes. Reads the topic once, and then what is shown.
///
/// # Errors
/// The log does not answer, or not the registry that has its schemas.
pub async fn list(log: &dyn RecordLog, bounds: &Bounds, filter: &Filter) -> Result<Listing, Trouble> {
    let mut examiner = Examiner::new(log);
    let register = Register::read(log, &mut examiner, &[], filter).await?;
    let (page, more) = newest(&register, bounds);
    let mut tally = Tally::of(register.meant().map(|(_, known)| known));
    let handled = page.values().filter(|(_, state)| state.is_some()).map(|(key, _)| *key).collect();
    let mut actions = register.actions(log, &handled).await?;
    let mut letters = Vec::new();
    let mut places = Places::new(log, page.keys().copied().chain(tally.places()).collect::<BTreeSet<_>>());
    while let Some(frames) = places.next().await? {
        for (place, frame) in frames {
            tally.read(place, &frame);
            if let Some((key, state)) = page.get(&place) {
                let letter = Letter::of(&frame, examiner.examine(&frame).await?, *state);
                let actions = actions.remove(key).unwrap_or_default();
                letters.push(Shown { cursor: Cursor { at: letter.at, place }, letter, actions });
            }
        }
    }
    letters.sort_unstable_by_key(|shown| Reverse(shown.cursor));
    Ok(Listing { letters, more, summary: tally.end() })
}

/// Keys and states of the letters on a page, by where they lie, and whether there are more behind it.
fn newest(register: &Register, bounds: &Bounds) -> (HashMap<Place, (u64, Option<Deed>)>, bool) {
    let (mut page, mut more) = (BTreeMap::new(), false);
    for (key, known) in register.meant() {
        let cursor = Cursor { at: known.at, place: known.place() };
        let in_range = bounds.before.is_none_or(|before| cursor < before);
        if in_range && (bounds.handled || known.state.is_none()) {
            page.insert(cursor, (key, known.state));
        }
        if page.len() > bounds.limit {
            page.pop_first();
            more = true;
        }
    }
    (page.into_iter().map(|(cursor, letter)| (cursor.place, letter)).collect(), more)
}

/// One letter with its bytes; `None` when it is not there.
///
/// # Errors
/// As [`list`].
pub async fn show(log: &dyn RecordLog, id: &LetterId) -> Result<Option<(Shown, DeadLetter)>, Trouble> {
    let mut examiner = Examiner::new(log);
    let register = Register::read(log, &mut examiner, std::slice::from_ref(id), &Filter::default()).await?;
    let Some((key, known)) = register.meant().min_by_key(|(_, known)| known.place()) else { return Ok(None) };
    let mut actions = register.actions(log, &HashSet::from([key])).await?;
    let Some(frames) = Places::new(log, [known.place()]).next().await? else { return Ok(None) };
    let Some((place, frame)) = frames.into_iter().next() else { return Ok(None) };
    let letter = Letter::of(&frame, examiner.examine(&frame).await?, known.state);
    let (cursor, actions) = (Cursor { at: letter.at, place }, actions.remove(&key).unwrap_or_default());
    Ok(Some((Shown { letter, actions, cursor }, frame)))
}
