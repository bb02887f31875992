//! How many letters are open, without reading the topic again and again.

use super::{Action, walk::Walk};
use crate::{pipeline::GROUPS, trouble::Trouble};
use std::{
    collections::{BTreeMap, HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
};
use tributary_backends::log::RecordLog;
use tributary_schemas::frame::DeadLetter;

/// Letters that are told apart: with some 100 bytes each, 100 MB at most.
const MOST: usize = 1_000_000;
/// Stands for all topics that nothing is read from.
const OTHER: &str = "other";

/// What is known of every letter.
#[derive(Debug)]
pub struct Ledger {
    /// Where to go on reading, by partition.
    positions: Vec<i64>,
    letters: HashMap<Key, Known>,
    /// Of the names of topics, which whoever can write to the log chooses, of any length.
    hasher: RandomState,
    most: usize,
    /// Letters that there was no room for, by topic.
    beyond: BTreeMap<&'static str, u64>,
}

/// Where a message was that became a letter, with a hash in place of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    topic: &'static str,
    name: u64,
    partition: u32,
    offset: i64,
}

#[derive(Debug, Default)]
struct Known {
    /// Partition and offset of its last frame.
    place: (u32, i64),
    /// Whether there is a letter, and not only an entry about it.
    put_aside: bool,
    handled: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::with_room(MOST)
    }
}

impl Ledger {
    /// One that tells `most` letters apart.
    pub(crate) fn with_room(most: usize) -> Self {
        let hasher = RandomState::new();
        Self { positions: Vec::new(), letters: HashMap::new(), hasher, most, beyond: BTreeMap::new() }
    }

    /// Reads what is new, and forgets what the log keeps no longer.
    ///
    /// # Errors
    /// The log does not answer.
    pub async fn catch_up(&mut self, log: &dyn RecordLog) -> Result<(), Trouble> {
        if !self.beyond.is_empty() && self.letters.len() <= self.most / 2 {
            // The log has dropped many: there is room to tell all apart.
            *self = Self::with_room(self.most);
        }
        let Self { positions, letters, hasher, most, beyond } = self;
        let mut walk = Walk::from(log, positions.clone());
        while let Some(frames) = walk.next().await? {
            for (place, frame) in frames {
                let (key, action) = (key(hasher, &frame), Action::of(&frame));
                if letters.len() >= *most && !letters.contains_key(&key) {
                    // As open ones, to be on the safe side; what is done about them is not known.
                    if action.is_none() {
                        *beyond.entry(key.topic).or_default() += 1;
                    }
                    continue;
                }
                let known = letters.entry(key).or_default();
                known.place = place;
                match action {
                    Some(_) => known.handled = true,
                    None => known.put_aside = true,
                }
            }
            positions.clone_from(&walk.positions);
        }
        positions.clone_from(&walk.positions);
        letters.retain(|_, known| walk.lows.get(known.place.0 as usize).is_none_or(|low| known.place.1 >= *low));
        Ok(())
    }

    /// Open letters by the topic that they came from; topics that nothing is read from are together under `other`. Of more
    /// than a million letters those beyond count as open until the log has dropped half of the others.
    pub fn open(&self) -> BTreeMap<&'static str, u64> {
        let topics = GROUPS.map(|(_, topic)| topic.name()).into_iter().chain([OTHER]);
        let mut open: BTreeMap<_, _> =
            topics.map(|topic| (topic, self.beyond.get(topic).copied().unwrap_or(0))).collect();
        for (key, known) in &self.letters {
            if known.put_aside && !known.handled {
                *open.entry(key.topic).or_default() += 1;
            }
        }
        open
    }
}

fn key(hasher: &RandomState, frame: &DeadLetter) -> Key {
    let DeadLetter { topic, partition, offset, .. } = frame;
    let ours = GROUPS.map(|(_, topic)| topic.name()).into_iter().find(|ours| ours == topic);
    Key { topic: ours.unwrap_or(OTHER), name: hasher.hash_one(topic), partition: *partition, offset: *offset }
}
