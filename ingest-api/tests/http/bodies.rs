//! Bodies, good and bad: what is stored, and what is said about the rest.

use crate::harness::{Server, answer, lines, record, record_with, start};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::io::Write;

const MAX: usize = 5 * 1024 * 1024;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

async fn post_encoded(server: &Server, encoding: &str, body: Vec<u8>) -> crate::harness::Answer {
    answer(server.ingest("application/x-ndjson", body).header("content-encoding", encoding)).await
}

#[tokio::test]
async fn all_forms_and_encodings_are_accepted_and_stored() {
    let server = start().await;
    let (a, b) = (record("a", "{}"), record("b", "{}"));
    let forms = [a.clone(), format!("[{a},{b}]"), format!(r#"{{"records":[{a},{b}]}}"#), format!("\u{FEFF} [{a}]")];
    for (body, count) in forms.into_iter().zip([1, 2, 2, 1]) {
        let accepted = server.post_json(body).await;
        assert_eq!(accepted.status, StatusCode::ACCEPTED, "{accepted:?}");
        assert_eq!(accepted.json["acceptedCount"], count);
    }
    let body = format!("{a}\r\n\r\n{b}\n");
    assert_eq!(server.post_ndjson(body.clone()).await.json["acceptedCount"], 2);
    let zstd = zstd::encode_all(body.as_bytes(), 3).expect("memory");
    assert_eq!(post_encoded(&server, "zstd", zstd).await.json["acceptedCount"], 2);
    let accepted = post_encoded(&server, "gzip", gzip(body.as_bytes())).await;
    let expected = json!({
        "batchId": accepted.json["batchId"], "acceptedCount": 2, "rejectedCount": 0, "totalErrorCount": 0, "errors": []
    });
    assert_eq!((accepted.status, accepted.json), (StatusCode::ACCEPTED, expected));
    assert_eq!(server.stored().await.len(), 12);
}

#[tokio::test]
async fn data_is_stored_byte_for_byte() {
    let server = start().await;
    let nested = format!("{{\"deep\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let long = format!("{{\"long\":\"{}\"}}", "x".repeat(4_000_000));
    let datas = [
        r#"{"n":1.0,"huge":1e400,"minus":-0.0,"past":123456789012345678901234567890}"#,
        r#"{ "b" : 1 ,	"a":2 }"#,
        r#"{"same":1,"same":2}"#,
        r#"{"escapes":"\u0041\/\ud83d\ude00\n","raw":"ä😀"}"#,
        r#"{"lone":"\ud800","nul":"\u0000"}"#,
        nested.as_str(),
        long.as_str(),
    ];
    let mut expected = Vec::new();
    for (n, data) in datas.iter().enumerate() {
        let body =
            if n % 2 == 0 { record(&n.to_string(), data) } else { format!("[{}]", record(&n.to_string(), data)) };
        let accepted = server.post_json(body).await;
        assert_eq!(accepted.status, StatusCode::ACCEPTED, "{data:.60}: {:?}", accepted.json);
        expected.push((accepted.json["batchId"].as_str().expect("id").to_owned(), 0, (*data).to_owned()));
    }
    expected.sort();
    assert!(server.stored().await == expected);
}

#[tokio::test]
async fn a_bad_record_costs_its_neighbours_nothing() {
    let server = start().await;
    let mut body = Vec::new();
    body.extend(record("1", r#"{"n":1}"#).bytes());
    body.extend(b"\n{\"broken\n\n\xFF\xFE\n");
    body.extend(record_with("2", "{}", r#","_unknown":1"#).bytes());
    body.extend(b"\n");
    body.extend(record("3", r#"{"n":3}"#).bytes());
    let accepted = server.post_ndjson(body).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{accepted:?}");
    assert_eq!((&accepted.json["acceptedCount"], &accepted.json["rejectedCount"]), (&json!(2), &json!(3)));
    assert_eq!(accepted.json["totalErrorCount"], 3);
    let errors = accepted.json["errors"].as_array().expect("errors");
    let places: Vec<_> = errors.iter().map(|e| (e["index"].as_u64(), e["code"].as_str())).collect();
    let (json, validation) = (Some("INVALID_JSON"), Some("VALIDATION_ERROR"));
    assert_eq!(places, [(Some(1), json), (Some(2), json), (Some(3), validation)]);
    let unknown = errors[2]["message"].as_str().expect("message");
    assert!(unknown.starts_with("/_unknown") && unknown.ends_with("(line 5)"), "{unknown}");
    let stored: Vec<_> = server.stored().await.into_iter().map(|(_, index, data)| (index, data)).collect();
    assert_eq!(stored, [(0, r#"{"n":1}"#.to_owned()), (4, r#"{"n":3}"#.to_owned())]);
}

#[tokio::test]
async fn bodies_without_a_batch_are_400_and_leave_nothing() {
    let server = start().await;
    let other = record("1", "{}").replace("message", "email");
    let product = record("1", "{}").replace(r#""p""#, r#""x""#);
    let good = record("0", "{}");
    let ten = [r#"{"type":"file"}"#; 10].join(",");
    let many = format!("{}\n", record_with("1", "{}", &format!(r#","_attachments":[{ten}]"#))).repeat(101);
    let cases = [
        ("application/json", String::new(), "EMPTY_BATCH"),
        ("application/json", " ".into(), "EMPTY_BATCH"),
        ("application/json", "[]".into(), "EMPTY_BATCH"),
        ("application/json", r#"{"records":[]}"#.into(), "EMPTY_BATCH"),
        ("application/x-ndjson", "\n\r\n".into(), "EMPTY_BATCH"),
        ("application/json", "null".into(), "INVALID_JSON"),
        ("application/json", "17".into(), "INVALID_JSON"),
        ("application/json", format!("[{good}"), "INVALID_JSON"),
        ("application/json", format!("{good}\n{good}"), "INVALID_JSON"),
        ("application/json", format!(r#"{{"records":[{good}],"more":1}}"#), "INVALID_JSON"),
        ("application/json", r#"{"records":null}"#.into(), "INVALID_JSON"),
        ("application/json", "[null]".into(), "ALL_RECORDS_REJECTED"),
        ("application/json", "{}".into(), "ALL_RECORDS_REJECTED"),
        ("application/x-ndjson", "null\n17\n".into(), "ALL_RECORDS_REJECTED"),
        ("application/x-ndjson", lines(1_001), "TOO_MANY_RECORDS"),
        ("application/json", format!("[{}{good}]", format!("{good},").repeat(1_000)), "TOO_MANY_RECORDS"),
        ("application/x-ndjson", format!("{good}\n{other}"), "MIXED_TYPES"),
        ("application/x-ndjson", format!("{good}\n{product}"), "MIXED_PRODUCTS"),
        ("application/x-ndjson", many, "TOO_MANY_ATTACHMENTS"),
    ];
    for (kind, body, code) in cases {
        let refused = answer(server.ingest(kind, body.clone())).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, code), "{body:.80}");
        if code == "ALL_RECORDS_REJECTED" {
            let details = &refused.json["details"];
            assert!(details["totalErrorCount"].as_u64() > Some(0), "{details}");
            assert!(details["errors"].as_array().is_some_and(|e| !e.is_empty() && e.len() <= 20), "{details}");
        } else {
            assert_eq!(refused.json["details"], Value::Null);
        }
    }
    server.assert_nothing_stored().await;
}

#[tokio::test]
async fn five_megabytes_pass_and_one_byte_more_does_not() {
    let server = start().await;
    let empty = record("1", r#"{"x":""}"#).len();
    let exactly = record("1", &format!(r#"{{"x":"{}"}}"#, "x".repeat(MAX - empty)));
    assert_eq!(exactly.len(), MAX);
    let more = exactly.clone() + "\n";
    let zipped = |body: &str| gzip(body.as_bytes());
    let zst = |body: &str| zstd::encode_all(body.as_bytes(), 1).expect("memory");
    assert_eq!(server.post_ndjson(exactly.clone()).await.status, StatusCode::ACCEPTED);
    assert_eq!(post_encoded(&server, "gzip", zipped(&exactly)).await.status, StatusCode::ACCEPTED);
    assert_eq!(post_encoded(&server, "zstd", zst(&exactly)).await.status, StatusCode::ACCEPTED);
    let chunked = {
        let more = more.clone().into_bytes();
        reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>(more)]))
    };
    let refused = [
        server.post_ndjson(more.clone()).await,
        server.post_ndjson(chunked).await,
        post_encoded(&server, "gzip", zipped(&more)).await,
        post_encoded(&server, "zstd", zst(&more)).await,
    ];
    for refused in refused {
        assert_eq!((refused.status, refused.code()), (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"));
    }
    assert_eq!(server.stored().await.len(), 3);
}

#[tokio::test]
async fn bombs_and_broken_compression_are_refused() {
    let server = start().await;
    let spaces = vec![b' '; 100 << 20];
    for (encoding, bomb) in [("gzip", gzip(&spaces)), ("zstd", zstd::encode_all(&spaces[..], 1).expect("memory"))] {
        let refused = post_encoded(&server, encoding, bomb).await;
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
    let packed = gzip(lines(10).as_bytes());
    let truncated = packed[..packed.len() - 3].to_vec();
    let mut trailing = packed;
    trailing.extend(b"garbage");
    for (encoding, body) in
        [("gzip", truncated), ("gzip", trailing), ("gzip", b"plain".to_vec()), ("zstd", b"plain".to_vec())]
    {
        let refused = post_encoded(&server, encoding, body).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "INVALID_COMPRESSION"));
    }
    server.assert_nothing_stored().await;
}

#[tokio::test]
async fn other_types_and_encodings_are_415() {
    let server = start().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"] {
        let refused = answer(server.ingest(kind, "{}")).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE"));
    }
    let refused = post_encoded(&server, "br", b"x".to_vec()).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_ENCODING"));
    server.assert_nothing_stored().await;
}

#[tokio::test]
async fn envelopes_that_must_be_refused_are() {
    let server = start().await;
    let with_time = |time: &str| record("1", "{}").replace("2024-05-01T10:00:00Z", time);
    let bad = [
        with_time("2024-02-30T10:00:00Z"),
        with_time("2024-06-30T23:59:60Z"),
        with_time("0000-01-01T00:00:00Z"),
        with_time("9999-12-31T23:59:59.500Z"),
        with_time("2024-05-01T10:00:00+00:00"),
        record_with("1", "{}", r#","_product_id":"p""#),
        record_with("1", "{}", r#","_thread_id":null"#),
        record_with("1", "{}", r#","_participants":[{"id":"a","role":"internal","x":1}]"#),
        record_with("1", "{}", r#","_pii":{"x":1}"#),
        record_with("1", "{}", r#","_attachments":[{"type":"file","size":9223372036854775808}]"#),
        record("1", "[]"),
    ];
    for record in bad {
        let refused = server.post_json(record.clone()).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "ALL_RECORDS_REJECTED"), "{record}");
        let message = refused.json["details"]["errors"][0]["message"].as_str().expect("message");
        assert!(message.starts_with('/'), "{message}");
    }
    assert_eq!(server.post_json(with_time("9999-12-31T23:59:59.499Z")).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn one_identity_a_thousand_times_and_a_thousand_dates_are_batches_like_others() {
    let server = start().await;
    let same: String = (0..1_000).map(|n| record("same", &format!("{{\"n\":{n}}}")) + "\n").collect();
    assert_eq!(server.post_ndjson(same).await.json["acceptedCount"], 1_000);
    let stored = server.stored().await;
    assert!(
        stored.iter().enumerate().all(|(n, (_, index, data))| *index == n as i64 && *data == format!("{{\"n\":{n}}}"))
    );
    let dates: String = (0..1_000)
        .map(|n| record("d", "{}").replace("2024-05-01", &format!("{:04}-{:02}-01", 1_000 + n / 12, 1 + n % 12)) + "\n")
        .collect();
    assert_eq!(server.post_ndjson(dates).await.json["acceptedCount"], 1_000);
}
