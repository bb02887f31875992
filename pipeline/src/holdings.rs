//! Which partitions this process works on, and what it has done there lately, for operators to see.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tributary_backends::{
    lately::{Lately, Window},
    log::Topic,
};

/// What fails for so long is told: what passes sooner is nothing to do about.
const LONG: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// What this task works on.
    static WORK: (Holdings, Topic, u32);
}

/// By topic and partition.
type Held = BTreeMap<(Topic, u32), Part>;

/// What is known of a partition for as long as it is this process's: its next owner begins anew, and so do we when it comes
/// back, for nobody else may count what we have done there as well.
#[derive(Debug)]
struct Part {
    /// Why it has halted, if it has.
    halted: Option<String>,
    /// What it tries again until it works, and since when.
    waits: Option<(Instant, String)>,
    since: Instant,
    /// Of a lane.
    done: Window,
}

/// The partitions of this process, as they come and go; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    /// How long lanes rest between two commits.
    rest: Duration,
    held: Arc<Mutex<Held>>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Which topic.
    pub topic: Topic,
    /// Which partition.
    pub partition: u32,
    /// Why it has halted, if it has: it is still this process's, and nothing is done with it.
    pub halted: Option<String>,
    /// What it waits for, if it has for a while: something fails and is tried again until it works.
    pub waits: Option<String>,
}

impl Holdings {
    /// None yet, of a process whose lanes rest so long between two commits.
    pub(crate) fn new(rest: Duration) -> Self {
        Self { rest, held: Arc::default() }
    }

    /// Those of this moment.
    pub fn now(&self) -> Vec<Holding> {
        let holding = |((topic, partition), part): (&(Topic, u32), &Part)| Holding {
            topic: *topic,
            partition: *partition,
            halted: part.halted.clone(),
            waits: part.waits.as_ref().filter(|(since, _)| since.elapsed() >= LONG).map(|(_, why)| why.clone()),
        };
        self.held().iter().map(holding).collect()
    }

    /// What has been done lately in each lane that this process has, since it has it.
    pub fn lately(&self) -> Vec<Lately> {
        let mut held = self.held();
        let lanes = held.iter_mut().filter(|((topic, _), _)| *topic == Topic::Records);
        lanes.map(|(_, part)| part.done.lately(part.since.elapsed())).collect()
    }

    /// A lane is done with a chunk that has so many records of each of these workspaces, and so many of which none is known.
    pub(crate) fn done(&self, lane: u32, workspaces: &[(String, u64)], unknown: u64) {
        let mut held = self.held();
        let Some(part) = held.get_mut(&(Topic::Records, lane)) else { return };
        let at = part.since.elapsed();
        for (workspace, records) in workspaces {
            part.done.add(at, Some(workspace), *records);
        }
        part.done.add(at, None, unknown);
    }

    pub(crate) fn assigned(&self, topic: Topic, partition: u32) {
        let part = Part { halted: None, waits: None, since: Instant::now(), done: Window::new(self.rest) };
        self.held().insert((topic, partition), part);
    }

    pub(crate) fn halted(&self, topic: Topic, partition: u32, why: &str) {
        self.held().entry((topic, partition)).and_modify(|part| part.halted = Some(why.to_owned()));
    }

    /// Does the work on a partition. What it waits for meanwhile is known: see [`waits`].
    pub(crate) async fn working<W: Future>(&self, topic: Topic, partition: u32, work: W) -> W::Output {
        WORK.scope((self.clone(), topic, partition), work).await
    }

    pub(crate) fn released(&self, topic: Topic, partition: u32) {
        self.held().remove(&(topic, partition));
    }

    /// The process has left the group that reads `topic`.
    pub(crate) fn left(&self, topic: Topic) {
        self.held().retain(|(held, _), _| *held != topic);
    }

    fn waits(&self, topic: Topic, partition: u32, why: Option<String>) {
        let mut held = self.held();
        let Some(part) = held.get_mut(&(topic, partition)) else { return };
        let since = part.waits.take().map_or_else(Instant::now, |(since, _)| since);
        part.waits = why.map(|why| (since, why));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
/// What the partition waits for that this task works on, if it does; nothing any more without a reason.
pub(crate) fn waits(why: Option<String>) {
    // Where no partition is worked on, nobody is told.
    let _ = WORK.try_with(|(holdings, topic, partition)| holdings.waits(*topic, *partition, why));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_fails_for_a_while_is_told_of_the_partition_that_is_worked_on() {
        let holdings = Holdings::default();
        holdings.assigned(Topic::Records, 1);
        let told = || holdings.now()[0].waits.clone();
        waits(Some("nobody's".to_owned()));
        let work = async {
            waits(Some("away".to_owned()));
            assert_eq!(told(), None, "it may pass soon");
            if let Some((since, _)) = holdings.held().values_mut().find_map(|part| part.waits.as_mut()) {
                *since -= LONG;
            }
            assert_eq!(told().as_deref(), Some("away"));
            waits(Some("full".to_owned()));
            assert_eq!(
                told().as_deref(),
                Some("full"),
                "it is what is in the way now, and it is in the way since then"
            );
            waits(None);
            assert_eq!(told(), None);
        };
        holdings.working(Topic::Records, 1, work).await;
    }
}
