//! How far one lane is behind in seconds, how quickly it drains, and whether it can take more. Pure.
//!
//! *Behind* is the time after which a record that is accepted now will be in the lake: what waits, divided by the rate at
//! which the lane has drained lately. The rate says what the lane can do only while it has more to do than it gets
//! done, so it is measured from the moment on since which the oldest waiting record waits, and only once that one
//! has waited for [`LaneLag::overdue`]. Before that, and when the lane does not move at all, the lane is behind by as
//! long as its oldest record has waited. A burst that lands in time is therefore never taken for a lane that is behind,
//! however slowly the lane had been fed before.
//!
//! No message is read for it: a record waits since the first look that saw the lane's end beyond it.

use std::{collections::VecDeque, time::Duration};

/// Looks that are kept. Beyond it every other one goes, so that a lane which stands still for a day is known to.
const LOOKS: usize = 256;
/// The rate is measured over this long at most, so that it follows when processes are added.
const LONGEST_WINDOW: Duration = Duration::from_secs(120);
/// Nobody is told to stay away for longer: the lane may have got help meanwhile.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// One look at a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// When, on a clock that never goes back.
    pub at: Duration,
    /// Everything below this offset is in the lake.
    pub done: i64,
    /// One past the last offset in the log.
    pub high: i64,
}

/// How a lane stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Records that wait.
    pub lag: u64,
    /// Records per second, while it is known.
    pub rate: Option<f64>,
    /// How long a record that is accepted now will wait, as far as can be told.
    pub behind: Duration,
    /// When those that send more than their part may come back; `None` while there is room for all.
    pub crowded: Option<Duration>,
    /// When anybody may come back; `None` while the lane takes more.
    pub refused: Option<Duration>,
}

/// Closes above one mark and opens again below a lower one, so that it does not flap.
#[derive(Debug)]
struct Latch {
    above: Duration,
    below: Duration,
    closed: bool,
}

impl Latch {
    fn new(above: Duration, below: Duration) -> Self {
        Self { above, below, closed: false }
    }

    /// While it is closed: how long until the lane is down to the lower mark, if nothing more comes.
    fn set(&mut self, behind: Duration) -> Option<Duration> {
        self.closed = behind > if self.closed { self.below } else { self.above };
        self.closed.then(|| wait(behind, self.below))
    }
}

/// What is remembered of one lane.
#[derive(Debug)]
pub struct LaneLag {
    limit: Duration,
    /// In order of time; neither offset ever falls.
    looks: VecDeque<Look>,
    /// Since when there was always something overdue.
    busy_since: Option<Duration>,
    crowded: Latch,
    refused: Latch,
}

impl LaneLag {
    /// Nothing is known yet. The lane takes no more once it is behind by more than `limit`, until that is down to half;
    /// and none from those that send more than their part from a quarter of it on, until that is down to half.
    pub fn new(limit: Duration) -> Self {
        let (crowded, refused) = (Latch::new(limit / 4, limit / 8), Latch::new(limit, limit / 2));
        Self { limit, looks: VecDeque::new(), busy_since: None, crowded, refused }
    }

    /// A lane has something overdue when its oldest record has waited for this long: far longer than any chunk takes that
    /// is not held up, far shorter than the limit.
    fn overdue(&self) -> Duration {
        self.limit / 8
    }

    /// Takes a new look, not earlier than the one before, and says how the lane stands by it.
    pub fn observe(&mut self, look: Look) -> Standing {
        let Look { at, done, high } = look;
        if self.looks.back().is_some_and(|last| done < last.done || high < last.high) {
            // The group was set back, or the log is another one: nothing from before holds.
            self.looks.clear();
            self.busy_since = None;
        }
        self.looks.push_back(look);
        let lag = u64::try_from(high.saturating_sub(done)).unwrap_or(0);
        let waited = self.waited(&look);
        let rate = self.rate(&look, waited);
        let behind = match rate {
            Some(rate) if rate > 0.0 => Duration::try_from_secs_f64(lag as f64 / rate).unwrap_or(Duration::MAX),
            _ => waited,
        };
        self.forget(at);
        Standing { lag, rate, behind, crowded: self.crowded.set(behind), refused: self.refused.set(behind) }
    }

    /// How long the oldest waiting record has waited at least.
    fn waited(&self, now: &Look) -> Duration {
        let seen = self.looks.partition_point(|look| look.high <= now.done);
        self.looks.get(seen).map_or(Duration::ZERO, |look| now.at - look.at)
    }

    /// Records per second since the lane has been busy, as far as the window goes back.
    fn rate(&mut self, now: &Look, waited: Duration) -> Option<f64> {
        // One that was busy stays so for longer, or a door would open at the first chunk after it was shut.
        let overdue = if self.busy_since.is_some() { self.overdue() / 2 } else { self.overdue() };
        if waited < overdue || waited.is_zero() {
            self.busy_since = None;
            return None;
        }
        let since = *self.busy_since.get_or_insert(now.at - waited);
        let from = since.max(now.at.saturating_sub(self.window()));
        let before = self.looks.partition_point(|look| look.at <= from).saturating_sub(1);
        let first = self.looks.get(before)?;
        let seconds = (now.at - first.at).as_secs_f64();
        (seconds > 0.0).then(|| (now.done - first.done) as f64 / seconds)
    }

    /// No longer than the limit, so that a lane which stands still is seen to when the limit is over.
    fn window(&self) -> Duration {
        self.limit.min(LONGEST_WINDOW)
    }

    /// Drops looks that no later question can need.
    fn forget(&mut self, now: Duration) {
        let done = self.looks.back().map_or(0, |look| look.done);
        let window = now.saturating_sub(self.window());
        while self.looks.get(1).is_some_and(|next| next.high <= done && next.at <= window) {
            self.looks.pop_front();
        }
        if self.looks.len() > LOOKS {
            let mut n = 0u32;
            self.looks.retain(|_| {
                n += 1;
                // The newest, number `LOOKS` + 1, stays, and the first two, which say since when the oldest record waits.
                n <= 2 || n % 2 == 1
            });
        }
    }
}

/// From so far behind down to a mark, one second a second: in whole seconds.
fn wait(behind: Duration, mark: Duration) -> Duration {
    let wait = behind.saturating_sub(mark).clamp(Duration::from_secs(1), LONGEST_WAIT);
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

#[cfg(test)]
#[path = "lag_tests.rs"]
mod tests;
