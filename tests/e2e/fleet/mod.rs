//! Any number of `serve` and `pipeline` processes on real Kafka, Cassandra and MinIO, and what must hold whatever becomes
//! of them: what was acknowledged is in the lake once and in its last version, every batch ends, `lake check` passes,
//! and nobody says the same thing a million times.

mod access;
mod alerts;
mod balancer;
mod brokers;
mod flow;
mod job;
mod keys;
mod lag;
mod nodes;
mod process;
mod processes;
mod proxy;
mod servers;
mod store;
#[expect(dead_code, reason = "the tests of the lake use more of it")]
#[path = "../../services/store_proxy.rs"]
mod store_proxy;
mod traces;

use crate::{
    harness::{Http, Servers, finish, query, read_table},
    writers::{Writer, union},
};
use process::{Environment, Process};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Lines that differ in nothing but times, numbers and ids may be in the log of one process so often.
const REPEATED: usize = 60;

/// Processes on backends that they share.
struct Fleet {
    directory: tempfile::TempDir,
    servers: Servers,
    key: String,
    started: u32,
}

impl Fleet {
    /// None yet, and a key for the workspace `default`.
    async fn new() -> Self {
        Self::on(Servers::new()).await
    }

    /// The same on servers of its own. All lanes are at work, so that pipelines share a table and commit past each other.
    async fn on(servers: Servers) -> Self {
        Self::spread(servers, 4).await
    }

    /// The same with the records of a workspace in so many lanes.
    async fn spread(servers: Servers, lanes: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let servers = servers.with("TRIBUTARY_SPREAD", lanes.to_string());
        let mut fleet = Self { directory, servers, key: String::new(), started: 0 };
        if let Some(endpoint) = fleet.servers.get("AWS_ENDPOINT_URL") {
            read_from(endpoint, fleet.lake());
        }
        let create = "keys create --workspace default --label tests --source tests --json \
                      --permission api:read --permission api:write";
        let created = finish(fleet.command(create)).await.ok().json();
        fleet.key = created["key"].as_str().expect("a key").to_owned();
        fleet
    }

    /// A command of the binary, its words apart by blanks.
    fn command(&self, words: &str) -> Command {
        let mut command = crate::harness::command(self.directory.path(), words.split_whitespace());
        command.envs(self.servers.environment().iter().map(|(name, value)| (name, value)));
        command
    }

    /// An environment variable that overrules the fleet's, for what is started from now on.
    fn also(&mut self, name: &'static str, value: String) {
        let servers = std::mem::take(&mut self.servers);
        self.servers = servers.with(name, value);
    }

    /// Starts an API and waits until it is ready.
    async fn serve(&mut self) -> Process {
        self.start("serve", "127.0.0.1:0", Environment::new()).await
    }

    /// Starts lanes likewise.
    async fn pipeline(&mut self) -> Process {
        self.start("pipeline", "", Environment::new()).await
    }

    /// Starts either with environment variables that overrule the fleet's.
    async fn start(&mut self, role: &'static str, listen: &str, environment: Environment) -> Process {
        self.start_at(role, listen, "127.0.0.1:0", environment).await
    }

    /// The same with metrics and health at an address of one's own.
    async fn start_at(&mut self, role: &'static str, listen: &str, admin: &str, environment: Environment) -> Process {
        let mut command = self.command(&format!("{role} --admin {admin} --json"));
        if role == "serve" {
            command.args(["--listen", listen, "--rate-limit", "0"]);
        }
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        self.started += 1;
        let log = self.directory.path().join(format!("{role}-{}.log", self.started));
        let mut process = Process::start(role, command, &log).await;
        process.environment = environment;
        process.until_ready().await;
        process
    }

    /// Starts another in the place of one that has ended, with what that was given.
    async fn again(&mut self, ended: &Process) -> Process {
        let listen = ended.listen.map(|listen| listen.to_string()).unwrap_or_default();
        self.start_at(ended.role, &listen, &ended.admin.to_string(), ended.environment.clone()).await
    }

