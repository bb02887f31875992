//! What a run says at its end.

use super::{
    drive::Outcome,
    lag::Lag,
    tally::{Percentiles, Tally},
    workload::Workload,
};
use crate::output::{plain, render};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use std::collections::BTreeMap;

/// The end of a run, `--json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Makes the same records again.
    pub seed: u64,
    /// From the start to the last answer.
    pub seconds: f64,
    /// Records per second asked for; 0: as fast as it goes.
    pub rate: u64,
    /// Ended before its time.
    pub early: bool,
    /// What was due.
    pub due: Amount,
    /// What was accepted.
    pub accepted: Amount,
    /// Of the accepted records, those that are no later version of another: so many rows of tables without older ones.
    pub identities: u64,
    /// Bytes of their JSON.
    pub bytes: u64,
    /// Records accepted per second.
    pub records_per_second: f64,
    /// Bytes accepted per second.
    pub bytes_per_second: f64,
    /// Records that were due and not accepted.
    pub not_accepted: NotAccepted,
    /// From the moment a request was due until its last answer, tries and waits in between included. Without a rate it is due
    /// when it is sent.
    pub from_due_ms: Percentiles,
    /// From the first byte of a request to its `202`.
    pub service_ms: Percentiles,
    /// From the `202` to the lake, of the first batch in each tenth of a second; those that were not in the lake in time count
    /// with the time that they were waited for.
    pub freshness_ms: Percentiles,
    /// Batches of that sample not in the lake in time.
    pub not_landed: u64,
    /// Requests that left late because this program had not made them in time: then the latency is its own, too.
    pub made_late: u64,
    /// Tries by status.
    pub answers: BTreeMap<String, u64>,
    /// Of the lake; none without `--admin`.
    pub lag: Option<Lag>,
    /// What was first said instead of `202`.
    pub first_error: Option<String>,
    /// What ended the run.
    pub error: Option<String>,
}

/// Records and the requests they are in.
#[derive(Debug, Serialize)]
pub struct Amount {
    /// Records.
    pub records: u64,
    /// Requests.
    pub requests: u64,
}

/// Records by why they were not accepted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotAccepted {
    /// The target said no.
    pub rejected: u64,
    /// It said nothing, or to come again, for too long.
    pub given_up: u64,
    /// There was no free connection for them until the end.
    pub unsent: u64,
}

impl Report {
    /// Of a run.
    pub fn new(workload: &Workload, rate: u64, outcome: Outcome, lag: Option<Lag>) -> Self {
        let Outcome { tally, due, took, early, fatal } = outcome;
        let batch = workload.batch as u64;
        let seconds = took.as_secs_f64();
        let per_second = |count: u64| count as f64 / seconds.max(0.001);
        let Tally { requests, accepted, rejected, given_up, identities, bytes, not_landed, made_late, .. } = tally;
        Self {
            seed: workload.seed,
            seconds,
            rate,
            early,
            due: Amount { records: due * batch, requests: due },
            accepted: Amount { records: accepted, requests },
            identities,
            bytes,
            records_per_second: per_second(accepted),
            bytes_per_second: per_second(bytes),
            not_accepted: NotAccepted { rejected, given_up, unsent: (due - tally.begun) * batch },
            from_due_ms: tally.from_due.percentiles(),
            service_ms: tally.service.percentiles(),
            freshness_ms: tally.freshness.percentiles(),
            not_landed,
            made_late,
            answers: tally.answers,
            lag,
            first_error: tally.first_error.map(|error| plain(&error)),
            error: fatal.map(|error| plain(&error)),
        }
    }

    /// True when every record that was due was accepted.
    pub fn is_clean(&self) -> bool {
        self.error.is_none() && self.due.records == self.accepted.records
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.headline()];
        lines.extend(self.shortfall());
        lines.push(String::new());
        let times = [
            (if self.rate == 0 { "from send to answer" } else { "from due to answer" }, &self.from_due_ms),
            ("request to 202", &self.service_ms),
            ("202 to lake (sample)", &self.freshness_ms),
        ];
        let headings = ["MILLISECONDS", "COUNT", "P50", "P90", "P99", "P99.9", "MAX"];
        lines.push(render(&headings, times.map(|(name, times)| row(name, times))));
        lines.push(String::new());
        lines.extend(self.lag_line());
        if self.not_landed > 0 {
            lines.push(format!(
                "{} batches of the sample were not in the lake in time: they count with the time that they were waited for",
                self.not_landed
            ));
        }
        if self.made_late > 0 {
            lines.push(format!("{} requests left late because this machine did not make them in time", self.made_late));
        }
        let answers: Vec<String> = self.answers.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        lines.push(format!("answers, every try: {}", answers.join(", ")));
        lines.extend(self.first_error.iter().map(|error| format!("first error: {error}")));
        lines.push(format!("the same records again: --seed {}", self.seed));
        lines
    }

    fn headline(&self) -> String {
        let asked = match self.rate {
            0 => "as fast as it goes".to_owned(),
            rate => format!("asked for {}/s", HumanCount(rate)),
        };
        format!(
            "{} records ({} identities, {}) accepted in {} requests in {:.1} s: {:.0} records/s, {:.1} MB/s; {asked}{}",
            HumanCount(self.accepted.records),
            HumanCount(self.identities),
            HumanBytes(self.bytes),
            HumanCount(self.accepted.requests),
            self.seconds,
            self.records_per_second,
            self.bytes_per_second / 1e6,
            if self.early { "; ended early" } else { "" },
        )
    }

    fn shortfall(&self) -> Option<String> {
        let NotAccepted { rejected, given_up, unsent } = self.not_accepted;
        (rejected + given_up + unsent > 0).then(|| {
            format!(
                "NOT ACCEPTED: {} records: {rejected} rejected, {given_up} given up, {unsent} never sent because no \
                 connection was free: the target does not keep up, or --connections is too small",
                rejected + given_up + unsent
            )
        })
    }

    fn lag_line(&self) -> Option<String> {
        let lag = self.lag.as_ref()?;
        let Some(max) = lag.max else {
            return Some(format!("lag: not known: {}", plain(lag.error.as_deref().unwrap_or("no answer"))));
        };
        let end = lag
            .end
            .map_or_else(|| "not known".to_owned(), |end| format!("{:.0} records, {:.1} s", end.records, end.seconds));
        Some(format!("lag: at most {:.0} records, {:.1} s; at the end of the load {end}", max.records, max.seconds))
    }
}

fn row(name: &str, times: &Percentiles) -> Vec<String> {
    let all = [times.p50, times.p90, times.p99, times.p999, times.max];
    let shown = all.map(|millis| if times.count == 0 { "-".to_owned() } else { format!("{millis:.1}") });
    [name.to_owned(), times.count.to_string()].into_iter().chain(shown).collect()
}
