//! What `lag` says of a backlog that is known.

use crate::{
    harness::{Home, World},
    model::record,
};
use serde_json::Value;
use std::{
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
    assert!(shown.contains("no process has it") && shown.contains("NO OWNER"), "{shown}");

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
