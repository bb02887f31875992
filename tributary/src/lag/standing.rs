//! What one look at a partition means, with what its owner says of it. Pure.

use super::{
    note::{Owner, Owners},
    pace::Reading,
    report::{PartitionLag, State},
};
use std::time::Duration;
use tributary_backends::log::{Progress, Topic};

/// A note that is seen was written from a look that is at most so old.
const NOTE_AGE: Duration = Duration::from_secs(15);

/// A topic and one of its partitions.
pub type Place = (Topic, u32);

/// How far one partition is, by one look.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    pub place: Place,
    pub progress: Progress,
    pub reading: Reading,
    /// How long its owner rests between two commits, by the last note that said so.
    pub rest: Duration,
}

/// What a stage is called: records of lanes go to the lake, the rest into tables of their topics' names.
fn stage(topic: Topic) -> &'static str {
    if topic == Topic::Records { "lake" } else { topic.name() }
}

/// How long an owner rests between two commits of this topic: only lanes do.
pub fn rest(topic: Topic, owner: &Owner) -> Duration {
    if topic == Topic::Records { owner.rest } else { Duration::ZERO }
}

/// Never negative, whatever the clocks say.
pub fn age(now: i64, then: i64) -> Duration {
    Duration::from_millis(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
}

impl Standing {
    /// How many wait.
    pub fn records(&self) -> u64 {
        u64::try_from(self.progress.high - self.progress.done).unwrap_or(0)
    }

    /// How long it has moved nothing although something waits.
    pub fn still(&self, owner: Option<&Owner>) -> Duration {
        if self.records() == 0 {
            return Duration::ZERO;
        }
        // What has moved since the note was written stands no more.
        let told = owner.filter(|owner| owner.done == self.progress.done).map(|owner| owner.reading.still);
        self.reading.still.max(told.unwrap_or_default())
    }

    /// How long the oldest that waits has waited at least, and at most if that is known: by clocks that go on by themselves,
    /// this process's and its owner's.
    fn waited(&self, owner: Option<&Owner>) -> (Duration, Option<Duration>) {
        let (mut least, mut most) = self.reading.waited;
        least = least.max(self.still(owner));
        // What comes behind a message is not older than it.
        if let Some(owner) = owner.filter(|owner| owner.done <= self.progress.done) {
            let told = owner.reading.waited.1.map(|told| told + NOTE_AGE);
            most = most.into_iter().chain(told).min();
            if owner.done == self.progress.done {
                least = least.max(owner.reading.waited.0);
            }
        }
        (least, most)
    }

    /// The age of the oldest that waits. `stamped`: by the time that the log gave it, or one before it; its clock and ours may
    /// differ, so what was seen bounds it.
    fn age(&self, stamped: Option<Duration>, owner: Option<&Owner>) -> Duration {
        let (least, most) = self.waited(owner);
        let told = owner.filter(|owner| owner.done <= self.progress.done).map(|owner| owner.reading.waited.0);
        stamped.or(told).unwrap_or(least).min(most.unwrap_or(Duration::MAX)).max(least)
    }

    /// Puts it for people. `owners`: what is known of them, if that is.
    pub fn describe(&self, stamped: Option<Duration>, owners: Option<&Owners>) -> PartitionLag {
        let Self { place: (topic, partition), reading, .. } = *self;
        let records = self.records();
        let owner = owners.and_then(|owners| owners.of(topic, partition));
        let halted = owner.and_then(|owner| owner.halted.clone());
        let rest = owner.map_or(self.rest, |owner| rest(topic, owner));
        let still = self.still(owner);
        let overdue = still.saturating_sub(rest);
        let rate = reading.rate.or_else(|| owner.and_then(|owner| owner.reading.rate));
        // Since it last moved it has done some of what still seems to wait; the last of it waits for a commit.
        let takes = |rate: f64| (records as f64 / rate).max(rest.as_secs_f64());
        let drains = |rate: f64| (takes(rate) - still.as_secs_f64()).max(0.0);
        PartitionLag {
            stage: stage(topic).to_owned(),
            topic: topic.name().to_owned(),
            partition,
            records,
            seconds: if records == 0 { 0.0 } else { self.age(stamped, owner).as_secs_f64() },
            throughput: reading.throughput.or_else(|| owner.and_then(|owner| owner.reading.throughput)),
            drain_seconds: rate.filter(|rate| *rate > 0.0).map(drains),
            still_seconds: overdue.as_secs_f64(),
            state: State::of(records, owners.map(|_| owner.is_some()), halted.is_some(), overdue),
            owner: owner.map(|owner| owner.name.clone()),
            reason: halted,
            waits_for: owner.and_then(|owner| owner.waits.clone()),
        }
    }
}
