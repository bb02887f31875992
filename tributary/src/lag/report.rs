//! What is known of the lag at one moment.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Something waits and nothing has moved for so long, after the rest that its owner takes between two commits: stuck.
pub const STUCK: Duration = Duration::from_secs(30);

/// How far everything is behind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it was looked at, milliseconds since the Unix epoch.
    pub at: i64,
    /// Of every stage and partition, in the order in which a record meets them.
    pub partitions: Vec<PartitionLag>,
    /// Whose records wait for the lake, those with the most first, as far as that was looked into; then those of whom
    /// nothing waits and something lands, as far as processes tell them apart.
    pub workspaces: Vec<WorkspaceLag>,
    /// All that waits beside them, so that together they are what waits: in all lanes, or, of a process that runs, in
    /// those that it has. Missing where it has none.
    pub others: Option<WorkspaceLag>,
    /// Whether processes could say what they own; if not, no owner is known.
    pub owners_known: bool,
}

/// One partition of one topic, and the stage that takes from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionLag {
    pub stage: String,
    pub topic: String,
    pub partition: u32,
    /// How many wait: one past the last offset minus the committed one.
    pub records: u64,
    /// The age of the oldest that waits; 0 when none does.
    pub seconds: f64,
    /// Records done per second, lately.
    pub throughput: Option<f64>,
    /// Seconds until what waits now is done, at the rate of a partition that has something to do. Missing while the rate
    /// is not known, and when nothing moves.
    pub drain_seconds: Option<f64>,
    /// How long nothing has moved although something waits, after the rest that its owner takes between two commits.
    pub still_seconds: f64,
    pub state: State,
    /// The process that has it.
    pub owner: Option<String>,
    /// Why it has halted.
    pub reason: Option<String>,
    /// What its process tries again until it works, if that has failed for a while.
    pub waits_for: Option<String>,
}

/// How a partition does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing waits.
    UpToDate,
    /// Something waits, and it moves or began to wait a moment ago.
    Working,
    /// Something waits, somebody has it, and nothing has moved for [`STUCK`].
    Stuck,
    /// No process has it.
    NoOwner,
    /// Its owner does nothing with it any more until it is started again.
    Halted,
}

impl State {
    /// Of a partition with so many that wait; `owned` if that is known.
    pub fn of(records: u64, owned: Option<bool>, halted: bool, still: Duration) -> Self {
        match (owned, halted) {
            (_, true) => Self::Halted,
            (Some(false), _) => Self::NoOwner,
            _ if records == 0 => Self::UpToDate,
            _ if still >= STUCK => Self::Stuck,
            _ => Self::Working,
        }
    }

    /// Whether an operator has to do something.
    pub fn is_trouble(self) -> bool {
        !matches!(self, Self::UpToDate | Self::Working)
    }
}

impl PartitionLag {
    /// As [`Self::drain_seconds`], and for ever when nothing moves.
    pub fn drains_in(&self) -> Option<f64> {
        drains_in(self.records, self.state.is_trouble(), self.drain_seconds)
    }
}

fn drains_in(records: u64, stands: bool, seconds: Option<f64>) -> Option<f64> {
    if records == 0 {
        return Some(0.0);
    }
    if stands { Some(f64::INFINITY) } else { seconds }
}

/// What waits for the lake of one workspace, in all lanes, and how much of it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceLag {
    pub workspace: String,
    /// In which: partitions of topic `records`.
    pub lanes: Vec<u32>,
    pub records: u64,
    /// The age of the oldest that was seen; 0 when none waits.
    pub seconds: f64,
    /// Records done per second, lately, by all processes that have lanes. Missing while one of them cannot say it, and of a
    /// workspace that none of them tells apart from those with less: then it is in that of the others.
    pub throughput: Option<f64>,
    /// Seconds until the last of these lanes has done what waits in it now. Missing while that is not known, and when one
    /// of them stands.
    pub drain_seconds: Option<f64>,
    /// Whether one of these lanes needs somebody's help to move.
    pub stands: bool,
    /// Whether every waiting record of these lanes was counted; else it is a share by samples.
    pub exact: bool,
}

impl WorkspaceLag {
    /// The name of those that are not named; no workspace can be called so.
    pub const OTHERS: &'static str = tributary_backends::lately::OTHERS;

    /// Nothing.
    pub fn none(workspace: &str) -> Self {
        let (workspace, lanes, drain_seconds) = (workspace.to_owned(), Vec::new(), Some(0.0));
        let (stands, exact) = (false, true);
        Self { workspace, lanes, records: 0, seconds: 0.0, throughput: None, drain_seconds, stands, exact }
    }

    /// So many records of one lane as well, the oldest of them this old.
    pub fn add(&mut self, lane: &PartitionLag, records: u64, seconds: f64, exact: bool) {
        if records == 0 {
            return;
        }
        self.lanes.push(lane.partition);
        let (drain_seconds, stands) = (lane.drain_seconds, lane.state.is_trouble());
        self.also(&Self { records, seconds, drain_seconds, stands, exact, ..Self::none("") });
    }

    /// What another one has as well, but for the names of its lanes.
    pub fn also(&mut self, other: &Self) {
        self.records += other.records;
        self.seconds = self.seconds.max(other.seconds);
        self.throughput = match (self.throughput, other.throughput) {
            (Some(one), Some(other)) => Some(one + other),
            // What is not known of one is in that of the others.
            (one, other) => one.or(other),
        };
        self.drain_seconds = self.drain_seconds.zip(other.drain_seconds).map(|(one, other)| one.max(other));
        self.stands |= other.stands;
        self.exact &= other.exact;
    }

    /// As [`Self::drain_seconds`], and for ever when nothing moves.
    pub fn drains_in(&self) -> Option<f64> {
        drains_in(self.records, self.stands, self.drain_seconds)
    }

    /// Whether something of it is done right now, as far as it is known.
    pub fn lands(&self) -> bool {
        self.throughput.is_some_and(|rate| rate > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worst_is_said() {
        let of = |records, owned, halted, seconds| State::of(records, owned, halted, Duration::from_secs(seconds));
        assert_eq!(of(0, Some(true), false, 0), State::UpToDate);
        assert_eq!(of(0, None, false, 0), State::UpToDate);
        assert_eq!(of(0, Some(false), false, 0), State::NoOwner, "also of one that is idle");
        assert_eq!(of(9, Some(true), false, 29), State::Working);
        assert_eq!(of(9, Some(true), false, 30), State::Stuck);
        assert_eq!(of(9, None, false, 30), State::Stuck);
        assert_eq!(of(9, Some(false), false, 30), State::NoOwner);
        assert_eq!(of(9, Some(true), true, 30), State::Halted);
    }
}
