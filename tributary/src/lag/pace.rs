//! How quickly one partition is taken, and for how long it has stood still. Pure.
//!
//! The *rate* is what a partition does while it has something to do, and nothing else goes into it: it is measured since
//! something waits, and since it last began to move again after it had stood still. What waits divided by it is when the
//! partition has drained, because a partition is a queue: what comes later waits behind it.

use std::{collections::VecDeque, time::Duration};

/// Rates are of this long at most, so that they follow.
const WINDOW: Duration = Duration::from_secs(60);
/// And of no less: a rate of one moment says nothing.
const SHORTEST: Duration = Duration::from_millis(500);
/// Moving nothing for this long although something waits is no pause between two chunks.
pub const STANDSTILL: Duration = Duration::from_secs(5);
/// Who has not looked for so long, which is longer than a look can take, was paused, and does not know what happened when.
const AWAY: Duration = Duration::from_secs(15);
/// Looks that are kept.
const LOOKS: usize = 256;

/// One look at a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// When, on a clock that never goes back.
    pub at: Duration,
    /// Everything below this offset is done.
    pub done: i64,
    /// One past the last offset.
    pub high: i64,
}

/// What the looks so far say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Records done per second, lately.
    pub throughput: Option<f64>,
    /// Records that came per second, lately.
    pub arrivals: Option<f64>,
    /// Records per second while there is something to do; zero once it stands still.
    pub rate: Option<f64>,
    /// How long it has moved nothing although something waits.
    pub still: Duration,
    /// How long the oldest one that waits has waited at least, and at most if that is known.
    pub waited: (Duration, Option<Duration>),
}

/// What is remembered of one partition.
#[derive(Debug, Default)]
pub struct Pace {
    looks: VecDeque<Look>,
    /// Since when it stands where it is with something to do.
    still_since: Duration,
    /// Since when it has moved without standing still.
    busy_since: Option<Duration>,
}

impl Pace {
    /// Takes a new look, not earlier than the one before.
    pub fn observe(&mut self, look: Look) -> Reading {
        let Look { at, done, high } = look;
        if self.looks.back().is_some_and(|last| done < last.done || high < last.high) {
            // The group was set back, or the log is another one.
            *self = Self::default();
        }
        self.follow(&look);
        self.looks.push_back(look);
        self.forget(at);
        let waits = done < high;
        let still = if waits { at - self.still_since } else { Duration::ZERO };
        let rate = match self.busy_since {
            _ if !waits => None,
            _ if still >= STANDSTILL => Some(0.0),
            // Up to when it last moved: what has been done since then of the next chunk cannot be seen.
            Some(since) => self.per_second(since, self.still_since, |look| look.done),
            None => None,
        };
        let throughput = self.per_second(Duration::ZERO, at, |look| look.done);
        let arrivals = self.per_second(Duration::ZERO, at, |look| look.high);
        Reading { throughput, arrivals, rate, still, waited: self.waited(&look) }
    }

    fn follow(&mut self, now: &Look) {
        let Some(last) = self.looks.back() else {
            self.still_since = now.at;
            return;
        };
        if now.done > last.done {
            let rested = last.done >= last.high || last.at.saturating_sub(self.still_since) >= STANDSTILL;
            if now.at.saturating_sub(last.at) >= AWAY {
                self.busy_since = Some(now.at);
            } else if rested || self.busy_since.is_none() {
                self.busy_since = Some(last.at);
            }
            self.still_since = now.at;
        } else if last.done >= last.high {
            // Nothing waited until now.
            (self.still_since, self.busy_since) = (now.at, None);
        }
        if now.done >= now.high {
            self.busy_since = None;
        }
    }

    /// By how much something grew, per second, since `since` as far as the looks go back.
    fn per_second(&self, since: Duration, at: Duration, of: impl Fn(&Look) -> i64) -> Option<f64> {
        let from = since.max(at.saturating_sub(WINDOW));
        let before = self.looks.partition_point(|look| look.at <= from).saturating_sub(1);
        let (first, last) = (self.looks.get(before)?, self.looks.back()?);
        let passed = at - first.at;
        (passed >= SHORTEST).then(|| (of(last) - of(first)) as f64 / passed.as_secs_f64())
    }

