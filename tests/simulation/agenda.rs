//! What happens when, in virtual milliseconds; and the dice.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};
use tributary_backends::world::TestWorld;

/// Virtual milliseconds since the beginning.
pub(crate) type Ms = u64;

/// Something that is to happen to one of the parts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// A sender has something to send, or may come back.
    Send(usize),
    Retry(usize),
    /// A process of the API looks at the lanes.
    Look(usize),
    /// A worker may take its next chunk.
    Take(usize),
    /// A worker has written one table's part of its chunk and commits it.
    Put(usize, usize),
    /// The grace of a worker that was told to stop is over.
    Abandon(usize),
    /// The brokers have heard nothing of a process for a session.
    Session(usize),
    /// A process that was paused goes on.
    Wake(usize),
    /// The scenario's next act.
    Act(usize),
    /// The sweep, and the watch over the lag, look at the lanes.
    Watch,
}

#[derive(Debug)]
struct Entry {
    at: Ms,
    n: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.n).cmp(&(other.at, other.n))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// Events in the order of their times, those of one moment in the order in which they were planned.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    pub(crate) now: Ms,
    planned: u64,
    waiting: BinaryHeap<Reverse<Entry>>,
}

impl Agenda {
    pub(crate) fn plan(&mut self, at: Ms, event: Event) {
        self.planned += 1;
        self.waiting.push(Reverse(Entry { at: at.max(self.now), n: self.planned, event }));
    }

    /// The next event before `until`, to which time moves on.
    pub(crate) fn next(&mut self, until: Ms) -> Option<Event> {
        if self.waiting.peek().is_none_or(|Reverse(entry)| entry.at >= until) {
            self.now = self.now.max(until);
            return None;
        }
        let Reverse(Entry { at, event, .. }) = self.waiting.pop()?;
        self.now = at;
        Some(event)
    }
}

/// Seeded chance.
#[derive(Debug)]
pub(crate) struct Dice(TestWorld);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(TestWorld::new(seed))
    }

    pub(crate) fn bits(&self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn below(&self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Around `mean`, from half of it to one and a half.
    pub(crate) fn about(&self, mean: Ms) -> Ms {
        mean / 2 + self.bits() % mean.max(1)
    }

    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.bits().is_multiple_of(n)
    }
}
