//! When to try again, and how long to wait. Pure.

use std::time::Duration;

/// What an answer's status asks of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The batch is accepted.
    Accepted,
    /// The same request may succeed later.
    Retry,
    /// This batch can never be accepted as it is.
    Refused,
    /// No batch can be accepted: wrong key, wrong address.
    Denied,
}

/// Sorts a status.
pub fn verdict(status: u16) -> Verdict {
    match status {
        202 => Verdict::Accepted,
        408 | 425 | 429 | 500 | 502 | 503 | 504 => Verdict::Retry,
        400 | 413 | 422 => Verdict::Refused,
        _ => Verdict::Denied,
    }
}

/// Exponential backoff with jitter.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Wait before the second try.
    pub first: Duration,
    /// No wait is longer, unless the server asks for it.
    pub longest: Duration,
    /// Time since a batch's first failure after which no further try is made.
    pub give_up_after: Duration,
}

impl Policy {
    /// The wait after failure number `failures` (from 1). `jitter` is in 0..1, so that many clients do not come back at
    /// the same moment; never less than the server asked for.
    pub fn wait(&self, failures: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
        let own = doubled.min(self.longest).mul_f64(0.5 + jitter / 2.0);
        match retry_after {
            Some(asked) => asked + self.first.mul_f64(jitter),
            None => own,
        }
    }

    /// True when a wait that ends `after` the first failure is still worth it.
    pub fn allows(&self, after: Duration) -> bool {
        after <= self.give_up_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        first: Duration::from_millis(200),
        longest: Duration::from_secs(10),
        give_up_after: Duration::from_secs(60),
    };

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<u128> = (1..=8).map(|failures| POLICY.wait(failures, None, 1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(POLICY.wait(u32::MAX, None, 0.0).as_millis(), 5_000);
    }

    #[test]
    fn never_earlier_than_asked_and_not_all_at_once() {
        let asked = Some(Duration::from_secs(30));
        assert_eq!(POLICY.wait(1, asked, 0.0).as_millis(), 30_000);
        assert_eq!(POLICY.wait(9, asked, 0.5).as_millis(), 30_100);
        assert_ne!(POLICY.wait(3, None, 0.1), POLICY.wait(3, None, 0.9));
    }

    #[test]
    fn statuses() {
        for (status, expected) in [
            (202, Verdict::Accepted),
            (429, Verdict::Retry),
            (500, Verdict::Retry),
            (503, Verdict::Retry),
            (400, Verdict::Refused),
            (413, Verdict::Refused),
            (401, Verdict::Denied),
            (403, Verdict::Denied),
            (404, Verdict::Denied),
            (200, Verdict::Denied),
        ] {
            assert_eq!(verdict(status), expected, "{status}");
        }
    }
}
