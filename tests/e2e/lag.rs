//! What `lag` says of a backlog that is known.

use crate::{harness::Home, model::record};
use serde_json::Value;
use std::time::{Duration, Instant};

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
