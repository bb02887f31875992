//! For tests: how much a log says.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

/// Counts the lines of a log, down to a level.
#[derive(Debug, Clone)]
pub struct Lines(Level, Arc<AtomicUsize>);

impl Lines {
    /// Counts those of this level and of graver ones.
    pub fn down_to(level: Level) -> Self {
        Self(level, Arc::default())
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }
}

impl Subscriber for Lines {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        *about.level() <= self.0
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
