//! Replaying and discarding, a page of the topic at a time.
//!
//! **Killed anywhere, given again: lands once.** Of a page's letters the bytes are appended first, all in one call, then the
//! entries about them, each call durable before the next. Killed before the first append, nothing has happened. Killed
//! between the two, the letters are still open, so nothing is lost: the same command appends the bytes again, and the lane
//! finds the identities with the same digests in the table, counts *unchanged* and writes nothing. (The other way round a
//! kill between the two would leave letters that count as replayed and never were.) Killed behind the entries, the letters
//! are handled and not taken again. The same holds for an append without a clear answer and for two operators at once.
//!
//! **A replay does not bring back an old version**, however long it takes and whatever senders do meanwhile: the record
//! carries the offset that it had at first ([`super::again`]), and its lane leaves the row as it is when that is newer. So
//! the order in which versions are replayed makes no difference either. The look at the index before it only tells the
//! operator: who insists has the record sent as a new version.

use super::{
    Action, Deed, Filter, Letter, LetterId, again,
    examine::{Examiner, topic_of},
    register::Register,
    walk::Places,
};
use crate::{
    context::{keyed, placed},
    trouble::Trouble,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use tributary_backends::{
    crash,
    log::{Append, RecordLog, Topic},
    tables::{IndexPart, Location, Tables},
    world::World,
};
use tributary_schemas::{frame::DeadLetter, identity::Identity};

/// What to do, and how it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handling {
    /// What.
    pub deed: Deed,
    /// Who does it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Replay also what is older than what the lake has, as a new version.
    pub overwrite: bool,
}

/// What became of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is done and recorded.
    Done(Action),
    /// It was done before.
    Already(Action),
    /// It would be done.
    Would,
    /// It is not done, and why.
    Refused(String),
}

/// A letter that is meant, its frame, and what was done about it last.
type Meant = (Letter, DeadLetter, Option<Action>);

/// Replays or discards what the filter takes: of those that are `named`, or if none are, of all that are open. What becomes
/// of each is told as soon as it is known. When one that is named is not there, nothing is done, and it is returned.
///
/// # Errors
/// The log or the tables do not answer. What was told is done; giving the command again goes on with the rest.
pub async fn handle(
    backends: (&dyn RecordLog, &dyn Tables, &dyn World),
    named: &[LetterId],
    filter: &Filter,
    how: &Handling,
    tell: &mut (dyn FnMut(&Letter, Fate) + Send),
) -> Result<Option<LetterId>, Trouble> {
    let (log, ..) = backends;
    let mut examiner = Examiner::new(log);
    let register = Register::read(log, &mut examiner, named, filter).await?;
    if let Some(missing) = register.missing() {
        return Ok(Some(missing.clone()));
    }
    let handled = register.meant().filter(|(_, known)| !named.is_empty() && known.state.is_some());
    let actions = register.actions(log, &handled.map(|(key, _)| key).collect()).await?;
    let meant = register.meant().filter(|(_, known)| !named.is_empty() || known.state.is_none());
    let mut places = Places::new(log, meant.map(|(_, known)| known.place()));
    while let Some(frames) = places.next().await? {
        let mut meant = Vec::with_capacity(frames.len());
        for (_, frame) in frames {
            let key = register.key(&frame);
            let letter = Letter::of(&frame, examiner.examine(&frame).await?, register.state(key));
            meant.push((letter, frame, actions.get(&key).and_then(|actions| actions.last()).cloned()));
        }
        page(backends, meant, how, tell).await?;
    }
    Ok(None)
}

