//! One process of a fleet.

use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tokio::task::spawn_blocking;

/// Environment variables of one process.
pub type Environment = Vec<(&'static str, String)>;

/// A running `serve` or `pipeline`; killed when dropped.
pub struct Process {
    child: Child,
    /// `serve` or `pipeline`.
    pub role: &'static str,
    /// Its API, if it has one.
    pub listen: Option<SocketAddr>,
    /// Metrics and health.
    pub admin: SocketAddr,
    /// What it was given that its fleet has not.
    pub environment: Environment,
}

impl Process {
    /// Starts it and waits until it says where it listens.
    pub async fn start(role: &'static str, mut command: Command, log: &Path) -> Self {
        let log = log.to_owned();
        let started = spawn_blocking(move || {
            let file = File::options().create(true).append(true).open(&log).expect("a log");
            let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().expect("the binary starts");
            let mut output = BufReader::new(child.stdout.take().expect("piped"));
            let mut line = String::new();
            output.read_line(&mut line).expect("its output");
            let Ok(ready) = serde_json::from_str::<Value>(&line) else {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("{role} does not start: {line}{log}");
            };
            let address = |name: &str| ready[name].as_str().map(|address| address.parse().expect("an address"));
            let (listen, admin) = (address("listen"), address("admin").expect("an address"));
            Self { child, role, listen, admin, environment: Environment::new() }
        });
        started.await.expect("it starts")
    }

    /// Waits until it says that it is able.
    pub async fn until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.is_ready().await {
            assert!(Instant::now() < deadline, "{} is not ready after a minute", self.role);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether it says so now.
    pub async fn is_ready(&self) -> bool {
        let asked = reqwest::get(format!("http://{}/readyz", self.admin)).await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// SIGKILL, now.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// `-STOP`, `-CONT`, `-TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    }

    /// SIGTERM; how it ended, and how long that took.
    pub async fn terminate(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        self.signal("-TERM");
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return (status, begun.elapsed());
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{} does not end", self.role);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
