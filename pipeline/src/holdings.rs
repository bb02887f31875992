//! Which partitions this process works on, for operators to see.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tributary_backends::log::Topic;

/// By topic and partition: why it has halted, if it has.
type Held = BTreeMap<(Topic, u32), Option<String>>;

/// The partitions of this process, as they come and go; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Holdings(Arc<Mutex<Held>>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Which topic.
    pub topic: Topic,
    /// Which partition.
    pub partition: u32,
    /// Why it has halted, if it has: it is still this process's, and nothing is done with it.
    pub halted: Option<String>,
}

impl Holdings {
    /// Those of this moment.
    pub fn now(&self) -> Vec<Holding> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let holding = |((topic, partition), halted): (&(Topic, u32), &Option<String>)| Holding {
            topic: *topic,
            partition: *partition,
            halted: halted.clone(),
        };
        held.iter().map(holding).collect()
    }

    pub(crate) fn assigned(&self, topic: Topic, partition: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((topic, partition), None);
    }

    pub(crate) fn halted(&self, topic: Topic, partition: u32, why: &str) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.entry((topic, partition)).and_modify(|halted| *halted = Some(why.to_owned()));
    }

    pub(crate) fn released(&self, topic: Topic, partition: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(topic, partition));
    }

    /// The process has left the group that reads `topic`.
    pub(crate) fn left(&self, topic: Topic) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(held, _), _| *held != topic);
    }
}
