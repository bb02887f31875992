//! Replaying and discarding.
//!
//! **Killed anywhere, given again: lands once.** Of each letter its bytes are appended first, then the entry about it, each
//! durable before the next step. Killed before the first append, nothing has happened. Killed between the two, the letter
//! is still open, so nothing is lost: the same command appends the bytes again, and the lane finds the identity with the
//! same digest in the table, counts *unchanged* and writes nothing. (The other way round a kill between the two would
//! leave a letter that counts as replayed and never was.) Killed behind the entry, the letter is handled and not taken
//! again. The same holds for an append without a clear answer and for two operators at once.
//!
//! **A replay does not bring back an old version.** The bytes come behind everything that was sent since, and the last one
//! wins; so a letter is refused when a newer version of its record is in the lake or on its way there. What is on its way
//! is looked for first, from the lane's committed offset on, then the index is asked: lanes write the index before they
//! commit, so nothing slips between the two. What senders send in the moment between this look and the append is not
//! seen.

use super::{Action, Deed, Letter, LetterId, each, examine::Examiner, examine::topic_of, fetch};
use crate::{
    context::{keyed, placed},
    dedup::Seen,
    pipeline::GROUPS,
    trouble::Trouble,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use tributary_backends::{
    crash,
    log::{Append, RecordLog, Topic},
    tables::{IndexPart, Tables},
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
    /// Replay also what is older than what the lake has.
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

/// Replays or discards `chosen`, in the order of their ids; `all` are all letters there are. What becomes of each is
/// told as soon as it is known.
///
/// # Errors
/// The log or the tables do not answer. What was told is done; giving the command again goes on with the rest.
pub async fn handle(
    (log, tables, world): (&dyn RecordLog, &dyn Tables, &dyn World),
    all: &[Letter],
    chosen: &[Letter],
    how: &Handling,
    tell: &mut (dyn FnMut(&Letter, Fate) + Send),
) -> Result<(), Trouble> {
    let mut lineage = Lineage::of(all);
    let newest = match how.deed {
        Deed::Replayed => newest_versions(log, tables, chosen).await?,
        Deed::Discarded => HashMap::new(),
    };
    let mut examiner = Examiner::new(log.schema_ids());
    for letter in chosen {
        if let Some(fate) = settled(letter, newest.get(&letter.id), &lineage, how) {
            tell(letter, fate);
            continue;
        }
        let frame = fetch(log, letter).await?;
        let offset = match how.deed {
            Deed::Replayed => {
                // What is appended is what was examined, and not a frame that lies there now.
                if let Some(fault) = examiner.examine(&frame).fault {
                    tell(letter, Fate::Refused(still(&fault)));
                    continue;
                }
                let offset = replay(log, &frame).await?;
                lineage.learn(&letter.id, offset);
                crash::point("dead-letters.after_replay");
                offset
            }
            Deed::Discarded => None,
        };
        let (by, reason) = (how.by.clone(), how.reason.clone());
        let action = Action { deed: how.deed, by, reason, at: world.now_micros(), offset };
        record(log, &frame, &action).await?;
        crash::point("dead-letters.after_entry");
        tell(letter, Fate::Done(action));
    }
    Ok(())
}

/// What is known of a letter's fate before anything is done.
fn settled(letter: &Letter, newest: Option<&Version>, lineage: &Lineage, how: &Handling) -> Option<Fate> {
    match letter.actions.last() {
        Some(done) if done.deed == how.deed => return Some(Fate::Already(done.clone())),
        Some(done) => {
            return Some(Fate::Refused(format!("it was {} by {}: {}", done.deed.name(), done.by, done.reason)));
        }
        None => {}
    }
    match refusal(letter, newest, lineage, how) {
        Some(reason) => Some(Fate::Refused(reason)),
        None => how.dry_run.then_some(Fate::Would),
    }
}

/// Why an open letter is not replayed.
fn refusal(letter: &Letter, newest: Option<&Version>, lineage: &Lineage, how: &Handling) -> Option<String> {
    if how.deed == Deed::Discarded {
        return None;
    }
    if let Some(fault) = &letter.contents.fault {
        return Some(still(fault));
    }
    let newer = newest.filter(|newest| !newest.same && lineage.original(&letter.id, newest.offset) > letter.id.offset);
    let newer = newer.filter(|_| !how.overwrite)?;
    let place = if newer.landed { "has landed" } else { "is on its way to the lake" };
    Some(format!(
        "a newer version of the record {place} (offset {}), and the older one would take its place: discard the letter, \
         or replay it with --overwrite",
        newer.offset
    ))
}

fn still(fault: &str) -> String {
    format!("it would become a dead letter again ({fault}): mend the cause first, or discard it")
}

/// Which letter an offset in a topic goes back to.
struct Lineage(HashMap<(String, u32, i64), i64>);

impl Lineage {
    fn of(all: &[Letter]) -> Self {
        let mut lineage = Self(HashMap::new());
        for letter in all {
            for action in &letter.actions {
                lineage.learn(&letter.id, action.offset);
            }
        }
        lineage
    }

    fn learn(&mut self, id: &LetterId, offset: Option<i64>) {
        if let Some(offset) = offset {
            self.0.insert((id.topic.clone(), id.partition, offset), id.offset);
        }
    }

    /// Where the bytes at `offset`, in the partition of `id`, were at first.
    fn original(&self, id: &LetterId, offset: i64) -> i64 {
        self.0.get(&(id.topic.clone(), id.partition, offset)).copied().unwrap_or(offset)
    }
}

/// The newest version of a letter's record.
struct Version {
    offset: i64,
    landed: bool,
    /// Whether it says what the letter says.
    same: bool,
}

/// Open letters that are records.
type OpenRecords<'a> = Vec<(&'a LetterId, Seen)>;

/// Of each letter that is a record: the newest version of it that is on its way, else that in the lake.
async fn newest_versions(
    log: &dyn RecordLog,
    tables: &dyn Tables,
    chosen: &[Letter],
) -> Result<HashMap<LetterId, Version>, Trouble> {
    let mut lanes: BTreeMap<u32, BTreeMap<&str, OpenRecords<'_>>> = BTreeMap::new();
    for letter in chosen.iter().filter(|letter| letter.actions.is_empty()) {
        if let (Some(record), Some(workspace)) = (letter.contents.record, &letter.contents.workspace) {
            let lane = lanes.entry(letter.id.partition).or_default();
            lane.entry(workspace).or_default().push((&letter.id, record));
        }
    }
    let mut newest = HashMap::new();
    for (lane, workspaces) in lanes {
        let wanted = workspaces.values().flatten().map(|(_, record)| record.identity).collect();
        let waiting = waiting(log, lane, &wanted).await?;
        for (workspace, letters) in workspaces {
            let part = IndexPart { workspace: workspace.to_owned(), lane };
            let keys: Vec<Identity> = letters.iter().map(|(_, record)| record.identity).collect();
            let found = tables.lookup(&part, &keys).await?;
            for ((id, record), found) in letters.into_iter().zip(found.locations) {
                let landed =
                    found.map(|row| Version { offset: row.version, landed: true, same: row.digest == record.digest });
                let waits = waiting.get(&record.identity).map(|(offset, digest)| Version {
                    offset: *offset,
                    landed: false,
                    same: *digest == Some(record.digest),
                });
                if let Some(version) = waits.or(landed) {
                    newest.insert(id.clone(), version);
                }
            }
        }
    }
    Ok(newest)
}

/// Offset and digest of the last record of each identity that its lane has not landed yet.
async fn waiting(
    log: &dyn RecordLog,
    lane: u32,
    wanted: &HashSet<Identity>,
) -> Result<HashMap<Identity, (i64, Option<i64>)>, Trouble> {
    let held = log.watermarks(Topic::Records, lane).await?;
    let [(lanes, _), ..] = GROUPS;
    let done = log.committed(lanes, Topic::Records, lane).await?.unwrap_or(held.low).max(held.low);
    let mut examiner = Examiner::new(log.schema_ids());
    let mut last = HashMap::new();
    each(log, (Topic::Records, lane), done..held.high, &mut |message| {
        let Ok(key) = <[u8; 16]>::try_from(message.key.as_ref()) else { return };
        if !wanted.contains(&Identity(key)) {
            return;
        }
        let frame = DeadLetter {
            topic: Topic::Records.name().to_owned(),
            partition: lane,
            offset: message.offset,
            stage: String::new(),
            reason: String::new(),
            at: 0,
            key: message.key.to_vec(),
            payload: message.value.to_vec(),
        };
        let record = examiner.examine(&frame).record;
        last.insert(Identity(key), (message.offset, record.map(|record| record.digest)));
    })
    .await?;
    Ok(last)
}

/// Appends the bytes to where they came from; their offset.
async fn replay(log: &dyn RecordLog, frame: &DeadLetter) -> Result<Option<i64>, Trouble> {
    let topic = topic_of(frame).filter(|topic| frame.partition < log.partitions(*topic));
    let gone = || Trouble::Halt(format!("there is no partition {} of {}", frame.partition, frame.topic));
    let topic = topic.ok_or_else(gone)?;
    let (key, value) = (Bytes::copy_from_slice(&frame.key), Bytes::copy_from_slice(&frame.payload));
    let appended = log.append(vec![Append { topic, partition: frame.partition, key, value }]).await?;
    Ok(appended.first().copied())
}

/// Appends the entry about it behind the letter.
async fn record(log: &dyn RecordLog, frame: &DeadLetter, action: &Action) -> Result<(), Trouble> {
    let topic = Topic::DeadLetters;
    let entry = placed(topic, log.partitions(topic), keyed(&[action.entry(frame)]));
    log.append(entry).await?;
    Ok(())
}

#[cfg(test)]
pub(super) async fn newest(log: &dyn RecordLog, tables: &dyn Tables, letter: &Letter) -> Option<(i64, bool)> {
    let open = Letter { actions: Vec::new(), ..letter.clone() };
    let found = newest_versions(log, tables, &[open]).await.ok()?;
    found.get(&letter.id).map(|version| (version.offset, version.same))
}
