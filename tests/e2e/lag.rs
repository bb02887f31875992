//! What `lag` says of a backlog that is known.

use crate::{
    harness::{Home, Http, Up, World},
    model::record,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

/// A `lag --watch` that runs, until it is dropped.
pub struct Watcher {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Watcher {
    /// Of a command that writes JSON. What it writes is kept in this directory.
    pub fn start(mut command: Command, directory: &Path) -> Self {
        let (out, err) = (directory.join("watch.out"), directory.join("watch.err"));
        let file = |path| File::create(path).expect("a file");
        let child = command.stdout(file(&out)).stderr(file(&err)).spawn().expect("it starts");
        Self { child, out, err }
    }

    /// So far.
    pub fn reports(&self) -> usize {
        std::fs::read_to_string(&self.out).expect("its output").lines().count()
    }

    /// Waits until it has made another report.
    pub async fn until_it_sees(&mut self) {
        let before = self.reports();
        self.until(|watcher| watcher.reports() > before).await;
    }

    /// Waits until it has complained of this, after what it has said so far.
    pub async fn until_it_says(&mut self, what: &str) {
        let said = |watcher: &Self| std::fs::read_to_string(&watcher.err).expect("its output");
        let before = said(self).len();
        self.until(|watcher| said(watcher)[before..].contains(what)).await;
    }

    async fn until(&mut self, reached: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !reached(self) {
            let said = std::fs::read_to_string(&self.err).expect("its output");
            assert!(self.child.try_wait().expect("its state").is_none(), "it has ended: {said}");
            assert!(begun.elapsed() < Duration::from_secs(60), "{} reports, and {said}", self.reports());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Home {
    /// What `lag --json` says.
    async fn lag(&self) -> Value {
        let data = self.data().display().to_string();
        self.run(&["lag", "--json", "--data", &data]).await.ok().json()
    }
}

fn waiting(report: &Value) -> Vec<&Value> {
    let all = report["partitions"].as_array().expect("partitions");
    all.iter().filter(|one| one["stage"] == "lake" && one["records"] != 0).collect()
}

/// The lane dies with its first chunk in hand: nobody has what was accepted. Then it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_without_an_owner_is_told_and_then_its_end() {
    let mut home = Home::new();
    let mut doomed = home.try_start(&[("TRIBUTARY_CRASH_AT", "lane.after_resolve")]).expect("it starts");
    let lines: Vec<String> = (0..700).map(|n| record(&n.to_string(), 1_600_000_000, "{}")).collect();
    let _ = doomed.http.try_post("application/x-ndjson", lines.join("\n").into_bytes(), None).await;
    let sent = Instant::now();
    doomed.ended().await;
    // Also of the notes that it left nothing stays.
    tokio::time::sleep(Duration::from_secs(11)).await;

    let report = home.lag().await;
    let age = sent.elapsed().as_secs_f64();
    let behind = waiting(&report);
    assert_eq!(behind.len(), 1, "{report:#}");
    assert_eq!((&behind[0]["records"], &behind[0]["state"]), (&700.into(), &"no-owner".into()), "{report:#}");
    let seconds = behind[0]["seconds"].as_f64().expect("seconds");
    assert!((seconds - age).abs() < 1.0, "{seconds} s, really {age}: {report:#}");
    let whose = report["workspaces"].as_array().expect("workspaces");
    assert_eq!((&whose[0]["workspace"], &whose[0]["records"]), (&"default".into(), &700.into()), "{report:#}");
    let data = home.data().display().to_string();
    let shown = home.run(&["lag", "--data", &data]).await.ok().out;
    assert!(shown.contains("no process says that it has it") && shown.contains("NO OWNER"), "{shown}");

    let up = home.start();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let report = home.lag().await;
        let mut all = report["partitions"].as_array().expect("partitions").iter();
        if all.all(|one| one["state"] == "up-to-date") {
            assert!(report["partitions"][0]["owner"].as_str().is_some_and(|name| name.contains(':')), "{report:#}");
            break;
        }
        assert!(Instant::now() < deadline, "{report:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let shown = home.run(&["lag", "--data", &data]).await.ok().out;
    assert!(shown.contains("Up to date: everything accepted is in the lake"), "{shown}");
    // What is shown there is at most two seconds old.
    while up.metric("tributary_lag_known", "").await == 0
        || up.metric("tributary_lag_records", "stage=\"lake\"").await > 0
    {
        assert!(Instant::now() < deadline, "/metrics lags behind");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// So many small records.
fn records(count: usize) -> String {
    (0..count).map(|n| record(&n.to_string(), 1_600_000_000, "{}")).collect::<Vec<_>>().join("\n")
}

/// Records per second by workspace, in a report of `lag`.
fn done_by(report: &Value) -> BTreeMap<String, f64> {
    let all = report["workspaces"].as_array().expect("workspaces");
    let rate = |one: &Value| Some((one["workspace"].as_str()?.to_owned(), one["throughput"].as_f64()?));
    all.iter().chain([&report["others"]]).filter_map(rate).collect()
}

/// The same on `/metrics`.
async fn scraped_by(up: &Up) -> BTreeMap<String, f64> {
    let text = reqwest::get(format!("http://{}/metrics", up.admin)).await.expect("metrics").text().await.expect("text");
    let samples = text
        .lines()
        .filter_map(|line| line.strip_prefix("tributary_lag_workspace_throughput{workspace=\"")?.split_once("\"} "));
    samples.map(|(workspace, rate)| (workspace.to_owned(), rate.parse().expect("a number"))).collect()
}

/// Asks until it is so, for half a minute: what has landed is told for a whole one.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<(), String>) {
    let begun = Instant::now();
    while let Err(said) = is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: {said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Two workspaces in one lane: what is told of each is what was sent of it, in as long as the process has had the lane.
#[tokio::test(flavor = "multi_thread")]
async fn how_much_of_each_workspace_lands_is_told() {
    const FIRST: usize = 300;
    const SECOND: usize = 100;
    let mut home = Home::new().flags(&["--lanes", "1"]);
    let data = home.data().display().to_string();
    let spawned = Instant::now();
    let mut up = home.start();
    let ready = Instant::now();
    let create =
        ["keys", "create", "--data", &data, "--workspace", "second", "--label", "l", "--source", "s", "--json"];
    let created = home.run(&[&create[..], &["--permission", "api:read", "--permission", "api:write"]].concat()).await;
    let key = created.ok().json()["key"].as_str().expect("a key").to_owned();
    up.http.land(records(FIRST)).await;
    let had = ready.elapsed().max(Duration::from_millis(500)).as_secs_f64();
    Http::new(up.listen, &key).land(records(SECOND)).await;

    // As long as it has had the lane is between the two, whenever it counted.
    let are_told = |rates: &BTreeMap<String, f64>| {
        let of = |name: &str| rates.get(name).copied().unwrap_or(0.0);
        let (first, second, others) = (of("default"), of("second"), of("(others)"));
        let range = FIRST as f64 / spawned.elapsed().as_secs_f64()..=FIRST as f64 / had;
        let is_exact = range.contains(&first) && (first - second * 3.0).abs() < first / 1_000.0 && others == 0.0;
        if is_exact { Ok(()) } else { Err(format!("{rates:?}, and the first is to be in {range:?}")) }
    };
    until("lag --json", async || are_told(&done_by(&home.lag().await))).await;
    until("/metrics", async || are_told(&scraped_by(&up).await)).await;
    let all = home.run(&["lag", "--all", "--data", &data]).await.ok().out;
    assert!(all.contains("WORKSPACE") && all.contains("second"), "{all}");
    let few = home.run(&["lag", "--data", &data]).await.ok().out;
    assert!(!few.contains("WORKSPACE"), "nothing waits: {few}");

    // Another process has counted nothing of that.
    up.kill();
    let spawned = Instant::now();
    let up = home.start();
    Http::new(up.listen, &key).land(records(SECOND)).await;
    let are_new = |rates: &BTreeMap<String, f64>| {
        let range = SECOND as f64 / spawned.elapsed().as_secs_f64()..=SECOND as f64 / 0.5;
        let is_new = rates.get("second").is_some_and(|rate| range.contains(rate)) && !rates.contains_key("default");
        if is_new { Ok(()) } else { Err(format!("{rates:?}, and the second is to be in {range:?}")) }
    };
    until("lag --json", async || are_new(&done_by(&home.lag().await))).await;
    until("/metrics", async || are_new(&scraped_by(&up).await)).await;
}

/// It looks once at what nothing runs on, then whoever starts is not kept out; and who does not answer is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn who_watches_is_in_nobodys_way_and_goes_on() {
    if !World::has_embedded("a directory that one process has open") {
        return;
    }
    let mut home = Home::new();
    home.start().terminate().await;
    let data = home.data().display().to_string();
    let mut watcher = Watcher::start(home.tool(&["lag", "--watch", "--json", "--data", &data]), home.path());
    watcher.until_it_sees().await;
    watcher.until_it_says("nothing runs on").await;
    let reports = watcher.reports();
    watcher.until_it_says("nothing runs on").await;
    assert_eq!(watcher.reports(), reports, "it does not open the directory again");
    let up = home.start();
    watcher.until_it_sees().await;
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &up.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    };
    signal("-STOP");
    let begun = Instant::now();
    let failed = home.run(&["lag", "--data", &data]).await;
    assert!(failed.code == 1 && failed.err.contains("does not answer"), "{failed:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    watcher.until_it_says("does not answer").await;
    signal("-CONT");
    watcher.until_it_sees().await;
}
