//! A server that belongs to one test, which may kill it.

use super::Servers;
use std::{collections::HashMap, path::PathBuf, process::Command};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

/// Kafka, Cassandra, MinIO or Prometheus, from `tests/services`; stopped when dropped.
pub struct Server {
    name: &'static str,
    directory: TempDir,
    settings: Vec<(&'static str, String)>,
    /// What the script prints.
    environment: HashMap<String, String>,
    hangs: bool,
}

impl Server {
    /// Starts it: `kafka`, `cassandra`, `minio` or `prometheus`, with settings of its script.
    pub async fn start(name: &'static str, settings: Vec<(&'static str, String)>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Self { name, directory, settings, environment: HashMap::new(), hangs: false };
        server.again().await;
        server
    }

    /// Starts it with the data that it has.
    pub async fn again(&mut self) {
        let printed = self.told("start").await;
        let pairs = printed.lines().filter_map(|line| line.split_once('='));
        self.environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    }

    /// Starts it with the data that it has, and other settings than before.
    pub async fn change(&mut self, settings: Vec<(&'static str, String)>) {
        self.kill().await;
        self.settings = settings;
        self.again().await;
    }

    /// SIGKILL.
    pub async fn kill(&self) {
        self.told("kill").await;
    }

    /// It neither answers nor hangs up.
    pub fn pause(&mut self) {
        self.signal("-STOP");
        self.hangs = true;
    }

    /// It goes on.
    pub fn resume(&mut self) {
        self.signal("-CONT");
        self.hangs = false;
    }

    fn signal(&self, name: &str) {
        let pid = &self.environment[&format!("{}_PID", self.name.to_uppercase())];
        assert!(Command::new("kill").args([name, pid]).status().expect("kill").success());
    }

    /// This one among the servers that the environment names.
    pub fn among_others(&self) -> Servers {
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let servers = Servers::of(&|name| self.environment.get(name).cloned().unwrap_or_else(|| variable(name)));
        match self.environment.get("AWS_ENDPOINT_URL") {
            Some(endpoint) => servers.with("AWS_ENDPOINT_URL", endpoint.clone()),
            None => servers,
        }
    }

    /// What its script says under this name.
    pub fn says(&self, name: &str) -> &str {
        &self.environment[name]
    }

    /// The same, if it says anything.
    pub fn heard(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }

    async fn told(&self, verb: &'static str) -> String {
        let mut script = self.script(verb);
        let ran = spawn_blocking(move || script.output()).await.expect("no panic").expect("the script runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("text")
    }

    fn script(&self, verb: &str) -> Command {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/services/{}.sh", self.name));
        let mut command = Command::new(script);
        command.arg(verb).env("TRIBUTARY_SERVICES", self.directory.path());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that hangs ends no sooner than it goes on.
        if self.hangs {
            self.resume();
        }
        let _ = self.script("stop").status();
    }
}
