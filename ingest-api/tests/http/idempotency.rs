//! The same request twice takes effect once.

use crate::harness::{Answer, Server, answer, lines, record, start, start_with};
use reqwest::StatusCode;
use std::{io::Write, sync::atomic::Ordering, time::Duration};
use tokio::time::Instant;

async fn post(server: &Server, key: &str, body: impl Into<reqwest::Body>) -> Answer {
    answer(server.ingest("application/x-ndjson", body).header("idempotency-key", key)).await
}

#[tokio::test]
async fn a_repeat_gets_the_stored_answer_however_it_is_compressed() {
    let server = start().await;
    let body = format!("{}{{}}\n", lines(3));
    let first = post(&server, "k", body.clone()).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    let again = post(&server, "k", body.clone()).await;
    assert_eq!((again.status, &again.json), (first.status, &first.json));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body.as_bytes()).expect("memory");
    let zipped = encoder.finish().expect("memory");
    let request = server.ingest("application/x-ndjson", zipped).header("content-encoding", "gzip");
    assert_eq!(answer(request.header("idempotency-key", "k")).await.json, first.json);
    assert_eq!(server.stored().await.len(), 3);
}

#[tokio::test]
async fn a_key_is_good_for_one_body_and_one_workspace() {
    let mut server = start().await;
    let first = post(&server, "k", lines(1)).await;
    let reused = post(&server, "k", lines(2)).await;
    assert_eq!((reused.status, reused.code()), (StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_REUSED"));
    server.key = server.add_key("other", &[tributary_backends::tables::Permission::Write], None).await.1;
    let elsewhere = post(&server, "k", lines(2)).await;
    assert_eq!(elsewhere.status, StatusCode::ACCEPTED);
    assert_ne!(elsewhere.json["batchId"], first.json["batchId"]);
}

#[tokio::test]
async fn only_a_202_uses_the_key_up() {
    let server = start().await;
    assert_eq!(post(&server, "k", "{}\n").await.status, StatusCode::BAD_REQUEST);
    server.log.away.store(true, Ordering::SeqCst);
    let away = post(&server, "k", lines(1)).await;
    assert_eq!((away.status, away.code()), (StatusCode::SERVICE_UNAVAILABLE, "BACKEND_UNAVAILABLE"));
    assert!(away.json["retryAfter"].as_u64() > Some(0) && away.headers.contains_key("retry-after"));
    server.log.away.store(false, Ordering::SeqCst);
    assert_eq!(post(&server, "k", lines(1)).await.status, StatusCode::ACCEPTED);
    assert_eq!(server.stored().await.len(), 1);
}

#[tokio::test]
async fn concurrent_twins_are_one_request() {
    let server = start().await;
    let twins = (0..8).map(|_| post(&server, "k", lines(5)));
    let answers = futures::future::join_all(twins).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.json), (StatusCode::ACCEPTED, &answers[0].json));
    }
    assert_eq!(server.stored().await.len(), 5);
}

#[tokio::test]
async fn a_twin_that_waited_long_enough_gets_429() {
    let server = start_with(|config| config.idempotency.wait = Duration::from_millis(20)).await;
    server.log.held.store(true, Ordering::SeqCst);
    let (first, second) = tokio::join!(post(&server, "k", lines(1)), async {
        server.log.waiting.notified().await;
        let second = post(&server, "k", lines(1)).await;
        server.log.release();
        second
    });
    assert_eq!((second.status, second.code()), (StatusCode::TOO_MANY_REQUESTS, "IDEMPOTENCY_KEY_IN_FLIGHT"));
    assert_eq!(second.json["retryAfter"], 1);
    assert_eq!(first.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_sender_that_hangs_up_finds_its_answer_later() {
    let server = start().await;
    server.log.held.store(true, Ordering::SeqCst);
    let gone = server.ingest("application/x-ndjson", lines(1)).header("idempotency-key", "k").send();
    tokio::select! {
        _ = gone => panic!("answered while the log was held"),
        () = server.log.waiting.notified() => {}
    }
    server.log.release();
    assert_eq!(post(&server, "k", lines(1)).await.status, StatusCode::ACCEPTED);
    assert_eq!(server.stored().await.len(), 1);
}

#[tokio::test]
async fn a_key_that_is_too_long_is_400() {
    let server = start().await;
    assert_eq!(post(&server, &"k".repeat(256), record("1", "{}")).await.status, StatusCode::ACCEPTED);
    let refused = post(&server, &"k".repeat(257), record("1", "{}")).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "INVALID_IDEMPOTENCY_KEY"));
}

/// What it appends is void before a repeat may have the key; without a key there is nobody to be in the way of.
#[tokio::test]
async fn what_a_request_appends_ends_with_its_lease() {
    let lease = Duration::from_secs(40);
    let server = start_with(|config| config.idempotency.lease = lease).await;
    let by = || *server.log.by.lock().expect("no panic");
    assert_eq!(server.post_ndjson(lines(1)).await.status, StatusCode::ACCEPTED);
    assert_eq!(by(), None);
    let before = Instant::now();
    assert_eq!(post(&server, "k", lines(1)).await.status, StatusCode::ACCEPTED);
    let by = by().expect("it has a key");
    assert!(before < by && by < Instant::now() + lease.mul_f64(0.95), "{by:?}");
}

#[tokio::test]
async fn a_request_that_outlives_its_lease_is_given_up() {
    let server = start_with(|config| config.idempotency.lease = Duration::from_millis(200)).await;
    server.log.held.store(true, Ordering::SeqCst);
    let slow = post(&server, "k", lines(1)).await;
    assert_eq!((slow.status, slow.code()), (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"));
    assert_eq!(slow.json["retryAfter"], 1);
    server.log.release();
    assert_eq!(post(&server, "k", lines(1)).await.status, StatusCode::ACCEPTED);
}