    /// A client of each of these.
    fn clients<'p>(&self, serves: impl IntoIterator<Item = &'p Process>) -> Vec<Http> {
        serves.into_iter().map(|serve| Http::new(serve.listen.expect("an API"), &self.key)).collect()
    }

    /// Its URL, with a slash at the end.
    fn lake(&self) -> &str {
        self.servers.get("TRIBUTARY_LAKE").expect("a lake")
    }

    fn setting(&self, name: &str) -> &str {
        self.servers.get(name).unwrap_or_else(|| panic!("{name} is set"))
    }

    /// What one of Kafka's own tools says.
    async fn kafka_tool(&self, class: &str, args: &[&str]) -> String {
        let jars = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/services/fetched/kafka-4.1.1/*");
        let mut tool = Command::new("java");
        tool.arg("-cp").arg(jars).arg(format!("org.apache.kafka.tools.{class}"));
        tool.args(["--bootstrap-server", self.setting("TRIBUTARY_KAFKA")]).args(args);
        finish(tool).await.ok().out
    }

    fn scan(&self) -> String {
        format!("delta_scan('{}default/records')", self.lake())
    }

    /// Everything that must hold once the dust has settled.
    async fn check(&self, servers: &[Http], writers: &[Writer]) {
        for (n, id) in writers.iter().flat_map(|writer| &writer.batches).enumerate() {
            servers[n % servers.len()].complete(id).await;
        }
        read_table(&self.scan()).assert_is(&union(writers));
        finish(self.command("lake check")).await.ok();
        let records: u64 = writers.iter().map(|writer| writer.records).sum();
        let refusals: Vec<_> = writers.iter().map(|writer| &writer.refusals).collect();
        eprintln!("{records} records accepted; refused {refusals:?}");
        assert!(writers.iter().all(|writer| !writer.batches.is_empty()), "every writer got something done");
        self.logs_are_short();
    }

    fn logs_are_short(&self) {
        for log in self.logs() {
            says_it_once(&log);
        }
    }

    /// How many lines in the logs say that something is wrong.
    fn complaints(&self) -> usize {
        self.logs().iter().map(|log| wrong(&read_log(log)).count()).sum()
    }

    /// Until they are so many. What has been said lately is not said again for a minute.
    async fn until_complaints(&self, count: usize) {
        let begun = Instant::now();
        while self.complaints() < count {
            assert!(begun.elapsed() < Duration::from_secs(120), "nobody missed the server that hangs");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn logs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path()).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "log")).collect()
    }
}

/// Has DuckDB read this lake from another S3 server than the others.
fn read_from(endpoint: &str, lake: &str) {
    let name = lake.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let endpoint = endpoint.trim_start_matches("http://");
    let variable = |name: &str| std::env::var(name).expect("set for the tests");
    query(&format!(
        "CREATE OR REPLACE SECRET {name} (TYPE s3, SCOPE '{lake}', KEY_ID '{}', SECRET '{}', REGION '{}', ENDPOINT '{endpoint}', \
         URL_STYLE 'path', USE_SSL false)",
        variable("AWS_ACCESS_KEY_ID"),
        variable("AWS_SECRET_ACCESS_KEY"),
        variable("AWS_REGION"),
    ));
}

fn read_log(log: &Path) -> String {
    std::fs::read_to_string(log).expect("a log")
}

/// The lines that say that something is wrong.
fn wrong(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
}

/// What is wrong is said once, or with a count, not for every try.
fn says_it_once(log: &Path) {
    let text = read_log(log);
    assert!(!text.contains("panicked"), "{}: {text}", log.display());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in wrong(&text) {
        // Ids, offsets and times differ from line to line.
        let words = line.split(|c: char| !c.is_ascii_alphanumeric());
        let shape: Vec<&str> = words.filter(|word| !word.contains(|c: char| c.is_ascii_digit())).collect();
        *seen.entry(shape.join(" ")).or_default() += 1;
    }
    let loud: Vec<_> = seen.iter().filter(|(_, count)| **count > REPEATED).collect();
    assert!(loud.is_empty(), "{}: {loud:#?}", log.display());
}