    /// The oldest that waits came between the last look that did not see it and the first that did.
    fn waited(&self, now: &Look) -> (Duration, Option<Duration>) {
        if now.done >= now.high {
            return (Duration::ZERO, Some(Duration::ZERO));
        }
        let seen = self.looks.partition_point(|look| look.high <= now.done);
        let least = self.looks.get(seen).map_or(Duration::ZERO, |look| now.at - look.at);
        let most = seen.checked_sub(1).and_then(|before| self.looks.get(before)).map(|look| now.at - look.at);
        (least, most)
    }

    fn forget(&mut self, at: Duration) {
        while self.looks.get(1).is_some_and(|next| next.at + WINDOW <= at) || self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64, done: i64, high: i64) -> Look {
        Look { at: Duration::from_secs(seconds), done, high }
    }

    fn after(looks: impl IntoIterator<Item = Look>) -> Reading {
        let mut pace = Pace::default();
        looks.into_iter().map(|look| pace.observe(look)).last().expect("a look")
    }

    #[test]
    fn what_is_idle_has_no_rate_and_stands_nowhere() {
        let reading = after((0..100).map(|n| at(n, 7, 7)));
        let nothing = (Duration::ZERO, Some(Duration::ZERO));
        let expected =
            Reading { throughput: Some(0.0), arrivals: Some(0.0), rate: None, still: Duration::ZERO, waited: nothing };
        assert_eq!(reading, expected);
    }

    #[test]
    fn who_looked_away_measures_from_the_moment_that_it_sees_something_move() {
        let before = (0..10).map(|n| at(n, 0, 10_000));
        let first = at(40, 1_000, 10_000);
        assert_eq!(after(before.clone().chain([first])).rate, None);
        assert_eq!(after(before.chain([first, at(42, 3_000, 10_000)])).rate, Some(1_000.0));
    }

    #[test]
    fn a_backlog_after_a_standstill_drains_at_the_rate_since_then() {
        let stands = (0..100).map(|n| at(n, 0, 10_000));
        assert_eq!(after(stands.clone()).rate, Some(0.0));
        assert_eq!(after(stands.clone()).still, Duration::from_secs(99));
        let drains = (100..110).map(|n| at(n, (n as i64 - 99) * 500, 10_000));
        let reading = after(stands.chain(drains));
        assert_eq!((reading.rate, reading.still), (Some(500.0), Duration::ZERO));
    }

    #[test]
    fn quiet_times_do_not_count() {
        let quiet = (0..50).map(|n| at(n, 100, 100));
        let busy = (50..60).map(|n| at(n, 100 + (n as i64 - 50) * 30, 5_000));
        let reading = after(quiet.chain(busy));
        assert_eq!(reading.rate, Some(30.0));
        assert!(reading.throughput.is_some_and(|all| all < 6.0), "{reading:?}");
    }

    #[test]
    fn it_follows_a_change() {
        let slow = (0..100).map(|n| at(n, n as i64, 1_000_000));
        let quick = (100..200).map(|n| at(n, 100 + (n as i64 - 100) * 1_000, 1_000_000));
        assert_eq!(after(slow.chain(quick)).rate, Some(1_000.0));
    }

    #[test]
    fn right_after_a_start_little_is_known_and_nothing_is_made_up() {
        let reading = after([at(0, 5, 100)]);
        assert_eq!((reading.rate, reading.throughput, reading.waited), (None, None, (Duration::ZERO, None)));
        let back = after([at(0, 50, 100), at(1, 60, 100), at(2, 10, 100)]);
        assert_eq!((back.rate, back.throughput), (None, None), "a group that was set back begins anew");
    }

    #[test]
    fn the_oldest_came_between_two_looks() {
        let reading = after([at(0, 5, 5), at(2, 5, 5), at(4, 5, 9), at(6, 5, 12)]);
        assert_eq!(reading.waited, (Duration::from_secs(2), Some(Duration::from_secs(4))));
        let some_done = after([at(0, 5, 5), at(2, 5, 5), at(4, 5, 9), at(6, 9, 12)]);
        assert_eq!(some_done.waited, (Duration::ZERO, Some(Duration::from_secs(2))));
    }
}
