//! `bench`, against a real server, and against targets that stall, refuse and say to come again.

use crate::harness::{Finished, Home, command, query, tributary};
use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// A target that accepts everything, after what `before` does with the request's number (from 0). Its batches land when
/// `landing` says so.
struct Target {
    url: String,
    /// Requests that have come.
    seen: watch::Receiver<u64>,
}

impl Target {
    async fn start<F, R>(before: F) -> Self
    where
        F: Fn(u64) -> R + Send + Sync + 'static,
        R: Future<Output = Option<Response>> + Send + 'static,
    {
        Self::with_lake(before, watch::channel(true).1).await
    }

    async fn with_lake<F, R>(before: F, landing: watch::Receiver<bool>) -> Self
    where
        F: Fn(u64) -> R + Send + Sync + 'static,
        R: Future<Output = Option<Response>> + Send + 'static,
    {
        let (count, before) = (Arc::new(AtomicU64::new(0)), Arc::new(before));
        let (tell, seen) = watch::channel(0);
        let accept = move |body: String| {
            let n = count.fetch_add(1, Ordering::Relaxed);
            tell.send_replace(n + 1);
            let before = Arc::clone(&before);
            async move {
                if let Some(other) = before(n).await {
                    return other;
                }
                let answer = json!({"batchId": n.to_string(), "acceptedCount": body.lines().count(),
                    "rejectedCount": 0, "totalErrorCount": 0, "errors": []});
                (StatusCode::ACCEPTED, Json(answer)).into_response()
            }
        };
        let batch = async move || {
            let mut landing = landing.clone();
            let landed = tokio::time::timeout(Duration::from_millis(100), landing.wait_for(|lands| *lands)).await;
            let is_landed = landed.is_ok();
            let status = if is_landed { "LANDED" } else { "LANDING" };
            Json(json!({"batchId": "0", "status": status, "createdAt": 0, "acceptedCount": 1,
                "rejectedCount": 0, "totalErrorCount": 0}))
        };
        let router =
            Router::new().route("/api/v1/ingest", post(accept)).route("/api/v1/ingest/batches/{id}", get(batch));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let fixed = ["bench", "--url", &self.url, "--key", "em_sk_any", "--size", "300", "--json"];
        [&fixed, more].concat()
    }

