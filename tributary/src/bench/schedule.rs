//! When each request is due. Pure.

use std::time::Duration;

const NANOS: u128 = 1_000_000_000;

/// Requests of `batch` records at `rate` records per second for `duration`; rate 0: no times, as fast as it goes.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    rate: u64,
    batch: u64,
    duration: Duration,
}

impl Schedule {
    /// `batch` is at least 1.
    pub fn new(rate: u64, batch: u64, duration: Duration) -> Self {
        Self { rate, batch: batch.max(1), duration }
    }

    /// The load's length, without what is made up for afterwards.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Whether requests have a time at which they are due.
    pub fn has_rate(&self) -> bool {
        self.rate > 0
    }

    /// When request `n` (from 0) is due after the start; none without a rate.
    pub fn due(&self, n: u64) -> Option<Duration> {
        if self.rate == 0 {
            return None;
        }
        let nanos = u128::from(n) * u128::from(self.batch) * NANOS / u128::from(self.rate);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Requests that are due before `elapsed`, at most those of the whole run; none without a rate.
    pub fn due_before(&self, elapsed: Duration) -> Option<u64> {
        if self.rate == 0 {
            return None;
        }
        let until = elapsed.min(self.duration).as_nanos();
        let requests = (until * u128::from(self.rate)).div_ceil(u128::from(self.batch) * NANOS);
        Some(u64::try_from(requests).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn requests_are_due_in_order_evenly_and_as_many_as_the_rate_asks(
            rate in 1..2_000_000u64, batch in 1..1_001u64, millis in 1..100_000u64,
        ) {
            let schedule = Schedule::new(rate, batch, Duration::from_millis(millis));
            let all = schedule.due_before(Duration::MAX).expect("a rate");
            let records = u128::from(all) * u128::from(batch);
            let asked = u128::from(rate) * u128::from(millis) / 1_000;
            prop_assert!(records.abs_diff(asked) <= u128::from(batch), "{records} records, {asked} asked for");
            let end = schedule.duration();
            prop_assert!(schedule.due(all - 1).expect("a rate") < end);
            // The moment is cut to a whole nanosecond.
            prop_assert!(schedule.due(all).expect("a rate") + Duration::from_nanos(1) >= end);
            let step = batch as f64 / rate as f64;
            for n in [0, all / 3, all / 2] {
                let gap = schedule.due(n + 1).expect("a rate") - schedule.due(n).expect("a rate");
                prop_assert!((gap.as_secs_f64() - step).abs() < 1e-8);
            }
        }

        #[test]
        fn what_is_due_before_a_moment_is_what_has_an_earlier_moment(
            rate in 1..5_000u64, batch in 1..50u64, at in 0..4_000u64,
        ) {
            let schedule = Schedule::new(rate, batch, Duration::from_secs(3));
            let elapsed = Duration::from_millis(at);
            let count = schedule.due_before(elapsed).expect("a rate");
            let all = (0u64..).take_while(|n| {
                u128::from(*n) * u128::from(batch) * NANOS
                    < elapsed.min(schedule.duration()).as_nanos() * u128::from(rate)
            });
            prop_assert_eq!(count, all.count() as u64);
        }
    }

    #[test]
    fn without_a_rate_nothing_is_due() {
        let schedule = Schedule::new(0, 100, Duration::from_secs(1));
        assert_eq!((schedule.due(7), schedule.due_before(Duration::from_secs(1))), (None, None));
    }
}
