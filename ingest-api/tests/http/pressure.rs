//! A lake that falls behind: senders are told when to come back, and only those whose records would wait.

use crate::harness::{Answer, LANES, Server, answer, record, start_with};
use reqwest::StatusCode;
use std::time::{Duration, Instant};
use tributary_backends::{
    log::{Change, Member, PartitionReader, RecordLog, Topic},
    tables::Permission,
};

const LIMIT: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);

async fn post(server: &Server, key: &str) -> Answer {
    let body = record("1", "{}");
    answer(server.ingest("application/json", body).headers(header(key))).await
}

fn header(key: &str) -> reqwest::header::HeaderMap {
    [("x-api-key".parse().expect("name"), key.parse().expect("value"))].into_iter().collect()
}

/// Sends until the answer has this status.
async fn until(server: &Server, key: &str, status: StatusCode) -> Answer {
    let started = Instant::now();
    loop {
        let answer = post(server, key).await;
        if answer.status == status {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{answer:?}");
    }
}

/// The pipeline's readers, which do nothing until told to, for as long as their member lives.
async fn readers(server: &Server) -> (Box<dyn Member>, Vec<Box<dyn PartitionReader>>) {
    let mut member = server.log.join("lanes", Topic::Records).await.expect("join");
    let mut readers = Vec::new();
    for _ in 0..LANES.partitions {
        let Change::Assigned(reader) = member.next().await.expect("change") else { panic!("revoked") };
        readers.push(reader);
    }
    (member, readers)
}

#[tokio::test]
async fn a_stalled_pipeline_is_429_until_it_has_caught_up() {
    let server = start_with(|config| config.load.max_lag = LIMIT).await;
    let behind = until(&server, &server.key, StatusCode::TOO_MANY_REQUESTS).await;
    assert_eq!(behind.code(), "PIPELINE_BEHIND");
    let wait = behind.json["retryAfter"].as_u64().expect("in the body");
    assert!((1..=60).contains(&wait));
    assert_eq!(behind.headers["retry-after"], wait.to_string());
    let message = behind.json["message"].as_str().expect("message");
    assert!(message.contains("has reached the lake for") && message.contains("nothing of this request"), "{message}");

    // Nothing more is kept while it is refused, and reading goes on.
    let kept = server.stored().await.len();
    assert_eq!(post(&server, &server.key).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(server.stored().await.len(), kept);
    assert_eq!(server.get("/api/v1/ingest/batches").await.status, StatusCode::OK);
    let metrics = server.metrics();
    assert!(metrics.contains("tributary_ingest_lane_refusing{lane=") && !metrics.contains("behind_refusals_total 0\n"));

    // A workspace of other lanes goes on.
    let taken: Vec<u32> = LANES.of("default").all().collect();
    let other = (0..).map(|n| format!("w{n}"));
    let other = other.into_iter().find(|name| LANES.of(name).all().all(|lane| !taken.contains(&lane)));
    let (_, other) = server.add_key(&other.expect("some name"), &[Permission::Write], None).await;
    assert_eq!(post(&server, &other).await.status, StatusCode::ACCEPTED);

    let (_member, mut readers) = readers(&server).await;
    for reader in &mut readers {
        let high = reader.watermarks().await.expect("watermarks").high;
        reader.commit(high).await.expect("commit");
    }
    until(&server, &server.key, StatusCode::ACCEPTED).await;
}

#[tokio::test]
async fn a_pipeline_that_keeps_up_and_a_limit_of_zero_refuse_nothing() {
    let off = start_with(|config| config.load.max_lag = Duration::ZERO).await;
    let kept_up = start_with(|config| config.load.max_lag = LIMIT).await;
    let (_member, mut readers) = readers(&kept_up).await;
    let started = Instant::now();
    while started.elapsed() < LIMIT * 4 {
        assert_eq!(post(&off, &off.key).await.status, StatusCode::ACCEPTED);
        assert_eq!(post(&kept_up, &kept_up.key).await.status, StatusCode::ACCEPTED);
        for reader in &mut readers {
            let high = reader.watermarks().await.expect("watermarks").high;
            reader.commit(high).await.expect("commit");
        }
    }
}
