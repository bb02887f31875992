//! What a process used, as the kernel counts it.

use anyhow::Context;
use std::{
    fs,
    io::Write as _,
    path::Path,
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
    fn cpu(self) -> anyhow::Result<(f64, f64)> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The second field is the program's name in parentheses, which may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("an unknown form of /proc/…/stat")?;
        let mut seconds =
            fields.split_whitespace().skip(11).map(|ticks| ticks.parse::<f64>().map(|ticks| ticks / TICKS_PER_SECOND));
        let mut next = || seconds.next().context("an unknown form of /proc/…/stat");
        Ok((next()??, next()??))
    }

    /// The most memory that it had in RAM since it began or [`forget_peak`] was called, in MB.
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

/// Lets this process's peak begin anew.
pub fn forget_peak() -> anyhow::Result<()> {
    fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of memory")
}

/// Writes a large file below `dir` and removes it, so that the memory that is about to be used is there. A virtual
/// machine hands free memory back to its host, and fetching a page again is counted as the CPU time of whoever touches
/// it first: up to 2 s for a gigabyte, which has nothing to do with what is measured.
pub fn touch_memory(dir: &Path) -> anyhow::Result<()> {
    const BLOCK: usize = 1 << 20;
    const BLOCKS: usize = 2_500;
    let mut file = tempfile::tempfile_in(dir)?;
    let block = vec![1; BLOCK];
    for _ in 0..BLOCKS {
        file.write_all(&block)?;
    }
    Ok(())
}

/// What some work took.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    /// CPU seconds.
    pub cpu: f64,
    /// Those of them that were spent in the kernel.
    pub kernel: f64,
    /// Wall-clock seconds.
    pub wall: f64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.kernel += other.kernel;
        self.wall += other.wall;
    }
}

impl std::ops::Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let (cpu, kernel, wall) = (self.cpu - other.cpu, self.kernel - other.kernel, self.wall - other.wall);
        Self { cpu, kernel, wall }
    }
}

/// Measures from its making on.
#[derive(Debug)]
pub struct Span {
    process: Process,
    user: f64,
    kernel: f64,
    started: Instant,
}

impl Span {
    /// Begins to measure a process.
    pub fn start(process: Process) -> anyhow::Result<Self> {
        let (user, kernel) = process.cpu()?;
        Ok(Self { process, user, kernel, started: Instant::now() })
    }

    /// What it took since.
    pub fn cost(&self) -> anyhow::Result<Cost> {
        let (user, kernel) = self.process.cpu()?;
        let (user, kernel) = (user - self.user, kernel - self.kernel);
        Ok(Cost { cpu: user + kernel, kernel, wall: self.started.elapsed().as_secs_f64() })
    }
}

/// The value that `share` (0–1) of the durations do not exceed.
pub fn quantile(durations: &mut [Duration], share: f64) -> Duration {
    durations.sort_unstable();
    let last = durations.len().saturating_sub(1);
    durations.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}
