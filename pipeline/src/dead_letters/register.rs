//! Which letters something was done about, in some 40 bytes for each, whatever they say.

use super::{
    Action, Deed, LetterId,
    walk::{MOST_UNKNOWN, Walk, unknown_id},
};
use crate::trouble::Trouble;
use std::{
    collections::{BTreeSet, HashMap, hash_map::RandomState},
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
    known: HashMap<u64, Known>,
    named: HashMap<LetterId, Named>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    state: Option<Deed>,
    met: bool,
}

/// A letter that was asked for.
#[derive(Debug, Default)]
struct Named {
    is_there: bool,
    actions: Vec<Action>,
}

impl Register {
    /// Reads the topic once, and sees to it that the log knows the schemas of what is in letters. Of those in `named` it
    /// keeps what was done about them.
    pub(super) async fn read(log: &dyn RecordLog, named: impl IntoIterator<Item = LetterId>) -> Result<Self, Trouble> {
        let named = named.into_iter().map(|id| (id, Named::default())).collect();
        let mut register = Self { named, ..Self::default() };
        let (ids, mut unknown) = (log.schema_ids(), BTreeSet::new());
        let mut walk = Walk::new(log);
        while let Some(frames) = walk.next().await? {
            for (_, frame) in &frames {
                let action = Action::of(frame);
                if action.is_none() && unknown.len() < MOST_UNKNOWN {
                    unknown.extend(unknown_id(&frame.payload, &*ids));
                }
                register.note(frame, action);
            }
        }
        if !unknown.is_empty() {
            // The registry may know more now than when they were put aside, or than this process did.
            log.learn_schemas(&Vec::from_iter(unknown)).await?;
        }
        Ok(register)
    }

    fn note(&mut self, frame: &DeadLetter, action: Option<Action>) {
        if let Some(action) = &action {
            self.known.entry(self.hash(frame)).or_default().state = Some(action.deed);
        }
        if self.named.is_empty() {
            return;
        }
        let Some(named) = self.named.get_mut(&LetterId::of(frame)) else { return };
        match action {
            None => named.is_there = true,
            Some(action) => {
                named.actions.push(action);
                if named.actions.len() > ACTIONS {
                    named.actions.remove(0);
                }
            }
        }
    }

    fn hash(&self, frame: &DeadLetter) -> u64 {
        self.hasher.hash_one((&*frame.topic, frame.partition, frame.offset))
    }

    /// What was done last about a letter, which is open if it is nothing; `None` when it was met before, for a crashed lane
    /// puts letters aside twice.
    pub(super) fn meet(&mut self, frame: &DeadLetter) -> Option<Option<Deed>> {
        let known = self.known.entry(self.hash(frame)).or_default();
        let first = !std::mem::replace(&mut known.met, true);
        first.then_some(known.state)
    }

    /// A named letter that is not there.
    pub(super) fn missing(&self) -> Option<&LetterId> {
        self.named.iter().filter(|(_, named)| !named.is_there).map(|(id, _)| id).min()
    }

    /// What was done about a named letter, oldest first, at most the last ten.
    pub(super) fn actions(&self, id: &LetterId) -> &[Action] {
        self.named.get(id).map_or(&[], |named| &named.actions)
    }
}
