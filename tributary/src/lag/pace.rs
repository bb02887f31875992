//! How quickly one partition is taken, and for how long it has stood still. Pure.
//!
//! The *rate* is what a partition does while it has something to do, and nothing else goes into it: it is measured since
//! something waits, and since it last began to move again after it had stood still. What waits divided by it is when the
//! partition has drained, because a partition is a queue: what comes later waits behind it.

use std::{collections::VecDeque, time::Duration};

/// Rates are of this long at most, so that they follow.
const WINDOW: Duration = tributary_backends::lately::LATELY;
/// And of no less: a rate of one moment says nothing.
const SHORTEST: Duration = Duration::from_millis(500);
/// Moving nothing for this long although something waits, and its owner is not at rest, is no pause between two chunks.
pub const STANDSTILL: Duration = Duration::from_secs(5);
/// Who has not looked for so long, which is longer than a look can take, was paused, and does not know what happened when.
const AWAY: Duration = Duration::from_secs(15);
/// Moves that are kept.
const MOVES: usize = 256;
/// How many times are kept at which the end was somewhere: more are thinned out, evenly.
const ENDS: usize = 128;

/// One look at a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// When, on a clock that never goes back.
    pub at: Duration,
    /// Everything below this offset is done.
    pub done: i64,
    /// One past the last offset.
    pub high: i64,
    /// How long its owner may rest between two commits although something waits.
    pub rest: Duration,
}

/// What the looks so far say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Records done per second, lately.
    pub throughput: Option<f64>,
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
    last: Option<Look>,
    /// Since when everything below an offset is done: the first look, and each that saw it move.
    moves: VecDeque<(Duration, i64)>,
    /// Where the end was when: at the last look that did not see the oldest that waits, and at those from then on.
    ends: VecDeque<(Duration, i64)>,
    /// Since when it stands where it is with something to do.
    still_since: Duration,
    /// Since when it has moved without standing still.
    busy_since: Option<Duration>,
}

impl Pace {
    /// Takes a new look, not earlier than the one before.
    pub fn observe(&mut self, look: Look) -> Reading {
        let Look { at, done, high, rest } = look;
        if self.last.is_some_and(|last| done < last.done || high < last.high) {
            // The group was set back, or the log is another one.
            *self = Self::default();
        }
        self.follow(&look);
        self.remember_end(&look);
        self.last = Some(look);
        let waits = done < high;
        let still = if waits { at - self.still_since } else { Duration::ZERO };
        let rate = match self.busy_since {
            _ if !waits => None,
            _ if still >= STANDSTILL + rest => Some(0.0),
            Some(since) => self.rate(since),
            None => None,
        };
        Reading { throughput: self.throughput(&look), rate, still, waited: self.waited(&look) }
    }

    fn follow(&mut self, now: &Look) {
        let Some(last) = self.last else {
            self.still_since = now.at;
            self.moves.push_back((now.at, now.done));
            return;
        };
        if now.done > last.done {
            let stood = last.at.saturating_sub(self.still_since) >= STANDSTILL + now.rest;
            let rested = last.done >= last.high || stood;
            if now.at.saturating_sub(last.at) >= AWAY {
                self.busy_since = Some(now.at);
            } else if rested || self.busy_since.is_none() {
                self.busy_since = Some(last.at);
            }
            self.still_since = now.at;
            self.remember_move(now);
        } else if last.done >= last.high {
            // Nothing waited until now.
            (self.still_since, self.busy_since) = (now.at, None);
        }
        if now.done >= now.high {
            self.busy_since = None;
        }
    }

    /// One from before the window is kept as well: it says where the window begins.
    fn remember_move(&mut self, now: &Look) {
        self.moves.push_back((now.at, now.done));
        let old = |(at, _): &(Duration, i64)| *at + WINDOW.max(now.rest) <= now.at;
        while self.moves.get(1).is_some_and(old) || self.moves.len() > MOVES {
            self.moves.pop_front();
        }
    }

    fn remember_end(&mut self, now: &Look) {
        while self.ends.get(1).is_some_and(|(_, high)| *high <= now.done) {
            self.ends.pop_front();
        }
        // Of the looks that saw the same end the first and the last.
        let same = self.ends.iter().rev().take_while(|(_, high)| *high == now.high).count();
        if same >= 2 || now.high <= now.done {
            self.ends.pop_back();
        }
        self.ends.push_back((now.at, now.high));
        if self.ends.len() > ENDS {
            // That without which the gap is smallest; the first two are about the oldest that waits.
            let gap = |n: &usize| self.ends[n + 1].0 - self.ends[n - 1].0;
            let least = (2..ENDS).min_by_key(gap);
            least.and_then(|n| self.ends.remove(n));
        }
    }

    /// What had been done at a time.
    fn done_at(&self, at: Duration) -> Option<i64> {
        let moved = self.moves.partition_point(|(moved, _)| *moved <= at);
        self.moves.get(moved.saturating_sub(1)).map(|(_, done)| *done)
    }

