//! Which batches may be on the way at the same time. Pure.
//!
//! A batch waits while an earlier one with a common identity has not been acknowledged. Waiting goes from higher to
//! lower numbers only, so the lowest one never waits and there is no deadlock.

use super::plan::Batch;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tributary_schemas::identity::Identity;

/// Batches that are not acknowledged yet.
#[derive(Debug, Default)]
pub struct Window {
    held: BTreeMap<u64, Held>,
    /// The latest batch here that has the identity.
    latest: HashMap<Identity, u64>,
}

#[derive(Debug)]
struct Held {
    /// None while it is on the way.
    batch: Option<Batch>,
    identities: Vec<Identity>,
    waits_for: BTreeSet<u64>,
}

impl Window {
    /// Batches waiting or on the way.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Adds a batch; numbers must rise.
    pub fn push(&mut self, mut batch: Batch) {
        let number = batch.number;
        let identities = std::mem::take(&mut batch.identities);
        let waits_for = identities.iter().filter_map(|identity| self.latest.insert(*identity, number));
        let waits_for = waits_for.filter(|earlier| *earlier != number).collect();
        self.held.insert(number, Held { batch: Some(batch), identities, waits_for });
    }

    /// The lowest batch that may go now, if there is one.
    pub fn start(&mut self) -> Option<Batch> {
        let ready = self.held.values_mut().find(|held| held.batch.is_some() && held.waits_for.is_empty());
        ready.and_then(|held| held.batch.take())
    }

    /// Forgets a batch and lets those go that waited for it.
    pub fn acknowledged(&mut self, number: u64) {
        let Some(held) = self.held.remove(&number) else { return };
        for identity in held.identities {
            if self.latest.get(&identity) == Some(&number) {
                self.latest.remove(&identity);
            }
        }
        for other in self.held.values_mut() {
            other.waits_for.remove(&number);
        }
    }
}