/// Does it with the letters of one page.
async fn page(
    (log, tables, world): (&dyn RecordLog, &dyn Tables, &dyn World),
    meant: Vec<Meant>,
    how: &Handling,
    tell: &mut (dyn FnMut(&Letter, Fate) + Send),
) -> Result<(), Trouble> {
    let newer = match how.deed {
        Deed::Replayed => newer(log, tables, &meant).await?,
        Deed::Discarded => HashMap::new(),
    };
    let (mut open, mut bytes) = (Vec::new(), Vec::new());
    for (place, (letter, frame, done)) in meant.into_iter().enumerate() {
        let newer = newer.get(&place).copied();
        match settled(&letter, newer, done, log, how) {
            Some(fate) => tell(&letter, fate),
            None => {
                bytes.extend((how.deed == Deed::Replayed).then(|| replayed(&frame, newer.is_some())).flatten());
                open.push((letter, frame));
            }
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    let mut offsets = Vec::new();
    if how.deed == Deed::Replayed {
        offsets = log.append(bytes).await?;
        crash::point("dead-letters.after_replay");
    }
    let at = world.now_micros();
    let action = |place: usize| {
        let (by, reason) = (how.by.clone(), how.reason.clone());
        Action { deed: how.deed, by, reason, at, offset: offsets.get(place).copied() }
    };
    let entries: Vec<_> = open.iter().enumerate().map(|(place, (_, frame))| action(place).entry(frame)).collect();
    let topic = Topic::DeadLetters;
    log.append(placed(topic, log.partitions(topic), keyed(&entries))).await?;
    crash::point("dead-letters.after_entry");
    for (place, (letter, _)) in open.iter().enumerate() {
        tell(letter, Fate::Done(action(place)));
    }
    Ok(())
}

/// The bytes as they go back to where they came from; `None` when nothing is read from there, which [`settled`] refuses.
fn replayed(frame: &DeadLetter, as_new: bool) -> Option<Append> {
    let topic = topic_of(frame)?;
    let key = match topic {
        Topic::Records => again::key(frame, as_new),
        _ => frame.key.clone().into(),
    };
    Some(Append { topic, partition: frame.partition, key, value: frame.payload.clone().into() })
}

/// What is known of a letter's fate before anything is done; `done`: what was done about it before.
fn settled(
    letter: &Letter,
    newer: Option<i64>,
    done: Option<Action>,
    log: &dyn RecordLog,
    how: &Handling,
) -> Option<Fate> {
    if let Some(done) = done {
        return Some(match done.deed == how.deed {
            true => Fate::Already(done),
            false => Fate::Refused(format!("it was {} by {}: {}", done.deed.name(), done.by, done.reason)),
        });
    }
    if let Some(deed) = letter.state {
        return Some(Fate::Refused(format!("it was {}, and the log has dropped by whom", deed.name())));
    }
    let refused = (how.deed == Deed::Replayed).then(|| refusal(letter, newer, log, how)).flatten();
    match refused {
        Some(reason) => Some(Fate::Refused(reason)),
        None => how.dry_run.then_some(Fate::Would),
    }
}

/// Why an open letter is not replayed.
fn refusal(letter: &Letter, newer: Option<i64>, log: &dyn RecordLog, how: &Handling) -> Option<String> {
    if let Some(fault) = &letter.contents.fault {
        return Some(format!("it would become a dead letter again ({fault}): mend the cause first, or discard it"));
    }
    if !has_partition(log, &letter.id) {
        return Some(format!("there is no partition {} of {}", letter.id.partition, letter.id.topic));
    }
    let newer = newer.filter(|_| !how.overwrite)?;
    Some(format!(
        "a newer version of the record has landed (offset {newer}), and stays: discard the letter, or replay it with \
         --overwrite"
    ))
}

fn has_partition(log: &dyn RecordLog, id: &LetterId) -> bool {
    Topic::ALL.into_iter().any(|topic| topic.name() == id.topic && id.partition < log.partitions(topic))
}

/// Of letters whose record has a newer version in the lake, by their places: that version.
async fn newer(log: &dyn RecordLog, tables: &dyn Tables, meant: &[Meant]) -> Result<HashMap<usize, i64>, Trouble> {
    let mut parts: BTreeMap<(&str, u32), Vec<_>> = BTreeMap::new();
    for (place, (letter, ..)) in meant.iter().enumerate() {
        let record = letter.contents.record.filter(|_| letter.state.is_none() && has_partition(log, &letter.id));
        if let (Some(record), Some(workspace)) = (record, &letter.contents.workspace) {
            parts.entry((workspace, letter.id.partition)).or_default().push((place, record));
        }
    }
    let mut newer = HashMap::new();
    for ((workspace, lane), records) in parts {
        let mut keys: Vec<Identity> = records.iter().map(|(_, record)| record.identity).collect();
        keys.sort_unstable();
        keys.dedup();
        let part = IndexPart { workspace: workspace.to_owned(), lane };
        let found = tables.lookup(&part, &keys).await?;
        let rows: HashMap<Identity, Location> =
            keys.into_iter().zip(found.locations).filter_map(|(key, row)| Some((key, row?))).collect();
        for (place, record) in records {
            let row = rows.get(&record.identity);
            let row = row.filter(|row| row.digest != record.digest && row.version > record.version);
            newer.extend(row.map(|row| (place, row.version)));
        }
    }
    Ok(newer)
}
