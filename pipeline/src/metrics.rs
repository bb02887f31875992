//! What the pipeline counts.

use crate::dedup::Outcomes;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::time::Duration;
use tributary_backends::log::Topic;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabel {
    topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RivalLabel {
    against: &'static str,
}

/// Who came first when a commit had to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rival {
    /// Another lane of the same table: that happens wherever a workspace is spread over lanes.
    Lane,
    /// Another owner of this lane, another program, or nobody: the answer was lost.
    Other,
}

impl Rival {
    const ALL: [Self; 2] = [Self::Lane, Self::Other];

    fn label(self) -> RivalLabel {
        let against = match self {
            Self::Lane => "lane",
            Self::Other => "other",
        };
        RivalLabel { against }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

/// Metrics of the pipeline; cheap to clone, all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    records: Family<OutcomeLabel, Counter>,
    dead_letters: Family<TopicLabel, Counter>,
    chunk_records: Histogram,
    chunk_bytes: Histogram,
    stages: Family<StageLabel, Histogram, fn() -> Histogram>,
    conflicts: Family<RivalLabel, Counter>,
    /// Index parts that were rebuilt from the lake because they did not agree with it.
    pub(crate) index_rebuilds: Counter,
    /// Chunks, or parts of them, that a table had already.
    pub(crate) replayed: Counter,
    /// Records that came again from dead letters.
    pub(crate) again: Counter,
    /// Batches that were failed for not having landed in time. One that heals stays counted.
    pub(crate) overdue_batches: Counter,
}

impl Metrics {
    /// Registers them (without the process-wide prefix `tributary_`, which they carry in their names).
    pub fn new(registry: &mut Registry) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let metrics = Self {
            records: Family::default(),
            dead_letters: Family::default(),
            chunk_records: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            chunk_bytes: Histogram::new(exponential_buckets(1024.0, 4.0, 10)),
            stages: Family::new_with_constructor(seconds),
            conflicts: Family::default(),
            index_rebuilds: Counter::default(),
            replayed: Counter::default(),
            again: Counter::default(),
            overdue_batches: Counter::default(),
        };
        for rival in Rival::ALL {
            // So that there is one to compare with before the first.
            drop(metrics.conflicts.get_or_create(&rival.label()));
        }
        let Self { records, dead_letters, chunk_records, chunk_bytes, stages, .. } = &metrics;
        let Self { conflicts, index_rebuilds, replayed, again, overdue_batches, .. } = &metrics;
        registry.register("tributary_records", "Records by their outcome", records.clone());
        registry.register("tributary_dead_letters", "Messages put aside", dead_letters.clone());
        registry.register("tributary_chunk_records", "Records of a chunk", chunk_records.clone());
        registry.register_with_unit("tributary_chunk", "Raw size of a chunk", Unit::Bytes, chunk_bytes.clone());
        registry.register_with_unit(
            "tributary_stage_duration",
            "Time that a chunk spent in a stage",
            Unit::Seconds,
            stages.clone(),
        );
        registry.register("tributary_commit_conflicts", "Table commits that lost a race", conflicts.clone());
        registry.register("tributary_index_rebuilds", "Index parts rebuilt from the lake", index_rebuilds.clone());
        registry.register("tributary_replayed_records", "Records skipped as already landed", replayed.clone());
        registry.register(
            "tributary_dead_letters_replayed",
            "Records that came again from dead letters",
            again.clone(),
        );
        registry.register(
            "tributary_overdue_batches",
            "Batches failed for not landing in time",
            overdue_batches.clone(),
        );
        for outcome in ["landed", "overwritten", "unchanged", "rejected", "dead_lettered"] {
            // A counter that is zero must be seen, or a rate over it starts with a gap.
            metrics.count(outcome, 0);
        }
        for topic in Topic::ALL.into_iter().filter(|topic| *topic != Topic::DeadLetters) {
            metrics.dead_letters(topic.name(), 0);
        }
        metrics
    }

    /// Counts a commit that lost a race or got no clear answer.
    pub(crate) fn conflict(&self, rival: Rival) {
        self.conflicts.get_or_create(&rival.label()).inc();
    }

    /// How many did against `rival`.
    #[cfg(test)]
    pub(crate) fn conflicts(&self, rival: Rival) -> u64 {
        self.conflicts.get_or_create(&rival.label()).get()
    }

    /// Counts records that ended in `outcome`.
    pub(crate) fn count(&self, outcome: &'static str, records: u64) {
        self.records.get_or_create(&OutcomeLabel { outcome }).inc_by(records);
    }

    /// Counts messages of a topic that were put aside.
    pub(crate) fn dead_letters(&self, topic: &str, messages: u64) {
        self.dead_letters.get_or_create(&TopicLabel { topic: topic.to_owned() }).inc_by(messages);
    }

    /// Counts what a commit moved.
    pub(crate) fn count_all(&self, outcomes: &Outcomes) {
        self.count("landed", outcomes.landed);
        self.count("overwritten", outcomes.overwritten);
        self.count("unchanged", outcomes.unchanged);
        self.count("dead_lettered", outcomes.dead_lettered);
        self.again.inc_by(outcomes.again);
    }

    /// Records of one outcome so far.
    pub fn records(&self, outcome: &'static str) -> u64 {
        self.records.get_or_create(&OutcomeLabel { outcome }).get()
    }

    pub(crate) fn chunk(&self, records: usize, bytes: usize) {
        self.chunk_records.observe(records as f64);
        self.chunk_bytes.observe(bytes as f64);
    }

    pub(crate) fn stage(&self, stage: &'static str, took: Duration) {
        self.stages.get_or_create(&StageLabel { stage }).observe(took.as_secs_f64());
    }
}
