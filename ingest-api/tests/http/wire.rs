//! What no well-behaved client sends: over plain TCP.

use crate::harness::{Server, lines, start, start_with};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address).await.expect("connection")
}

fn head(server: &Server, more: &str) -> String {
    let key = &server.key;
    format!(
        "POST /api/v1/ingest HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\nContent-Type: application/x-ndjson\r\n{more}\r\n"
    )
}

/// Reads until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).expect("text")
}

/// Reads one answer's head and as much of its body as came with it.
async fn some(stream: &mut TcpStream, until: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4_096];
    while !text.contains(until) {
        let n = stream.read(&mut buffer).await.expect("readable");
        assert!(n > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..n]).expect("text"));
    }
    text
}

#[tokio::test]
async fn a_sender_that_stops_in_the_middle_gets_408_and_is_closed() {
    let server = start_with(|config| config.timeouts.body_grace = Duration::from_millis(50)).await;
    let mut stream = connect(&server).await;
    stream.write_all(head(&server, "Content-Length: 1000\r\n").as_bytes()).await.expect("sent");
    stream.write_all(b"{").await.expect("sent");
    let text = rest(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    assert!(
        text.contains(r#""error":"REQUEST_TIMEOUT""#) && text.to_lowercase().contains("connection: close"),
        "{text}"
    );
    assert!(server.metrics().contains("tributary_ingest_memory_bytes 0\n"));
    server.assert_nothing_stored().await;
}

#[tokio::test]
async fn slow_senders_keep_nobody_out() {
    let server = start_with(|config| config.load.memory_budget = 16 << 20).await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(&server).await;
        stream.write_all(head(&server, "Content-Length: 5000000\r\n").as_bytes()).await.expect("sent");
        stream.write_all(b"{").await.expect("sent");
        slow.push(stream);
    }
    assert_eq!(server.post_ndjson(lines(10)).await.status, 202);
    drop(slow);
}

/// Told to stop in the middle of a body: what comes to its end is stored, if there is time for it, and who has not come to it
/// holds nobody up.
#[tokio::test]
async fn a_body_that_is_not_whole_when_the_server_stops_has_as_long_as_an_append() {
    let mut server = start().await;
    let settles = Duration::from_secs(3);
    server.log.settle_within(settles);
    let body = lines(1);
    let head = head(&server, &format!("Content-Length: {}\r\n", body.len()));
    let (mut whole, mut torn) = (connect(&server).await, connect(&server).await);
    for stream in [&mut whole, &mut torn] {
        stream.write_all(head.as_bytes()).await.expect("sent");
    }
    while !server.metrics().contains("tributary_http_requests_in_flight 2\n") {
        tokio::task::yield_now().await;
    }
    let told = tokio::time::Instant::now();
    server.stop.cancel();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    whole.write_all(body.as_bytes()).await.expect("sent");
    let accepted = rest(&mut whole).await;
    assert!(accepted.starts_with("HTTP/1.1 202"), "{accepted}");
    let by = server.log.by.lock().expect("no panic").expect("the server stops");
    let at_most = tokio::time::Instant::now() + settles;
    assert!(told < by && by < at_most, "nothing is appended when the time to stop is over");
    let ((), refused) = tokio::join!(server.stopped(), rest(&mut torn));
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains(r#""error":"SHUTTING_DOWN""#), "{refused}");
    assert!(refused.to_lowercase().contains("connection: close"), "{refused}");
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    assert_eq!(server.stored().await.len(), 1);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_closed() {
    let server = start_with(|config| config.timeouts.header = Duration::from_millis(50)).await;
    let mut stream = connect(&server).await;
    stream.write_all(b"POST /api/v1/ingest HTTP/1.1\r\nHost:").await.expect("sent");
    let started = Instant::now();
    rest(&mut stream).await;
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn cut_connections_store_nothing() {
    let server = start().await;
    let body = lines(3);
    let heads = [format!("Content-Length: {}\r\n", body.len() + 100), "Transfer-Encoding: chunked\r\n".to_owned()];
    for more in heads {
        let mut stream = connect(&server).await;
        let body = if more.starts_with('T') { format!("{:x}\r\n{body}\r\n", body.len()) } else { body.clone() };
        stream.write_all((head(&server, &more) + &body).as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("half closed");
        let text = rest(&mut stream).await;
        assert!(text.is_empty() || text.contains("INCOMPLETE_BODY"), "{text}");
    }
    server.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_malformed_length_is_400() {
    let server = start().await;
    for length in ["Content-Length: -1\r\n", "Content-Length: 1\r\nContent-Length: 2\r\n", "Content-Length: x\r\n"] {
        let mut stream = connect(&server).await;
        stream.write_all(head(&server, length).as_bytes()).await.expect("sent");
        let text = rest(&mut stream).await;
        assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    }
    server.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_length_that_is_too_short_stores_only_whole_records() {
    let server = start().await;
    let body = lines(2);
    let mut stream = connect(&server).await;
    let short = format!("Content-Length: {}\r\nConnection: close\r\n", body.len() - 10);
    stream.write_all((head(&server, &short) + &body).as_bytes()).await.expect("sent");
    let text = some(&mut stream, "}]}").await;
    assert!(text.contains(r#""acceptedCount":1,"rejectedCount":1"#), "{text}");
    assert_eq!(server.stored().await.len(), 1);
}

#[tokio::test]
async fn expect_continue_is_answered_and_spared_when_refused() {
    let server = start().await;
    let body = lines(1);
    let mut stream = connect(&server).await;
    let more = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", body.len());
    stream.write_all(head(&server, &more).as_bytes()).await.expect("sent");
    some(&mut stream, "100 Continue\r\n\r\n").await;
    stream.write_all(body.as_bytes()).await.expect("sent");
    assert!(some(&mut stream, "}").await.contains("202 Accepted"));
    let mut stream = connect(&server).await;
    let more = "Content-Length: 5242881\r\nExpect: 100-continue\r\n";
    stream.write_all(head(&server, more).as_bytes()).await.expect("sent");
    let text = rest(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413") && !text.contains("100 Continue"), "{text}");
}

#[tokio::test]
async fn a_refused_sender_still_reads_its_answer() {
    let server = start().await;
    let refused = crate::harness::answer(server.ingest("text/plain", "x".repeat(4 << 20))).await;
    assert_eq!(refused.status, 415);
    let refused = server.post_ndjson("x".repeat(8 << 20)).await;
    assert_eq!(refused.status, 413);
}

#[tokio::test]
async fn idle_connections_disturb_nobody() {
    let server = start().await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(connect(&server).await);
    }
    assert_eq!(server.post_ndjson(lines(1)).await.status, 202);
    drop(idle);
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_their_turn() {
    let server = start_with(|config| config.load.max_connections = 1).await;
    let get = b"GET /api/v1/ingest/batches HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut first, mut second) = (connect(&server).await, connect(&server).await);
    second.write_all(get).await.expect("sent");
    // While the second has asked already, the first is served again and again.
    for _ in 0..20 {
        first.write_all(get).await.expect("sent");
        some(&mut first, "HTTP/1.1 401").await;
    }
    let waits = second.try_read(&mut [0]).expect_err("a second connection was served");
    assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock);
    assert!(server.metrics().contains("tributary_http_connections 1\n"), "{}", server.metrics());
    drop(first);
    some(&mut second, "HTTP/1.1 401").await;
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_closed() {
    let server = start_with(|config| config.timeouts.write = Duration::from_millis(100)).await;
    let mut stream = connect(&server).await;
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    // Answers fill every buffer on the way, then the requests do; the server's close is what ends the wait.
    let asking = async { while stream.write_all(&request).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect("closed");
}