    async fn bench(&self, more: &[&str]) -> Finished {
        tributary(&std::env::temp_dir(), self.arguments(more)).await
    }
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {pointer} of {report:#}"))
}

/// Whatever happened: every record that was due is accounted for, and every request has its latency.
#[track_caller]
fn assert_adds_up(ended: &Finished) -> Value {
    let report = ended.json();
    let of = |pointer: &str| number(&report, pointer);
    let not = of("/notAccepted/rejected") + of("/notAccepted/givenUp") + of("/notAccepted/unsent");
    assert_eq!(of("/due/records"), of("/accepted/records") + not, "{report:#}");
    assert_eq!(of("/due/requests"), of("/fromDueMs/count"), "{report:#}");
    assert_eq!(of("/accepted/requests"), of("/serviceMs/count"), "{report:#}");
    for times in ["/fromDueMs", "/serviceMs"] {
        let steps = ["p50", "p90", "p99", "p999", "max"].map(|name| of(&format!("{times}/{name}")));
        assert!(steps.is_sorted(), "{report:#}");
    }
    let rate = of("/accepted/records") / of("/seconds");
    assert!((of("/recordsPerSecond") - rate).abs() <= rate * 0.001, "{report:#}");
    assert_eq!(ended.code, i32::from(not > 0.0), "{ended:?}");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_counts_is_in_the_lake() {
    let mut home = Home::new();
    let up = home.start();
    let data = home.data().display().to_string();
    let create = ["keys", "create", "--data", &data, "--workspace", "second", "--label", "bench", "--source", "bench"];
    let permissions = ["--permission", "api:write", "--permission", "api:read", "--json"];
    let created = home.run(&[&create[..], &permissions].concat()).await.ok().out;
    std::fs::write(home.path().join("keys"), format!("{}\n{created}", home.key())).expect("a file");
    let (url, admin) = (up.url(), format!("http://{}", up.admin));
    let target = ["bench", "--url", &url, "--keys", "keys", "--admin", &admin, "--json", "--seed", "5"];
    let load = ["--rate", "1500", "--duration", "2s", "--batch", "50", "--size", "700", "--overwrites", "0.2"];
    let more = ["--dates", "7", "--overtime", "2m"];
    let report = assert_adds_up(&home.run(&[&target[..], &load, &more].concat()).await.ok());
    assert_eq!((&report["due"]["records"], &report["due"]["requests"]), (&json!(3_000), &json!(60)), "{report:#}");
    assert_eq!(report["bytes"], 3_000 * 701, "{report:#}");
    assert_eq!(report["answers"], json!({"202": 60}), "{report:#}");
    assert!(number(&report, "/freshnessMs/count") >= 1.0 && report["notLanded"] == 0, "{report:#}");
    assert!(number(&report, "/lag/samples") >= 2.0 && number(&report, "/lag/max/records") >= 0.0, "{report:#}");
    let identities = report["identities"].as_u64().expect("a count");
    assert!((2_200..2_600).contains(&identities), "a fifth are overwrites: {report:#}");

    up.until_landed().await;
    let landed = async || up.metric("tributary_records_total", "outcome=\"landed\"").await;
    let overwritten = async || up.metric("tributary_records_total", "outcome=\"overwritten\"").await;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while landed().await + overwritten().await < 3_000 {
        assert!(std::time::Instant::now() < deadline, "{} landed", landed().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((landed().await, overwritten().await), (identities, 3_000 - identities));
    let second = up.scan().replace("/default/", "/second/");
    let rows = format!(
        "SELECT vendor_ids, data, event_at FROM {} UNION ALL SELECT vendor_ids, data, event_at FROM {second}",
        up.scan()
    );
    let found = query(&format!(
        "SELECT count(*), count(DISTINCT vendor_ids::VARCHAR), count(DISTINCT event_at::DATE) FROM ({rows})"
    ));
    assert_eq!(found[0], [identities, identities, 7].map(Value::from));
    home.lake(&["check"]).await.ok();

    // The same seed: the same records, and nothing new in the lake.
    assert_adds_up(&home.run(&[&target[..], &load, &more].concat()).await.ok());
    up.until_landed().await;
    let again = query(&format!("SELECT count(*) FROM ({rows})"));
    assert_eq!(again[0][0], identities);
}

/// One stall of a second in three. By the requests that were sent, one of 300 was slow; by those that were due, a third.
#[tokio::test(flavor = "multi_thread")]
async fn a_stall_cannot_hide_behind_the_requests_that_it_holds_up() {
    let target = Target::start(async |n| {
        if n == 100 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        None
    })
    .await;
    let load = ["--rate", "100", "--batch", "1", "--duration", "3s", "--connections", "1", "--overtime", "1m"];
    let report = assert_adds_up(&target.bench(&load).await.ok());
    assert_eq!(report["accepted"]["requests"], 300, "{report:#}");
    let of = |pointer: &str| number(&report, pointer);
    assert!(of("/serviceMs/max") >= 1_000.0 && of("/fromDueMs/max") >= 1_000.0, "{report:#}");
    assert!(of("/fromDueMs/p90") >= 600.0, "{report:#}");
    assert!(of("/serviceMs/p90") <= of("/fromDueMs/p90") / 2.0, "{report:#}");
}

/// The lake stands still from the start for two of three seconds, and the API does not notice. Samples are taken all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_lake_that_stalls_cannot_choose_its_samples() {
    let (open, lake) = watch::channel(false);
    let begun = Arc::new(tokio::sync::Notify::new());
    let first = Arc::clone(&begun);
    let target = Target::with_lake(
        move |n| {
            if n == 0 {
                first.notify_one();
            }
            async { None }
        },
        lake,
    )
    .await;
    tokio::spawn(async move {
        begun.notified().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        open.send_replace(true);
        std::future::pending::<()>().await;
    });
    let load = ["--rate", "100", "--batch", "1", "--duration", "3s", "--overtime", "1m"];
    let report = assert_adds_up(&target.bench(&load).await.ok());
    let of = |pointer: &str| number(&report, pointer);
    // One in each tenth of a second, twenty of them in the stall.
    assert_eq!((of("/freshnessMs/count"), of("/notLanded")), (30.0, 0.0), "{report:#}");
    assert!(of("/freshnessMs/max") >= 1_800.0 && of("/freshnessMs/p50") >= 300.0, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_land_counts_with_its_waiting_time() {
    let (_open, lake) = watch::channel(false);
    let target = Target::with_lake(async |_| None, lake).await;
    let load = ["--rate", "20", "--batch", "1", "--duration", "1s", "--overtime", "1m", "--landing", "1s"];
    let report = assert_adds_up(&target.bench(&load).await.ok());
    let of = |pointer: &str| number(&report, pointer);
    assert_eq!((of("/freshnessMs/count"), of("/notLanded")), (10.0, 10.0), "{report:#}");
    assert!(of("/freshnessMs/p50") >= 1_000.0, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_does_not_keep_up_is_shown_not_to() {
    let target = Target::start(async |_| {
        tokio::time::sleep(Duration::from_millis(100)).await;
        None
    })
    .await;
    let load = ["--rate", "1000", "--batch", "5", "--duration", "1s", "--connections", "2", "--overtime", "0s"];
    let ended = target.bench(&load).await;
    let report = assert_adds_up(&ended);
    assert_eq!((ended.code, &report["due"]["records"]), (1, &json!(1_000)), "{report:#}");
    // Two connections, ten requests a second each.
    assert!(number(&report, "/accepted/requests") <= 22.0, "{report:#}");
    assert!(number(&report, "/notAccepted/unsent") >= 850.0, "{report:#}");
    assert!(number(&report, "/fromDueMs/p50") >= 300.0, "those never sent count too: {report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_again_when_it_is_told_to() {
    let target = Target::start(async |n| {
        let status = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].get(usize::try_from(n).ok()?)?;
        let body = json!({"error": "BUSY", "message": "not now", "retryAfter": 1});
        Some((*status, Json(body)).into_response())
    })
    .await;
    let load = ["--rate", "20", "--batch", "1", "--duration", "500ms", "--connections", "1", "--overtime", "1m"];
    let report = assert_adds_up(&target.bench(&load).await.ok());
    assert_eq!(report["answers"], json!({"202": 10, "429": 1, "503": 1}), "{report:#}");
    assert!(number(&report, "/seconds") >= 2.0, "{report:#}");
    assert_eq!(report["firstError"], "429 BUSY: not now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_with_the_report_so_far() {
    let mut target = Target::start(async |_| None).await;
    let load = target.arguments(&["--rate", "200", "--batch", "2", "--duration", "1h"]);
    let mut command = command(&std::env::temp_dir(), load);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    target.seen.wait_for(|seen| *seen >= 20).await.expect("requests");
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let code = output.status.code().unwrap_or(-1);
    let report = assert_adds_up(&Finished { code, out: text(output.stdout), err: text(output.stderr) });
    assert_eq!(report["early"], true, "{report:#}");
    assert!(number(&report, "/accepted/requests") >= 18.0, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_said_at_once() {
    let refusing = Target::start(async |_| {
        Some((StatusCode::UNAUTHORIZED, Json(json!({"error": "UNAUTHORIZED", "message": "no"}))).into_response())
    })
    .await;
    let ended = refusing.bench(&["--duration", "1h"]).await;
    let report = assert_adds_up(&ended);
    assert_eq!((ended.code, &report["early"]), (1, &json!(true)), "{ended:?}");
    assert!(ended.err.contains("401 UNAUTHORIZED: no"), "{ended:?}");
    for (flags, said) in [
        (&["--size", "20"][..], "at least"),
        (&["--overwrites", "2"], "from 0 to 1"),
        (&["--batch", "1000", "--size", "9000"], "records fit"),
        (&["--duration", "0s"], "nothing would be sent"),
    ] {
        let fixed = ["bench", "--url", &refusing.url, "--key", "em_sk_any"];
        let ended = tributary(&std::env::temp_dir(), [&fixed, flags].concat()).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(said), "{ended:?}");
    }
    let keyless = tributary(&std::env::temp_dir(), ["bench"]).await;
    assert!(keyless.code == 2 && keyless.err.contains("--keys FILE"), "{keyless:?}");
}
