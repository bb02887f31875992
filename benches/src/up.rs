//! The real binary, running `up` on a data directory.

use crate::{Binary, measure::Process};
use anyhow::{Context, ensure};
use serde::Deserialize;
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::Instant,
};

/// How often its metrics are asked for: rarely enough to cost it nothing.
const LOOK: Duration = Duration::from_millis(100);

/// What it says once it is ready.
#[derive(Debug, Deserialize)]
struct Ready {
    listen: String,
    admin: String,
    lake: String,
    key: Option<String>,
}

/// A running `tributary up`; killed when dropped.
#[derive(Debug)]
pub struct Up {
    _child: Child,
    pid: u32,
    ready: Ready,
}

impl Up {
    /// Starts it and waits until it is ready.
    pub async fn start(binary: &Binary, dir: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(&binary.binary);
        command.arg("up").arg("--data").arg(dir).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command
            .args(["--rate-limit", "0", "--max-lag", "0", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", binary.binary.display()))?;
        let pid = child.id().context("it ended at once")?;
        let mut lines = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        let line = lines.next_line().await?.context("`tributary up` did not start")?;
        Ok(Self { _child: child, pid, ready: serde_json::from_str(&line)? })
    }

    /// To be measured.
    pub fn process(&self) -> Process {
        Process::of(self.pid)
    }

    /// Where bodies go.
    pub fn url(&self) -> String {
        format!("http://{}/api/v1/ingest", self.ready.listen)
    }

    /// The key that the first start made.
    pub fn key(&self) -> anyhow::Result<&str> {
        self.ready.key.as_deref().context("not the first start of this directory")
    }

    /// URL of the workspace's table.
    pub fn table(&self) -> String {
        format!("{}/{}/records", self.ready.lake.trim_end_matches('/'), crate::backends::WORKSPACE)
    }

    /// Records that came to an end since it started.
    pub async fn ended(&self) -> anyhow::Result<u64> {
        let text = reqwest::get(format!("http://{}/metrics", self.ready.admin)).await?.text().await?;
        let counts = text.lines().filter(|line| line.starts_with("tributary_records_total{"));
        let counts = counts.filter(|line| !line.contains("\"rejected\""));
        let count = |line: &str| line.rsplit(' ').next().unwrap_or_default().parse::<u64>();
        Ok(counts.map(count).sum::<Result<u64, _>>()?)
    }

    /// Waits until so many records came to an end.
    pub async fn wait(&self, records: u64) -> anyhow::Result<()> {
        let (mut before, mut moved) = (0, Instant::now());
        loop {
            let ended = self.ended().await?;
            if ended >= records {
                ensure!(ended == records, "{ended} records came to an end, {records} were sent");
                return Ok(());
            }
            if ended > before {
                (before, moved) = (ended, Instant::now());
            }
            ensure!(moved.elapsed() < Duration::from_secs(60), "nothing has landed for a minute: {ended} of {records}");
            tokio::time::sleep(LOOK).await;
        }
    }
}
