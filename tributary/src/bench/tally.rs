//! What came back, in bounded memory.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// An hour in microseconds; what takes longer counts as an hour.
const LONGEST: u64 = 3_600_000_000;

/// Durations to three significant digits.
#[derive(Debug)]
pub struct Durations(Histogram<u64>);

impl Durations {
    /// None yet.
    ///
    /// # Errors
    /// Never, for these bounds.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST, 3)?))
    }

    /// One more.
    pub fn add(&mut self, duration: Duration) {
        self.0.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(LONGEST).max(1));
    }

    /// Their percentiles.
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        Percentiles {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1_000.0,
        }
    }
}

/// In milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Percentiles {
    /// Of so many.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// Nine of ten are quicker.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

/// Counts and times of a run.
#[derive(Debug)]
pub struct Tally {
    /// From the moment a request was due until its last answer.
    pub from_due: Durations,
    /// From the first byte of a request that was accepted to its `202`.
    pub service: Durations,
    /// From the `202` until the batch is in the lake, of a sample; of those not in the lake in time how long that was.
    pub freshness: Durations,
    /// Batches of that sample that were not in the lake in time.
    pub not_landed: u64,
    /// Requests that left late because their bodies were not made in time.
    pub made_late: u64,
    /// Requests begun.
    pub begun: u64,
    /// Requests accepted.
    pub requests: u64,
    /// Records accepted.
    pub accepted: u64,
    /// Records rejected, or in a request that was refused.
    pub rejected: u64,
    /// Records of requests that were given up.
    pub given_up: u64,
    /// Records accepted that were no later version of another.
    pub identities: u64,
    /// Of the bodies accepted, before compression.
    pub bytes: u64,
    /// Requests by status, or `no answer`; every try counts.
    pub answers: BTreeMap<String, u64>,
    /// What was first said instead of `202`.
    pub first_error: Option<String>,
}

impl Tally {
    /// Nothing yet.
    ///
    /// # Errors
    /// See [`Durations::new`].
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            from_due: Durations::new()?,
            service: Durations::new()?,
            freshness: Durations::new()?,
            not_landed: 0,
            made_late: 0,
            begun: 0,
            requests: 0,
            accepted: 0,
            rejected: 0,
            given_up: 0,
            identities: 0,
            bytes: 0,
            answers: BTreeMap::new(),
            first_error: None,
        })
    }

    /// Notes what was said, if it is the first.
    pub fn error(&mut self, text: &str) {
        self.first_error.get_or_insert_with(|| text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_milliseconds() {
        let mut durations = Durations::new().expect("bounds");
        (1..=1_000).for_each(|millis| durations.add(Duration::from_millis(millis)));
        let found = durations.percentiles();
        for (value, wanted) in
            [(found.p50, 500.0), (found.p90, 900.0), (found.p99, 990.0), (found.p999, 999.0), (found.max, 1_000.0)]
        {
            assert!((value / wanted - 1.0).abs() < 0.002, "{found:?}");
        }
        durations.add(Duration::MAX);
        assert_eq!(durations.percentiles().count, 1_001);
    }
}
