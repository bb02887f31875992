//! Who may do what, and how often.

use crate::harness::{answer, lines, record, start, start_beside, start_with};
use reqwest::{Method, StatusCode};
use std::time::{Duration, Instant};
use tributary_backends::{
    tables::Permission,
    world::{SystemWorld, World},
};

#[tokio::test]
async fn without_a_live_key_everything_is_401() {
    let server = start().await;
    let paths = [(Method::POST, "/api/v1/ingest"), (Method::GET, "/api/v1/ingest/batches")];
    for (method, path) in paths {
        for key in [None, Some("em_sk_unknown"), Some("")] {
            let mut request = server.client.request(method.clone(), server.url(path));
            if let Some(key) = key {
                request = request.header("x-api-key", key);
            }
            let refused = answer(request).await;
            assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"));
        }
    }
}

#[tokio::test]
async fn posting_needs_write_and_getting_either() {
    let mut server = start().await;
    server.key = server.add_key("default", &[Permission::Read], None).await.1;
    let refused = server.post_json(record("1", "{}")).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "FORBIDDEN"));
    assert_eq!(server.get("/api/v1/ingest/batches").await.status, StatusCode::OK);
    server.key = server.add_key("default", &[Permission::Write], None).await.1;
    assert_eq!(server.post_json(record("1", "{}")).await.status, StatusCode::ACCEPTED);
    assert_eq!(server.get("/api/v1/ingest/batches").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_revoked_key_stops_working_within_seconds() {
    let mut server = start_with(|config| config.timeouts.key_cache = Duration::from_millis(100)).await;
    let (id, secret) = server.add_key("default", &[Permission::Write], None).await;
    server.key = secret;
    assert_eq!(server.get("/api/v1/ingest/batches").await.status, StatusCode::OK);
    assert!(server.tables.revoke_key(&id, SystemWorld.now_micros()).await.expect("revoked"));
    let revoked = Instant::now();
    while server.get("/api/v1/ingest/batches").await.status != StatusCode::UNAUTHORIZED {
        assert!(revoked.elapsed() < Duration::from_secs(5), "still works");
    }
}

#[tokio::test]
async fn every_request_counts_against_the_rate_of_its_key() {
    let mut server = start_with(|config| config.load.rate_limit = 3).await;
    let other = server.add_key("default", &[Permission::Read], Some(0)).await.1;
    let mut refused = None;
    // Bad requests count as good ones do. More of them than can pass even if this machine is slow.
    for n in 0..100 {
        let answer = if n % 2 == 0 { server.get("/api/v1/ingest/batches").await } else { server.post_json("x").await };
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some((n, answer));
            break;
        }
    }
    let (passed, refused) = refused.expect("a limit");
    assert!(passed >= 3, "{passed}");
    assert_eq!(refused.code(), "RATE_LIMITED");
    assert_eq!(refused.json["retryAfter"], 1);
    assert_eq!(refused.headers["retry-after"], "1");
    server.key = other;
    for _ in 0..20 {
        assert_eq!(server.get("/api/v1/ingest/batches").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_use_of_a_key_is_noted_to_the_minute() {
    let mut server = start().await;
    let (id, secret) = server.add_key("default", &[Permission::Write], None).await;
    server.key = secret;
    let before = SystemWorld.now_micros();
    assert_eq!(server.post_ndjson(lines(1)).await.status, StatusCode::ACCEPTED);
    let started = Instant::now();
    let used = loop {
        let keys = server.tables.keys(Some("default")).await.expect("keys");
        if let Some(used) = keys.iter().find(|key| key.id == id).and_then(|key| key.last_used_at) {
            break used;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "not noted");
        tokio::task::yield_now().await;
    };
    assert!(used >= before - 60_000_000 && used <= SystemWorld.now_micros());
}

/// The first second is left out: until the processes have told each other, each gives out the whole rate.
#[tokio::test]
async fn a_rate_holds_over_two_processes() {
    const RATE: u32 = 40;
    let limited = |config: &mut tributary_ingest_api::Config| {
        config.load.rate_limit = RATE;
        config.load.rate_exchange = Duration::from_millis(100);
    };
    let first = start_with(limited).await;
    let second = start_beside(&first, limited).await;
    let flood = async |time: Duration| {
        let (started, mut passed) = (Instant::now(), 0);
        while started.elapsed() < time {
            let (one, two) = tokio::join!(first.get("/api/v1/ingest/batches"), second.get("/api/v1/ingest/batches"));
            passed += [one, two].iter().filter(|answer| answer.status == StatusCode::OK).count();
        }
        (passed as f64, started.elapsed().as_secs_f64() * f64::from(RATE))
    };
    flood(Duration::from_secs(1)).await;
    let (passed, allowed) = flood(Duration::from_secs(3)).await;
    assert!(passed <= allowed * 1.4, "{passed} of {allowed}, and each process by itself would give as much");
    assert!(passed >= 40.0, "{passed} of {allowed}");
}
