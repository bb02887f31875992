//! What is known of the lag at one moment.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Something waits and nothing has moved for so long: stuck.
pub const STUCK: Duration = Duration::from_secs(30);

/// How far everything is behind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it was looked at, milliseconds since the Unix epoch.
    pub at: i64,
    /// Of every stage and partition, in the order in which a record meets them.
    pub partitions: Vec<PartitionLag>,
    /// Whose records wait for the lake, those with the most first.
    pub workspaces: Vec<WorkspaceLag>,
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
    /// How long nothing has moved although something waits.
    pub still_seconds: f64,
    pub state: State,
    /// The process that has it.
    pub owner: Option<String>,
    /// Why it has halted.
    pub reason: Option<String>,
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
        if self.records == 0 {
            return Some(0.0);
        }
        if self.state.is_trouble() { Some(f64::INFINITY) } else { self.drain_seconds }
    }
}

/// What waits of one workspace in one lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceLag {
    pub workspace: String,
    /// Partition of topic `records`.
    pub partition: u32,
    pub records: u64,
    /// The age of the oldest that was seen.
    pub seconds: f64,
    /// Whether every waiting record of the lane was counted; else it is a share by samples.
    pub exact: bool,
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
