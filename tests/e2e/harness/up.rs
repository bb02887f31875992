//! `tributary up` in a directory of its own.

use super::{Finished, Http, World, files::Files, query, tool, world::Servers};
use crate::model::{Key, Table};
use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use url::Url;

/// A data directory that outlives the processes on it.
pub struct Home {
    directory: tempfile::TempDir,
    data: PathBuf,
    key: Option<String>,
    flags: Vec<String>,
    /// What of its state other servers keep.
    servers: Servers,
}

impl Home {
    /// An empty one. No rate limit, unless a test asks for one.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("data");
        Self { directory, data, key: None, flags: Vec::new(), servers: World::of_this_run().servers() }
    }

    /// The same with its data elsewhere.
    pub fn with_data(data: &Path) -> Self {
        let mut home = Self::new();
        data.clone_into(&mut home.data);
        home
    }

    /// Further flags of `up`.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// A place for the test's own files, and where commands run.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The key of the first start.
    pub fn key(&self) -> &str {
        self.key.as_deref().expect("it has started once")
    }

    /// The command that starts `up` here.
    pub fn command(&self) -> Command {
        let data = self.data.display().to_string();
        let mut command = self.tool(&["up", "--data", &data, "--admin", "127.0.0.1:0", "--json"]);
        command.env("TRIBUTARY_LISTEN", "127.0.0.1:0").env("TRIBUTARY_RATE_LIMIT", "0").args(&self.flags);
        command
    }

    /// A command of the binary, on the same servers.
    pub fn tool(&self, args: &[&str]) -> Command {
        let mut command = tool::command(self.path(), args);
        command.envs(self.servers.environment().iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts `up` and waits until it is ready.
    pub fn start(&mut self) -> Up {
        self.try_start(&[]).unwrap_or_else(|failed| panic!("up does not start: {failed:?}"))
    }

    /// Starts `up` where an earlier one listened.
    pub fn start_at(&mut self, listen: &str) -> Up {
        let mut command = self.command();
        command.args(["--listen", listen]);
        self.spawn(command).unwrap_or_else(|failed| panic!("up does not start again: {failed:?}"))
    }

    /// Starts `up` with environment variables; how it ended when it did not become ready.
    pub fn try_start(&mut self, environment: &[(&str, &str)]) -> Result<Up, Finished> {
        let mut command = self.command();
        command.envs(environment.iter().copied());
        self.spawn(command)
    }

    /// Starts a command that ends up as `up`.
    pub fn spawn(&mut self, mut command: Command) -> Result<Up, Finished> {
        let log = self.path().join("up.log");
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        let before = file.metadata().expect("metadata").len();
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().expect("the binary starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("its output");
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let mut rest = String::new();
            output.read_to_string(&mut rest).expect("its output");
            let code = child.wait().expect("its end").code().unwrap_or(-1);
            let all = std::fs::read(&log).expect("a log");
            let err = String::from_utf8_lossy(&all[usize::try_from(before).expect("small")..]).into_owned();
            return Err(Finished { code, out: line + &rest, err });
        };
        // Somebody must read what else it prints, or it would block one day.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        if let Some(key) = ready["key"].as_str() {
            self.key = Some(key.to_owned());
        }
        let address = |name: &str| ready[name].as_str().expect("an address").parse().expect("an address");
        let (listen, admin) = (address("listen"), address("admin"));
        let lake = ready["lake"].as_str().and_then(|url| url.parse().ok()).expect("a URL");
        Ok(Up { child, listen, admin, http: Http::new(listen, self.key()), lake })
    }

    /// Runs a command of the binary here.
    pub async fn run(&self, args: &[&str]) -> Finished {
        tool::finish(self.tool(args)).await
    }

    /// Runs `lake …` on the data directory.
    pub async fn lake(&self, args: &[&str]) -> Finished {
        let data = self.data.display().to_string();
        self.run(&[&["lake"], args, &["--data", &data]].concat()).await
    }

    /// Says what `up` has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("up.log")).unwrap_or_default()
    }
}

/// A running `up`; killed when dropped.
pub struct Up {
    child: Child,
    /// The API.
    pub listen: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
    /// A client with the key of the first start.
    pub http: Http,
    lake: Url,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Up {
    /// SIGKILL, now.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; how it ended, and how long that took.
    pub async fn terminate(mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let sent = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().expect("kill");
        assert!(sent.success());
        let status = self.ended().await;
        (status, begun.elapsed())
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(180), "it does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its address, for commands.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Peak of its resident memory, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// The table of workspace `default`, for SQL.
    pub fn scan(&self) -> String {
        format!("delta_scan('{}')", self.table_url())
    }

    /// The files of that table.
    pub fn files(&self) -> Files {
        Files::of(&self.table_url())
    }

    fn table_url(&self) -> Url {
        self.lake.join("default/records/").expect("a URL")
    }

    /// Everything in the table. Two rows of one identity are a failure in themselves.
    pub fn table(&self) -> Table {
        read_table(&self.scan())
    }

    /// Waits until every batch is `COMPLETE`.
    pub async fn until_landed(&self) {
        let mut cursor = String::new();
        loop {
            let page = self.http.get(&format!("/batches?limit=100{cursor}")).await;
            for batch in page.json["batches"].as_array().expect("batches") {
                if batch["status"] != "COMPLETE" {
                    self.http.complete(batch["batchId"].as_str().expect("batchId")).await;
                }
            }
            match page.json["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return,
            }
        }
    }

    /// Sum of a metric's values over all its labels that contain `label`.
    pub async fn metric(&self, name: &str, label: &str) -> u64 {
        let text =
            reqwest::get(format!("http://{}/metrics", self.admin)).await.expect("metrics").text().await.expect("text");
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        });
        lines
            .map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a value") as u64)
            .sum()
    }

    /// Waits until the samples of a metric with this label have this sum.
    pub async fn until(&self, name: &str, label: &str, value: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.metric(name, label).await != value {
            assert!(Instant::now() < deadline, "{name} is {}, not {value}", self.metric(name, label).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Everything that a relation with the columns of `records` holds.
pub fn read_table(relation: &str) -> Table {
    let rows = query(&format!("SELECT type, vendor_ids, epoch(event_at)::BIGINT, data FROM {relation}"));
    let mut table = Table::default();
    for row in rows {
        let key = Key::new(row[0].as_str().expect("type"), &row[1], row[2].as_i64().expect("event_at"));
        let data = row[3].as_str().expect("data").to_owned();
        assert!(table.0.insert(key.clone(), data).is_none(), "two rows of {key:?}");
    }
    table
}
