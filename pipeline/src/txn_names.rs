//! `txn` application ids of a lane: its position, and its exact counters.

use crate::{dedup::Outcomes, lake::Table};
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub(crate) struct TxnNames {
    pub(crate) position: String,
    landed: String,
    overwritten: String,
    unchanged: String,
    dead_lettered: String,
    again: String,
}

impl TxnNames {
    /// The position is that in one log, named by its id: a log made anew counts from 0, and a position of the one before
    /// it would make the lane skip what it has never seen.
    pub(crate) fn of(lane: u32, log: &str) -> Self {
        let name = |counter: &str| format!("lane-{lane}.{counter}");
        Self {
            position: format!("lane-{lane}@{log}"),
            landed: name("landed"),
            overwritten: name("overwritten"),
            unchanged: name("unchanged"),
            dead_lettered: name("dead-lettered"),
            again: name("again"),
        }
    }

    /// The lane that an application id speaks of.
    pub(crate) fn lane_of(name: &str) -> Option<u32> {
        name.strip_prefix("lane-")?.split(['.', '@']).next()?.parse().ok()
    }

    /// The counters as the table's version has them.
    pub(crate) fn outcomes(&self, table: &Table) -> Outcomes {
        let count = |name: &str| table.txn(name).map_or(0, i64::cast_unsigned);
        Outcomes {
            landed: count(&self.landed),
            overwritten: count(&self.overwritten),
            unchanged: count(&self.unchanged),
            dead_lettered: count(&self.dead_lettered),
            again: count(&self.again),
        }
    }

    /// What a commit sets.
    pub(crate) fn txns(&self, position: i64, outcomes: &Outcomes) -> BTreeMap<String, i64> {
        let mut txns = BTreeMap::from([
            (self.position.clone(), position),
            (self.landed.clone(), outcomes.landed.cast_signed()),
            (self.overwritten.clone(), outcomes.overwritten.cast_signed()),
            (self.unchanged.clone(), outcomes.unchanged.cast_signed()),
            (self.dead_lettered.clone(), outcomes.dead_lettered.cast_signed()),
        ]);
        if outcomes.again > 0 {
            // Most lanes never see any.
            txns.insert(self.again.clone(), outcomes.again.cast_signed());
        }
        txns
    }
}
