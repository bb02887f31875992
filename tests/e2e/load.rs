//! Many at once, and nothing that cannot be accounted for.

use crate::{
    harness::{Home, World, query},
    model::{MESSAGES, record},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

const NDJSON: &str = "application/x-ndjson";

/// A valid body of almost 5 MB.
fn largest_body(client: usize) -> Vec<u8> {
    let text = "x".repeat(26_000);
    let lines: Vec<String> = (0..199)
        .map(|n| record(&format!("c{client}-{n}"), 1_600_000_000, &format!("{{\"text\":\"{text}\"}}")))
        .collect();
    let body = lines.join("\n").into_bytes();
    assert!((5_000_000..5 * 1024 * 1024).contains(&body.len()), "{}", body.len());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_with_the_largest_body_at_once() {
    let mut home = Home::new();
    let up = home.start();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..64 {
        let http = up.http.clone();
        clients.spawn(async move {
            let body = largest_body(client);
            let key = format!("client-{client}");
            let mut refused = 0;
            let begun = Instant::now();
            loop {
                assert!(begun.elapsed() < Duration::from_secs(120), "client {client} was refused for two minutes");
                // A server that is full may answer before it has read the body, which cuts the connection.
                let Ok(answer) = http.try_post(NDJSON, body.clone(), Some(&key)).await else { continue };
                if answer.status == 202 {
                    return (answer.batch_id(), refused);
                }
                assert_eq!(answer.status, 503, "{answer:?}");
                let seconds = answer.retry_after.expect("says when to come back");
                assert_eq!(answer.json["retryAfter"], seconds);
                refused += 1;
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
        });
    }
    let accepted = clients.join_all().await;
    let peak = up.peak_memory() / (1024 * 1024);
    let refused: usize = accepted.iter().map(|(_, refused)| refused).sum();
    eprintln!("64 × 5 MB: {refused} times refused, peak {peak} MB");
    assert!(peak < 512, "{peak} MB");
    for (id, _) in accepted {
        up.http.complete(&id).await;
    }
    assert!(up.peak_memory() < 512 * 1024 * 1024, "{} bytes", up.peak_memory());
    let rows = query(&format!("SELECT count(*), sum(length(data)) FROM {}", up.scan()));
    assert_eq!(rows[0][0], 64 * 199);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_idle_connections_disturb_nobody() {
    let mut home = Home::new();
    let up = home.start();
    let before = up.peak_memory();
    let mut idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(up.listen).expect("a connection")).collect();
    // Half of them say nothing; half begin a request and leave it at that.
    for stream in idle.iter_mut().step_by(2) {
        stream.write_all(b"POST /api/v1/ingest HTTP/1.1\r\nhost: x\r\n").expect("sent");
    }
    up.http.land(MESSAGES).await;
    assert!(up.peak_memory() - before < 100 * 1024 * 1024);
    // They are not kept for ever.
    for mut stream in idle {
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let mut rest = Vec::new();
        let closed = stream.read_to_end(&mut rest);
        assert!(closed.is_ok() || closed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    }
}

/// Connections that cannot be taken are said to be once, not twenty times a second, and are taken once they can be.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_file_descriptors_says_so_once() {
    if !World::has_embedded("clients of servers need descriptors of their own") {
        return;
    }
    let mut home = Home::new();
    let up = home.start();
    up.http.land(MESSAGES).await;
    let limit = |count: &str| {
        let (pid, limit) = (format!("--pid={}", up.id()), format!("--nofile={count}:"));
        assert!(Command::new("prlimit").args([pid, limit]).status().expect("prlimit").success());
    };
    let open = std::fs::read_dir(format!("/proc/{}/fd", up.id())).expect("it runs").count();
    limit(&(open + 10).to_string());
    let idle: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(up.listen).expect("a connection")).collect();
    let said = || home.log().matches("cannot take a connection").count();
    let begun = Instant::now();
    while said() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", home.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Twenty tries.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(said(), 1);
    limit("1024");
    drop(idle);
    up.http.land(record("after", 1_600_000_000, "{}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_ends_in_exactly_one_outcome() {
    let mut home = Home::new();
    let up = home.start();
    let (mut accepted, mut rejected) = (0, 0);
    for round in 0..10 {
        let lines: Vec<String> = (0..100)
            .map(|n| match (n + round) % 10 {
                0 => "{\"_type\":".to_owned(),
                1 => record("bad", -1, "[]"),
                2 => record("same", 1_600_000_000, "{}"),
                k => record(&format!("r{}", n % 40), 1_600_000_000, &format!("{{\"v\":{}}}", round * k % 3)),
            })
            .collect();
        let answer = up.http.land(lines.join("\n")).await;
        accepted += answer.json["acceptedCount"].as_u64().expect("a count");
        rejected += answer.json["rejectedCount"].as_u64().expect("a count");
    }
    assert_eq!((accepted, rejected), (800, 200));
    let outcome = async |name: &str| up.metric("tributary_records_total", &format!("outcome=\"{name}\"")).await;
    let landed = [outcome("landed").await, outcome("overwritten").await, outcome("unchanged").await];
    assert_eq!(landed.iter().sum::<u64>() + outcome("dead_lettered").await, accepted, "{landed:?}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while outcome("rejected").await < rejected && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(outcome("rejected").await, rejected);
    assert_eq!(up.metric("tributary_ingest_records_total", "accepted").await, accepted);
    assert_eq!(up.metric("tributary_ingest_records_total", "rejected").await, rejected);
    let rows = query(&format!("SELECT count(*) FROM {}", up.scan()));
    assert_eq!(rows[0][0], landed[0], "a row for each landed record");
    home.lake(&["check"]).await.ok();
}

/// Lanes of one table commit past each other: that is counted, and blames nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_race_for_a_table_are_told_from_strangers() {
    let mut home = Home::new();
    let up = home.try_start(&[("TRIBUTARY_SPREAD", "4")]).expect("it starts");
    let lost = async |against: &str| up.metric("tributary_commit_conflicts_total", &format!("\"{against}\"")).await;
    let begun = Instant::now();
    for n in 0.. {
        let lines: Vec<String> =
            (0..40).map(|k| record(&format!("r{k}"), 1_600_000_000, &format!("{{\"n\":{n}}}"))).collect();
        up.http.land(lines.join("\n")).await;
        if lost("lane").await > 0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "four lanes never met in {n} rounds");
    }
    assert_eq!(lost("other").await, 0);
    home.lake(&["check"]).await.ok();
}
