//! Much at once: memory stays within its budget, stopping is orderly, backends that are away are said to be.

use crate::harness::{answer, lines, record, record_with, start, start_with};
use reqwest::StatusCode;
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// Much longer than it takes to stop when nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn beyond_the_budget_requests_are_503_and_the_others_get_through() {
    let budget = 24 << 20;
    let server = start_with(|config| config.load.memory_budget = budget).await;
    let large = record("1", &format!(r#"{{"x":"{}"}}"#, "x".repeat(5_000_000)));
    server.log.held.store(true, Ordering::SeqCst);
    let (answers, ()) =
        tokio::join!(futures::future::join_all((0..64).map(|_| server.post_json(large.clone()))), async {
            server.log.waiting.notified().await;
            let used = server.metrics();
            let used =
                used.lines().find_map(|line| line.strip_prefix("tributary_ingest_memory_bytes ")).expect("gauge");
            assert!(used.parse::<usize>().expect("bytes") <= budget, "{used}");
            server.log.release();
        });
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.status == StatusCode::ACCEPTED);
    assert!(!accepted.is_empty());
    assert!(!refused.is_empty(), "64 bodies of 5 MB do not fit into 24 MB");
    for refused in refused {
        assert_eq!((refused.status, refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED"));
        assert_eq!(
            (&refused.json["retryAfter"], &refused.headers["retry-after"].to_str().ok()),
            (&1.into(), &Some("1"))
        );
    }
    assert!(server.metrics().contains("tributary_ingest_memory_bytes 0\n"), "all of it was given back");
    assert_eq!(server.post_json(large).await.status, StatusCode::ACCEPTED);
}

/// What is wrong with a record can take many times its bytes to say.
#[tokio::test]
async fn rejects_count_against_the_budget_with_their_true_size() {
    let unknown: String = (0..100).map(|n| format!(r#","u{n}":0"#)).collect();
    let body = lines(1) + &(record_with("1", "{}", &unknown) + "\n").repeat(10);
    let small = start_with(|config| config.load.memory_budget = 8 * body.len()).await;
    let refused = small.post_ndjson(body.clone()).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED"));
    small.assert_nothing_stored().await;
    let ample = start_with(|config| config.load.memory_budget = 100 * body.len()).await;
    assert_eq!(ample.post_ndjson(body).await.json["rejectedCount"], 10);
    assert!(ample.metrics().contains("tributary_ingest_memory_bytes 0\n"));
}

#[tokio::test]
async fn a_log_that_is_away_is_503_and_the_batch_does_not_land() {
    let server = start().await;
    server.log.away.store(true, Ordering::SeqCst);
    let refused = server.post_ndjson(lines(1)).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "BACKEND_UNAVAILABLE"));
    assert!(refused.json["retryAfter"].as_u64() > Some(0));
    let batches = server.get("/api/v1/ingest/batches").await.json;
    assert_eq!(batches["batches"][0]["status"], "LANDING");
}

#[tokio::test]
async fn leaving_answers_everybody_and_ends_their_connections() {
    let server = start().await;
    assert!(!server.post_ndjson(lines(1)).await.headers.contains_key("connection"));
    server.api.leave();
    // The first over the connection that is there, the others over new ones.
    for _ in 0..3 {
        let answer = server.post_ndjson(lines(1)).await;
        assert_eq!((answer.status, answer.headers["connection"].to_str().ok()), (StatusCode::ACCEPTED, Some("close")));
    }
    while !server.metrics().contains("tributary_http_connections 0\n") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn stopping_answers_what_is_in_flight_and_refuses_the_rest() {
    let mut server = start().await;
    server.log.settle_within(PATIENCE);
    server.log.held.store(true, Ordering::SeqCst);
    let request = server.ingest("application/x-ndjson", lines(1));
    let in_flight = tokio::spawn(answer(request));
    server.log.waiting.notified().await;
    server.stop.cancel();
    // The listener is closed once new connections are refused.
    while tokio::net::TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.log.release();
    assert_eq!(in_flight.await.expect("no panic").status, StatusCode::ACCEPTED);
    server.stopped().await;
    assert_eq!(server.stored().await.len(), 1);
}

/// As a broker that is slow: the process stops no sooner than an append may have ended.
#[tokio::test]
async fn stopping_waits_for_as_long_as_an_append_may_take() {
    let mut server = start().await;
    server.log.settle_within(Duration::from_secs(60));
    *server.log.takes.lock().expect("no panic") = Duration::from_secs(6);
    server.log.held.store(true, Ordering::SeqCst);
    let in_flight = tokio::spawn(answer(server.ingest("application/x-ndjson", lines(1))));
    server.log.waiting.notified().await;
    server.stop.cancel();
    server.log.release();
    server.stopped().await;
    assert_eq!(in_flight.await.expect("no panic").status, StatusCode::ACCEPTED);
    assert_eq!(server.stored().await.len(), 1);
}

/// Nobody is told to send again while what he sent may still come to pass.
#[tokio::test]
async fn what_is_not_stored_when_the_time_to_stop_is_over_gets_503_and_not_sooner() {
    let mut server = start().await;
    let settles = Duration::from_millis(500);
    server.log.settle_within(settles);
    server.log.held.store(true, Ordering::SeqCst);
    let stuck = tokio::spawn(answer(server.ingest("application/x-ndjson", lines(1))));
    server.log.waiting.notified().await;
    let told = Instant::now();
    let ((), refused) = tokio::join!(server.stopped(), async {
        let refused = stuck.await.expect("no panic");
        assert!(told.elapsed() >= settles, "{:?}", told.elapsed());
        refused
    });
    assert!(told.elapsed() < PATIENCE);
    assert_eq!((refused.status, refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "SHUTTING_DOWN"));
    assert_eq!(refused.json["retryAfter"], 1);
    assert_eq!(refused.headers["connection"], "close");
}

#[tokio::test]
async fn stopping_ends_long_polls_and_does_not_wait_for_ever() {
    let mut server = start().await;
    let started = Instant::now();
    let id = server.post_ndjson(lines(1)).await.json["batchId"].as_str().expect("id").to_owned();
    let poll = server.request(reqwest::Method::GET, &format!("/api/v1/ingest/batches/{id}?wait=LANDED&timeout=60"));
    let poll = tokio::spawn(answer(poll));
    while !server.metrics().contains("tributary_http_requests_in_flight 1\n") {
        tokio::task::yield_now().await;
    }
    server.stopped().await;
    assert_eq!(poll.await.expect("no panic").json["status"], "LANDING");
    assert!(started.elapsed() < PATIENCE, "the poll would have taken 60 s");
}

#[tokio::test]
async fn records_are_counted_by_what_became_of_them() {
    let server = start().await;
    server.post_ndjson(format!("{}{{}}\n{{}}\n", lines(3))).await;
    server.post_ndjson("{}\n{}\n{}\n{}\n").await;
    let metrics = server.metrics();
    for line in [
        "tributary_ingest_records_total{result=\"accepted\"} 3",
        "tributary_ingest_records_total{result=\"rejected\"} 2",
        "tributary_ingest_records_total{result=\"refused\"} 4",
        "tributary_ingest_batches_total 1",
        "tributary_http_requests_total{route=\"/api/v1/ingest\",method=\"POST\",status=\"202\"} 1",
        "tributary_http_requests_total{route=\"/api/v1/ingest\",method=\"POST\",status=\"400\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}
