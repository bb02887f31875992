//! The real binary: `up`, or one of the halves that share their backends with others.

use crate::{Binary, backends::Place, measure::Process};
use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    task::JoinHandle,
    time::Instant,
};
use tributary_backends::log::Topic;

/// How often its metrics are asked for: rarely enough to cost it nothing.
const LOOK: Duration = Duration::from_millis(100);

/// What it says once it is ready.
#[derive(Debug, Deserialize)]
struct Ready {
    /// Of `up` and `serve`.
    listen: Option<String>,
    admin: String,
    lake: String,
    key: Option<String>,
}

/// A running process of `tributary`; killed when dropped.
#[derive(Debug)]
pub struct Up {
    child: Child,
    pid: u32,
    ready: Ready,
    assignments: Arc<Mutex<Vec<Assignment>>>,
}

/// A lane that a process was given.
#[derive(Debug, Clone, Copy)]
pub struct Assignment {
    pub lane: u32,
    pub at: Instant,
}

/// A line of its log, as far as it is of interest here.
#[derive(Debug, Deserialize)]
struct Line {
    level: String,
    message: String,
    topic: Option<String>,
    partition: Option<u32>,
}

/// Reads its log: keeps what it was given, and passes on what has gone wrong.
async fn listen(log: ChildStderr, assignments: Arc<Mutex<Vec<Assignment>>>) {
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        match serde_json::from_str(&text) {
            Ok(Line { message, topic: Some(topic), partition: Some(lane), .. }) if message == "assigned" => {
                if topic == Topic::Records.name() {
                    let assigned = Assignment { lane, at: Instant::now() };
                    assignments.lock().unwrap_or_else(PoisonError::into_inner).push(assigned);
                }
            }
            Ok(Line { level, .. }) if level == "INFO" => {}
            _ => eprintln!("{text}"),
        }
    }
}

impl Up {
    /// Starts `up` and waits until it is ready.
    pub async fn start(binary: &Binary, place: &Place) -> anyhow::Result<Self> {
        Self::start_as("up", binary, place, &[]).await
    }

    /// Starts `up`, `serve` or `pipeline` and waits until it is ready.
    pub async fn start_as(role: &str, binary: &Binary, place: &Place, flags: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(&binary.binary);
        command.arg(role).args(["--admin", "127.0.0.1:0", "--json"]).args(flags);
        place.settle(&mut command)?;
        if role != "pipeline" {
            command.args(["--listen", "127.0.0.1:0", "--rate-limit", "0", "--max-lag", "0"]);
        }
        if !flags.contains(&"--log") {
            command.args(["--log", "error,tributary_pipeline::consumer=info"]);
        }
        command.args(["--log-format", "json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", binary.binary.display()))?;
        let pid = child.id().context("it ended at once")?;
        let assignments = Arc::default();
        tokio::spawn(listen(child.stderr.take().context("no pipe")?, Arc::clone(&assignments)));
        let mut lines = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        let line = lines.next_line().await?.with_context(|| format!("`tributary {role}` did not start"))?;
        Ok(Self { child, pid, assignments, ready: serde_json::from_str(&line)? })
    }

    /// Lanes that it was given so far.
    pub fn assignments(&self) -> Vec<Assignment> {
        self.assignments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// SIGTERM.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.pid.try_into()?).context("no process")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// To be measured.
    pub fn process(&self) -> Process {
        Process::of(self.pid)
    }

    /// Where bodies go.
    pub fn url(&self) -> anyhow::Result<String> {
        let listen = self.ready.listen.as_deref().context("it takes no requests")?;
        Ok(format!("http://{listen}/api/v1/ingest"))
    }

    /// The key that the first start made.
    pub fn key(&self) -> anyhow::Result<&str> {
        self.ready.key.as_deref().context("not the first start of this directory")
    }

    /// URL of the workspace's table.
    pub fn table(&self) -> String {
        format!("{}/{}/records", self.ready.lake.trim_end_matches('/'), crate::backends::WORKSPACE)
    }

    /// Asks for its metrics again and again, until it is told to stop.
    pub fn scraped_every(&self, pause: Duration) -> JoinHandle<()> {
        let url = format!("http://{}/metrics", self.ready.admin);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                if let Ok(answer) = reqwest::get(&url).await {
                    // To its end, as whoever keeps it would.
                    let _ = answer.bytes().await;
                }
            }
        })
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
