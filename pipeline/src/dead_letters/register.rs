//! What one walk through the topic tells of letters: some 100 bytes for each and 24 for each entry, whatever they say.

use super::{
    Action, Deed, Filter, LetterId,
    examine::Examiner,
    summary,
    walk::{Place, Places, Walk},
};
use crate::trouble::Trouble;
use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher as _,
};
use tributary_backends::log::RecordLog;
use tributary_schemas::frame::DeadLetter;

/// Actions of a letter that are told, the last ones. One or two, unless somebody plays tricks.
const ACTIONS: usize = 10;

/// What the whole topic says of letters.
#[derive(Debug, Default)]
pub(super) struct Register {
    /// Letters are told apart by 64 bits: the key is drawn anew each time, so that nobody can aim at a collision, and of a
    /// million letters two have the same hash once in thirty million times.
    hasher: RandomState,
    letters: HashMap<u64, Known>,
    entries: Vec<Entry>,
    missing: BTreeSet<LetterId>,
}

/// What is known of a letter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// When it was put aside, in microseconds since the Unix epoch.
    pub(super) at: i64,
    /// Hash of its [`summary::kind`].
    pub(super) kind: u64,
    /// What was done about it last; nothing: it is open.
    pub(super) state: Option<Deed>,
    met: Met,
    partition: u32,
    offset: i64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Met {
    /// So far there are entries alone.
    #[default]
    Not,
    Passed,
    /// It is one of those that were asked for.
    Meant,
}

/// Where there is an entry about a letter.
#[derive(Debug, Clone, Copy)]
struct Entry {
    letter: u64,
    partition: u32,
    offset: i64,
}

impl Known {
    /// Where it lies: its first copy, for a crashed lane puts letters aside twice.
    pub(super) fn place(&self) -> Place {
        (self.partition, self.offset)
    }
}

impl Register {
    /// Walks through the topic. Meant are those letters that are `named`, or if none are, all, as far as the filter takes
    /// them.
    pub(super) async fn read(
        log: &dyn RecordLog,
        examiner: &mut Examiner<'_>,
        named: &[LetterId],
        filter: &Filter,
    ) -> Result<Self, Trouble> {
        let mut register = Self { missing: named.iter().cloned().collect(), ..Self::default() };
        let Self { hasher, letters, entries, missing } = &mut register;
        let named: HashSet<_> = named.iter().collect();
        let mut walk = Walk::new(log);
        while let Some(frames) = walk.next().await? {
            for ((partition, offset), frame) in frames {
                let letter = place_hash(hasher, &frame);
                let known = letters.entry(letter).or_default();
                if let Some(action) = Action::of(&frame) {
                    known.state = Some(action.deed);
                    entries.push(Entry { letter, partition, offset });
                    continue;
                }
                if known.met != Met::Not {
                    continue;
                }
                known.met = Met::Passed;
                if !named.is_empty() {
                    let id = LetterId::of(&frame);
                    missing.remove(&id);
                    if !named.contains(&id) {
                        continue;
                    }
                }
                let may_take = filter.may_take(&frame);
                if may_take && (!filter.asks_for_contents() || filter.takes(&examiner.examine(&frame).await?)) {
                    let kind = hasher.hash_one(summary::kind(&frame));
                    *known = Known { at: frame.at, kind, state: known.state, met: Met::Meant, partition, offset };
                }
            }
        }
        Ok(register)
    }

    /// A letter that was named and is not there.
    pub(super) fn missing(&self) -> Option<&LetterId> {
        self.missing.first()
    }

    /// The letters that are meant, in no order.
    pub(super) fn meant(&self) -> impl Iterator<Item = (u64, &Known)> + Clone {
        self.letters.iter().filter(|(_, known)| known.met == Met::Meant).map(|(letter, known)| (*letter, known))
    }

    /// A letter by the key that it has here.
    pub(super) fn key(&self, letter: &DeadLetter) -> u64 {
        place_hash(&self.hasher, letter)
    }

    /// What was done about a letter last.
    pub(super) fn state(&self, key: u64) -> Option<Deed> {
        self.letters.get(&key).and_then(|known| known.state)
    }

    /// What was done about some letters: by their keys, oldest first, at most the last ten.
    pub(super) async fn actions(
        &self,
        log: &dyn RecordLog,
        letters: &HashSet<u64>,
    ) -> Result<HashMap<u64, Vec<Action>>, Trouble> {
        let mut last: HashMap<u64, Vec<Place>> = HashMap::new();
        for entry in self.entries.iter().filter(|entry| letters.contains(&entry.letter)) {
            let places = last.entry(entry.letter).or_default();
            places.push((entry.partition, entry.offset));
            if places.len() > ACTIONS {
                places.remove(0);
            }
        }
        let mut actions: HashMap<u64, Vec<Action>> = HashMap::new();
        let mut places = Places::new(log, last.into_values().flatten());
        while let Some(frames) = places.next().await? {
            for (_, frame) in frames {
                actions.entry(self.key(&frame)).or_default().extend(Action::of(&frame));
            }
        }
        Ok(actions)
    }
}

fn place_hash(hasher: &RandomState, frame: &DeadLetter) -> u64 {
    hasher.hash_one((&*frame.topic, frame.partition, frame.offset))
}
