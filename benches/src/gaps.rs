//! How long lanes stood still although they had something to do, from how far they were seen to be. Pure.

use std::time::Duration;
use tributary_backends::log::Progress;

/// One look at all lanes.
#[derive(Debug, Clone)]
pub struct Look {
    /// Since the watch began.
    pub at: Duration,
    pub lanes: Vec<Progress>,
}

impl Look {
    /// Records that wait in all lanes.
    pub fn lag(&self) -> i64 {
        self.lanes.iter().map(|lane| lane.high - lane.done).sum()
    }
}

/// The longest time between two commits of the lane while something was to do, of those that ended in `from..=to`. What
/// has not ended by then counts up to the last look.
pub fn longest(looks: &[Look], lane: usize, from: Duration, to: Duration) -> Duration {
    let mut longest = Duration::ZERO;
    let mut before: Option<(i64, Duration)> = None;
    for look in looks.iter().take_while(|look| look.at <= to) {
        let Some(Progress { done, high }) = look.lanes.get(lane).copied() else { continue };
        let (mut since, moved) = match before {
            Some((last, since)) => (since, done != last),
            None => (look.at, false),
        };
        if look.at >= from {
            longest = longest.max(look.at - since);
        }
        if moved || done >= high {
            since = look.at;
        }
        before = Some((done, since));
    }
    longest
}

/// When after `from` no more records waited than `usual` for the first time after the most of all did.
pub fn recovered(looks: &[Look], from: Duration, usual: i64) -> Option<Duration> {
    let after: Vec<&Look> = looks.iter().filter(|look| look.at >= from).collect();
    let (peak, _) = after.iter().enumerate().max_by_key(|(_, look)| look.lag())?;
    after.iter().skip(peak).find(|look| look.lag() <= usual).map(|look| look.at - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(lane: &[(u64, i64, i64)]) -> Vec<Look> {
        let look = |&(ms, done, high): &(u64, i64, i64)| Look {
            at: Duration::from_millis(ms),
            lanes: vec![Progress { done, high }],
        };
        lane.iter().map(look).collect()
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn only_time_with_something_to_do_counts() {
        let looks = looks(&[(0, 0, 0), (100, 0, 0), (200, 0, 5), (300, 0, 5), (400, 5, 6), (500, 6, 6), (900, 6, 6)]);
        assert_eq!(longest(&looks, 0, ms(0), ms(1_000)), ms(400));
        assert_eq!(longest(&looks, 0, ms(450), ms(800)), ms(100));
    }

    #[test]
    fn a_gap_that_has_not_ended_counts_as_far_as_it_was_seen() {
        let looks = looks(&[(0, 0, 1), (100, 1, 9), (200, 1, 9), (5_000, 1, 9)]);
        assert_eq!(longest(&looks, 0, ms(150), ms(6_000)), ms(4_900));
        assert_eq!(recovered(&looks, ms(150), 3), None);
    }

    #[test]
    fn it_has_recovered_once_its_longest_backlog_is_gone() {
        let looks = looks(&[(0, 0, 1), (100, 0, 9), (200, 8, 9), (300, 8, 20), (400, 20, 21), (500, 21, 22)]);
        assert_eq!(recovered(&looks, ms(100), 1), Some(ms(300)));
    }
}
