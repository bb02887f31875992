//! What every task of the pipeline works with.

use crate::{
    config::Config,
    holdings::Holdings,
    lake::Lake,
    metrics::Metrics,
    trouble::{Patience, Trouble, patiently},
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Semaphore;
use tributary_backends::{
    log::{Append, RecordLog, Topic},
    said::Said,
    tables::Tables,
    world::World,
};
use tributary_schemas::{
    frame::{DeadLetter, Frame},
    identity::partition_of,
};

/// Permits of [`Context::readings`].
pub(crate) const READINGS: usize = 2;

/// Unit in which the memory budget is handed out, so that 4 GiB and more fit a semaphore's `u32`.
pub(crate) const BUDGET_UNIT: usize = 1024;

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) log: Arc<dyn RecordLog>,
    pub(crate) tables: Arc<dyn Tables>,
    pub(crate) lake: Lake,
    pub(crate) world: Arc<dyn World>,
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) patience: Patience,
    /// Of dead letters, which may come by the million.
    pub(crate) said: Said,
    pub(crate) health: Health,
    pub(crate) holdings: Holdings,
    /// Index parts that are read at once beside the work.
    pub(crate) readings: Semaphore,
    /// Raw bytes that lanes may hold, in [`BUDGET_UNIT`]s.
    pub(crate) budget: Arc<Semaphore>,
}

/// What a group waits for that was just joined.
pub(crate) const UNSETTLED: &str = "has not said yet which part is ours";

/// Which parts of the pipeline have halted, and which are not able yet; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    /// What has halted, and why.
    halted: BTreeMap<String, String>,
    /// What has begun, and what it still waits for.
    beginning: BTreeMap<String, &'static str>,
}

impl Health {
    /// Nothing has halted, or what has and why.
    pub fn check(&self) -> Result<(), String> {
        let faults = self.faults();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }

    /// Nothing has halted, every group has given us our part of its topic, which may be nothing, and every lane of ours
    /// has landed a chunk of what waited for it; or what is missing.
    pub fn ready(&self) -> Result<(), String> {
        self.check()?;
        let missing: Vec<_> = self.parts().beginning.iter().map(|(what, why)| format!("{what} {why}")).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.parts().halted.iter().map(|(what, why)| format!("{what} has halted: {why}")).collect()
    }

    /// A new run has halted nowhere yet, and its groups have given it nothing yet.
    pub(crate) fn begin(&self, groups: impl IntoIterator<Item = String>) {
        let beginning = groups.into_iter().map(|group| (group, UNSETTLED)).collect();
        *self.parts() = Parts { halted: BTreeMap::new(), beginning };
    }

    pub(crate) fn halted(&self, what: &str, why: &str) {
        tracing::error!("{what} has halted, everything else goes on: {why}");
        self.parts().halted.insert(what.to_owned(), why.to_owned());
    }

    /// It is not able before [`Self::able`]. Had it halted, it gets another try.
    pub(crate) fn begins(&self, what: &str, why: &'static str) {
        let mut parts = self.parts();
        parts.halted.remove(what);
        parts.beginning.insert(what.to_owned(), why);
    }

    /// It is able.
    pub(crate) fn able(&self, what: &str) {
        self.parts().beginning.remove(what);
    }

    /// It is no longer ours: whether it is able, or has halted, is for its next owner to say.
    pub(crate) fn given_up(&self, what: &str) {
        let mut parts = self.parts();
        parts.halted.remove(what);
        parts.beginning.remove(what);
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// Appends to a topic, partitioned by each message's key, and waits for a durable answer however long it takes.
    pub(crate) async fn append(&self, topic: Topic, messages: Vec<(Bytes, Bytes)>) -> Result<(), Trouble> {
        if messages.is_empty() {
            return Ok(());
        }
        let messages = placed(topic, self.log.partitions(topic), messages);
        patiently!(self.patience, "appending to the log", self.log.append(messages.clone())).map(drop)
    }

    /// Puts messages aside that cannot be processed. They may be put aside again after a crash: readers of the topic
    /// tell copies by (topic, partition, offset).
    pub(crate) async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Trouble> {
        for letter in letters {
            let Some(unsaid) = self.said.may_say(&format!("{} {}", letter.topic, letter.stage)) else { continue };
            tracing::warn!(
                unsaid,
                topic = letter.topic,
                partition = letter.partition,
                offset = letter.offset,
                stage = letter.stage,
                "a message goes to dead-letters: {}",
                letter.reason
            );
        }
        self.append(Topic::DeadLetters, keyed(letters)).await?;
        for letter in letters {
            self.metrics.dead_letters(&letter.topic, 1);
        }
        Ok(())
    }
}

/// Each in the partition of its key.
pub(crate) fn placed(topic: Topic, partitions: u32, messages: Vec<(Bytes, Bytes)>) -> Vec<Append> {
    let append = |(key, value): (Bytes, Bytes)| {
        let partition = partition_of(&key, partitions);
        Append { topic, partition, key, value }
    };
    messages.into_iter().map(append).collect()
}

/// Encoded, with their keys.
pub(crate) fn keyed(letters: &[DeadLetter]) -> Vec<(Bytes, Bytes)> {
    letters.iter().map(|letter| (Bytes::from(letter.key.clone()), encode(letter))).collect()
}

pub(crate) fn encode(frame: &impl Frame) -> Bytes {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes.into()
}
