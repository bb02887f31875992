//! What a process used, as the kernel counts it.

use anyhow::Context;
use std::{
    fs,
    time::{Duration, Instant},
};

/// Linux shows times to user space in hundredths of a second, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Process(u32);

impl Process {
    /// This one.
    pub fn this() -> Self {
        Self(std::process::id())
    }

    /// Another one.
    pub fn of(pid: u32) -> Self {
        Self(pid)
    }

    /// User and system time of all its threads so far, ended ones included, in seconds.
    pub fn cpu(self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The second field is the program's name in parentheses, which may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("an unknown form of /proc/…/stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
    }

    /// The most memory that it ever had in RAM, in MB.
    pub fn peak_mb(self) -> anyhow::Result<f64> {
        self.status_mb("VmHWM:")
    }

    fn status_mb(self, name: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        let kilobytes = line.split_whitespace().next().context("an unknown form of /proc/…/status")?;
        Ok(kilobytes.parse::<f64>()? / 1_024.0)
    }
}

/// What some work took.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    /// CPU seconds.
    pub cpu: f64,
    /// Wall-clock seconds.
    pub wall: f64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.wall += other.wall;
    }
}

/// Measures from its making on.
#[derive(Debug)]
pub struct Span {
    process: Process,
    cpu: f64,
    started: Instant,
}

impl Span {
    /// Begins to measure a process.
    pub fn start(process: Process) -> anyhow::Result<Self> {
        Ok(Self { process, cpu: process.cpu()?, started: Instant::now() })
    }

    /// What it took since.
    pub fn cost(&self) -> anyhow::Result<Cost> {
        Ok(Cost { cpu: self.process.cpu()? - self.cpu, wall: self.started.elapsed().as_secs_f64() })
    }
}

/// The value that `share` (0–1) of the durations do not exceed.
pub fn quantile(durations: &mut [Duration], share: f64) -> Duration {
    durations.sort_unstable();
    let last = durations.len().saturating_sub(1);
    durations.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}
