//! How many letters there are, and why.

use super::{DeadLetter, Deed, TOPIC, cut, register::Known, walk::Place};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Reasons that are told.
const TOLD: usize = 20;
/// Longest reason by which letters are counted, in characters.
const REASON: usize = 200;

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

/// Topic, stage and reason, by which letters are counted.
pub(super) fn kind(letter: &DeadLetter) -> (String, String, String) {
    (cut(&letter.topic, TOPIC), cut(&letter.stage, REASON), cut(&letter.reason, REASON))
}

/// A summary in the making: the reasons are there, and what they say is still to be read.
pub(super) struct Tally {
    summary: Summary,
    /// How many letters have a reason, and where the first of them lies.
    kinds: Vec<(u64, Place)>,
}

impl Tally {
    pub(super) fn of<'k>(letters: impl Iterator<Item = &'k Known> + Clone) -> Self {
        let count = |state| letters.clone().filter(|known| known.state == state).count();
        let mut open = Vec::with_capacity(count(None));
        open.extend(letters.clone().filter(|known| known.state.is_none()).map(|known| (known.kind, known.place())));
        open.sort_unstable();
        let kinds = open.chunk_by(|a, b| a.0 == b.0);
        let mut kinds: Vec<_> = kinds.filter_map(|kind| Some((kind.len() as u64, kind.first()?.1))).collect();
        kinds.sort_unstable_by_key(|(letters, first)| (Reverse(*letters), *first));
        kinds.truncate(TOLD);
        let (replayed, discarded) = (count(Some(Deed::Replayed)) as u64, count(Some(Deed::Discarded)) as u64);
        Self { summary: Summary { open: open.len() as u64, replayed, discarded, ..Summary::default() }, kinds }
    }

    /// What has to be read.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.kinds.iter().map(|(_, first)| *first)
    }

    pub(super) fn read(&mut self, place: Place, letter: &DeadLetter) {
        if let Some((letters, _)) = self.kinds.iter().find(|(_, first)| *first == place) {
            let (topic, stage, reason) = kind(letter);
            self.summary.reasons.push(Count { topic, stage, reason, letters: *letters });
        }
    }

    pub(super) fn end(self) -> Summary {
        let Summary { open, mut reasons, .. } = self.summary;
        reasons.sort_by(|a, b| {
            b.letters
                .cmp(&a.letters)
                .then_with(|| (&a.topic, &a.stage, &a.reason).cmp(&(&b.topic, &b.stage, &b.reason)))
        });
        let told: u64 = reasons.iter().map(|kind| kind.letters).sum();
        Summary { other_reasons: open.saturating_sub(told), reasons, ..self.summary }
    }
}
