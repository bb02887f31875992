//! Up to when it is settled what has landed: everything appended before that moment has been taken through its lane, and
//! what its lane said of it is in the tables. Pure.
//!
//! A batch that was accepted before and has not landed never will, unless somebody sets the lanes back: its records did
//! not all reach the log. One accepted after may merely be waiting its turn behind a pipeline that was stopped for an
//! hour, and must not be called failed for that.

use std::{collections::VecDeque, time::Duration};
use tributary_backends::log::Progress;

/// What a look at the log found, in this order: the lanes first, so that what they had said by then is below the end of
/// the events.
#[derive(Debug, Clone)]
pub struct Look {
    /// Of the wall clock, microseconds since the Unix epoch; taken before the rest.
    pub at: i64,
    /// How far the lanes are.
    pub lanes: Vec<Progress>,
    /// How far the facts are that lanes have said.
    pub events: Vec<Progress>,
}

/// Up to when it is known what has landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Microseconds since the Unix epoch.
    pub until: i64,
    /// Some partition stands still and was not waited for: what it holds may land once that is mended.
    pub but_for_some: bool,
}

/// What was seen of the log so far.
#[derive(Debug)]
pub struct Passage {
    /// A partition that does not move for so long is not waited for.
    patience: Duration,
    looks: VecDeque<Look>,
    lanes: Vec<Moved>,
    events: Vec<Moved>,
}

/// Where a partition was seen, and since when it stands there with something to do.
#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    done: i64,
    since: i64,
}

/// Looks that are kept.
const LOOKS: usize = 128;

impl Passage {
    /// Nothing was seen yet. What does not move for `patience` although it has something to do is not waited for.
    pub fn new(patience: Duration) -> Self {
        Self { patience, looks: VecDeque::new(), lanes: Vec::new(), events: Vec::new() }
    }

    /// Takes a new look; up to when it is settled what has landed, if that is known of any time.
    pub fn observe(&mut self, look: Look) -> Option<Settled> {
        follow(&mut self.lanes, &look.lanes, look.at);
        follow(&mut self.events, &look.events, look.at);
        let some_stand = |moved: &[Moved], now: &[Progress]| {
            let mut pairs = moved.iter().zip(now);
            pairs.any(|(moved, now)| self.stands(moved, now, look.at))
        };
        let but_for_some = some_stand(&self.lanes, &look.lanes) || some_stand(&self.events, &look.events);
        self.looks.push_back(look);
        let until = self.settled();
        self.forget(until);
        Some(Settled { until: until?, but_for_some })
    }

    fn settled(&self) -> Option<i64> {
        let now = self.looks.back()?;
        let at = now.at;
        // The newest look at whose time nothing had been said that is not in the tables by now.
        let said = |look: &&Look| {
            let mut events = now.events.iter().zip(&look.events).zip(&self.events);
            events.all(|((now, then), moved)| now.done >= then.high || self.stands(moved, now, at))
        };
        let said = self.looks.iter().rposition(|look| said(&look))?;
        let at_that_time = self.looks.get(said)?;
        // The newest look whose ends the lanes had reached then.
        let passed = |look: &&Look| {
            let mut lanes = at_that_time.lanes.iter().zip(&look.lanes).zip(self.lanes.iter().zip(&now.lanes));
            lanes.all(|((done, end), (moved, now))| done.done >= end.high || self.stands(moved, now, at))
        };
        self.looks.iter().take(said + 1).rfind(passed).map(|look| look.at)
    }

    /// Has stood with something to do for longer than anybody should wait.
    fn stands(&self, moved: &Moved, now: &Progress, at: i64) -> bool {
        let stood = u64::try_from(at - moved.since).unwrap_or(0);
        now.done < now.high && Duration::from_micros(stood) >= self.patience
    }

    /// Looks before the one that is settled answer nothing any more. Of too many every other one goes.
    fn forget(&mut self, settled: Option<i64>) {
        let Some(settled) = settled else { return self.thin() };
        while self.looks.front().is_some_and(|look| look.at < settled) {
            self.looks.pop_front();
        }
        self.thin();
    }

    fn thin(&mut self) {
        if self.looks.len() > LOOKS {
            let mut n = 0u32;
            self.looks.retain(|_| {
                n += 1;
                // The first and the newest, number `LOOKS` + 1, stay.
                n % 2 == 1
            });
        }
    }
}

fn follow(moved: &mut Vec<Moved>, progress: &[Progress], at: i64) {
    moved.resize(progress.len(), Moved { done: -1, since: at });
    for (moved, progress) in moved.iter_mut().zip(progress) {
        if moved.done != progress.done || progress.done >= progress.high {
            *moved = Moved { done: progress.done, since: at };
        }
    }
}

#[cfg(test)]
#[path = "tests/passage.rs"]
mod tests;
