//! What a run shows while it goes and says at its end.

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};
use tokio::time::Instant;

/// Between two lines where there is no terminal.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// The end of a run, `--json`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Records accepted, by this run and the one it goes on from.
    pub accepted: u64,
    /// Records rejected by the server, or that could not be sent.
    pub rejected: u64,
    /// Batches that the server accepted.
    pub batches: u64,
    /// Records that an earlier run had already delivered.
    pub already_sent: u64,
    /// Bytes of JSON in the batches of this run.
    pub bytes: u64,
    /// Wall-clock time.
    pub seconds: f64,
    /// Where the rejected records are, if there are any.
    pub rejected_file: Option<PathBuf>,
    /// What is wrong with them.
    pub errors_file: Option<PathBuf>,
    /// With `--wait`: batches that are `COMPLETE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete: Option<u64>,
    /// What ended the run before its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Summary {
    /// True when a script need not look any further.
    pub fn is_clean(&self) -> bool {
        self.rejected == 0 && self.error.is_none()
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let mut first = format!(
            "{} records accepted in {} batches, {} rejected; {} in {:.1} s ({}/s, {} records/s)",
            HumanCount(self.accepted),
            HumanCount(self.batches),
            HumanCount(self.rejected),
            HumanBytes(self.bytes),
            self.seconds,
            HumanBytes(per_second(self.bytes, self.seconds)),
            HumanCount(per_second(self.accepted.saturating_sub(self.already_sent), self.seconds)),
        );
        if self.already_sent > 0 {
            first.push_str(&format!("; {} of them by an earlier run", HumanCount(self.already_sent)));
        }
        let mut lines = vec![first];
        if let Some(complete) = self.complete {
            lines.push(format!("{complete} batches are COMPLETE"));
        }
        if let (Some(records), Some(errors)) = (&self.rejected_file, &self.errors_file) {
            lines.push(format!(
                "rejected records: {}; what is wrong with them: {}",
                records.display(),
                errors.display()
            ));
            lines.push(format!("correct them, then: tributary send {}", records.display()));
        }
        lines
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for display; `as` saturates")]
fn per_second(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds.max(0.001)) as u64
}

/// A bar on a terminal, a line now and then elsewhere, or nothing.
pub struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
    started: Instant,
    total: Option<u64>,
}

impl Progress {
    /// `total`: bytes on the disk, if known.
    pub fn new(total: Option<u64>, quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| match total {
            Some(total) => ProgressBar::new(total).with_style(style("{wide_bar} {percent:>3} %  {msg}")),
            None => ProgressBar::new_spinner().with_style(style("{spinner} {msg}")),
        });
        Self { bar, lines: !terminal && !quiet, started: Instant::now(), total }
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows where the run stands; `taken` is bytes read from the disk.
    pub fn show(&self, summary: &Summary, taken: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(taken);
            bar.set_message(self.text(summary, taken));
        }
    }

    /// Where there is no bar, prints where the run stands.
    pub fn tick(&self, summary: &Summary, taken: u64) {
        if self.lines {
            self.note(&self.text(summary, taken));
        }
    }

    /// A remark that does not break the bar.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print_note(text)),
            None => print_note(text),
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn text(&self, summary: &Summary, taken: u64) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let mut text = format!(
            "{} records, {}/s, {} rejected",
            HumanCount(summary.accepted + summary.rejected),
            HumanBytes(per_second(summary.bytes, seconds)),
            HumanCount(summary.rejected)
        );
        if let Some(left) = self.total.and_then(|total| left(taken, total, seconds)) {
            text.push_str(&format!(", {} left", HumanDuration(left)));
        }
        text
    }
}

fn print_note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Time left at the pace so far.
fn left(taken: u64, total: u64, seconds: f64) -> Option<Duration> {
    let share = taken as f64 / total.max(1) as f64;
    (share > 0.01 && seconds > 1.0)
        .then(|| Duration::try_from_secs_f64(seconds * (1.0 / share - 1.0)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left() {
        assert_eq!(left(25, 100, 10.0), Some(Duration::from_secs(30)));
        assert_eq!(left(100, 100, 10.0), Some(Duration::ZERO));
        assert_eq!(left(200, 100, 10.0), Some(Duration::ZERO), "a file that grew");
        assert_eq!(left(0, 100, 10.0), None);
    }

    #[test]
    fn the_summary_says_what_to_do_next() {
        let mut summary = Summary { accepted: 1_500, batches: 2, seconds: 0.5, ..Summary::default() };
        assert!(summary.is_clean());
        assert_eq!(
            summary.lines(),
            ["1,500 records accepted in 2 batches, 0 rejected; 0 B in 0.5 s (0 B/s, 3,000 records/s)"]
        );
        summary.rejected = 1;
        summary.rejected_file = Some("a.rejected.ndjson".into());
        summary.errors_file = Some("a.rejected.errors.ndjson".into());
        assert!(!summary.is_clean());
        assert_eq!(summary.lines()[2], "correct them, then: tributary send a.rejected.ndjson");
    }
}
