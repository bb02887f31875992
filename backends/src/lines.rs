//! For tests: how much a log says.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

/// Counts the lines of a log, down to a level.
#[derive(Debug, Clone)]
pub struct Lines {
    level: Level,
    count: Arc<AtomicUsize>,
    /// Of one subscriber alone, the thread that comes to a line first is asked whether anybody wants it, for all threads.
    _second: Option<Dispatch>,
}

impl Lines {
    /// Counts those of this level and of graver ones.
    pub fn down_to(level: Level) -> Self {
        let first = Self { level, count: Arc::default(), _second: None };
        Self { _second: Some(Dispatch::new(first.clone())), ..first }
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Subscriber for Lines {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        *about.level() <= self.level
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