    /// Per second, from a move to the last: what has been done since then of the next chunk cannot be seen.
    fn rate(&self, since: Duration) -> Option<f64> {
        let &(until, done) = self.moves.back()?;
        let begins = self.moves.partition_point(|(at, _)| *at + WINDOW <= until);
        let known = self.moves[begins.saturating_sub(1)];
        let (from, before) = if known.0 >= since { known } else { (since, self.done_at(since)?) };
        per_second(done - before, until.saturating_sub(from))
    }

    /// Per second, of a window that holds at least one commit of an owner that rests.
    fn throughput(&self, now: &Look) -> Option<f64> {
        let known = self.moves.front()?.0;
        let from = now.at.saturating_sub(WINDOW.max(now.rest)).max(known);
        per_second(now.done - self.done_at(from)?, now.at - from)
    }

    /// The oldest that waits came between the last look that did not see it and the first that did.
    fn waited(&self, now: &Look) -> (Duration, Option<Duration>) {
        if now.done >= now.high {
            return (Duration::ZERO, Some(Duration::ZERO));
        }
        let seen = self.ends.partition_point(|(_, high)| *high <= now.done);
        let ago = |(at, _): &(Duration, i64)| now.at - *at;
        let least = self.ends.get(seen).map_or(Duration::ZERO, ago);
        (least, seen.checked_sub(1).and_then(|before| self.ends.get(before)).map(ago))
    }
}

/// So many records in so long; `None` when that is too short to say anything.
pub fn per_second(records: i64, passed: Duration) -> Option<f64> {
    (passed >= SHORTEST).then(|| records as f64 / passed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64, done: i64, high: i64) -> Look {
        Look { at: Duration::from_secs(seconds), done, high, rest: Duration::ZERO }
    }

    fn after(looks: impl IntoIterator<Item = Look>) -> Reading {
        let mut pace = Pace::default();
        looks.into_iter().map(|look| pace.observe(look)).last().expect("a look")
    }

    #[test]
    fn what_is_idle_has_no_rate_and_stands_nowhere() {
        let reading = after((0..100).map(|n| at(n, 7, 7)));
        let nothing = (Duration::ZERO, Some(Duration::ZERO));
        let expected = Reading { throughput: Some(0.0), rate: None, still: Duration::ZERO, waited: nothing };
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

    /// It commits every 300 s what 10 records a second have come to.
    #[test]
    fn an_owner_that_rests_between_two_commits_does_not_stand_still() {
        let rests = |seconds: u64| {
            let done = seconds as i64 / 300 * 3_000;
            Look { rest: Duration::from_secs(300), ..at(seconds, done, seconds as i64 * 10 + 1) }
        };
        let mut pace = Pace::default();
        let readings: Vec<_> = (0..2_000).step_by(2).map(|n| (n, pace.observe(rests(n)))).collect();
        let steady: Vec<_> = readings.into_iter().filter(|(n, _)| *n > 700).collect();
        assert!(steady.iter().all(|(_, one)| one.rate == Some(10.0) && one.throughput == Some(10.0)), "{steady:?}");
        let longest = steady.iter().map(|(_, one)| one.still).max();
        assert_eq!(longest, Some(Duration::from_secs(298)));
        let oldest = steady.last().map(|(n, one)| (*n, one.waited));
        assert_eq!(oldest, Some((1_998, (Duration::from_secs(198), Some(Duration::from_secs(200))))));
        let dies = (0..900).map(|n| Look { done: rests(n).done.min(3_000), ..rests(n) });
        assert_eq!(after(dies).rate, Some(0.0), "600 s are too long for a rest of 300");
    }

    /// However long ago it was: clocks are not asked.
    #[test]
    fn what_was_seen_to_come_keeps_its_age() {
        let stands = (0..5_000).map(|n| at(n * 2, 5, if n < 100 { 5 } else { n as i64 }));
        let reading = after(stands.clone());
        assert_eq!(reading.waited, (Duration::from_secs(9_798), Some(Duration::from_secs(9_800))));
        assert_eq!(reading.still, Duration::from_secs(9_798));
        // Then it is done from the oldest on: record n came at second 2n.
        let drains = (5_000..5_400).map(|n| at(n * 2, (n as i64 - 4_999) * 10, n as i64));
        let mut pace = Pace::default();
        stands.for_each(|look| _ = pace.observe(look));
        for look in drains {
            let (least, most) = pace.observe(look).waited;
            let really = look.at - Duration::from_secs(look.done as u64 * 2).max(Duration::from_secs(200));
            let most = most.expect("it saw everything come");
            assert!((least..=most + Duration::from_secs(2)).contains(&really), "{least:?} {really:?} {most:?}");
            assert!(most - least < Duration::from_secs(400), "{least:?} to {most:?} at {look:?}");
        }
        assert!(pace.ends.len() <= ENDS && pace.moves.len() <= MOVES);
    }
}
