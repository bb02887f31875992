//! Following batches: the list, one batch, waiting for it, its rejects.

use crate::harness::{Server, lines, read_topic, record, record_with, start};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tributary_backends::{log::Topic, tables::Permission};
use tributary_schemas::{
    batch::Fact,
    frame::{BatchEvent, Frame, Reject},
};

async fn post(server: &Server, body: String) -> String {
    let accepted = server.post_ndjson(body).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{accepted:?}");
    accepted.json["batchId"].as_str().expect("id").to_owned()
}

async fn tell(server: &Server, batch_id: &str, fact: Fact) {
    let event = BatchEvent { workspace: "default".into(), batch_id: batch_id.into(), at: 1, fact };
    server.tables.add_facts(&[event]).await.expect("fact");
}

#[tokio::test]
async fn a_batch_shows_exactly_what_is_documented() {
    let server = start().await;
    let id = post(&server, format!("{}{{}}\n", lines(2))).await;
    let shown = server.get(&format!("/api/v1/ingest/batches/{id}")).await;
    let expected = json!({
        "batchId": id, "status": "LANDING", "createdAt": shown.json["createdAt"], "acceptedCount": 2, "rejectedCount": 1,
        "totalErrorCount": shown.json["totalErrorCount"], "errors": shown.json["errors"], "source": "tests", "type": "message",
    });
    assert_eq!((shown.status, &shown.json), (StatusCode::OK, &expected));
    assert!(shown.json["createdAt"].as_i64() > Some(1_700_000_000_000), "milliseconds");
    assert!(shown.json["errors"].as_array().is_some_and(|errors| !errors.is_empty()));
}

#[tokio::test]
async fn attachment_fields_are_there_only_with_attachments() {
    let server = start().await;
    let id = post(&server, record_with("1", "{}", r#","_attachments":[{"type":"file"},{"type":"text"}]"#)).await;
    let shown = server.get(&format!("/api/v1/ingest/batches/{id}")).await.json;
    let fields =
        ["Total", "Complete", "Failed", "Status"].map(|field| shown[format!("attachmentDownload{field}")].clone());
    assert_eq!(fields, [json!(2), json!(0), json!(0), json!("PENDING")]);
}

#[tokio::test]
async fn paging_neither_skips_nor_repeats_while_batches_arrive() {
    let server = start().await;
    let mut before = Vec::new();
    for _ in 0..7 {
        before.push(post(&server, lines(1)).await);
    }
    before.reverse();
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let from = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = server.get(&format!("/api/v1/ingest/batches?limit=2{from}")).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        let batches = page.json["batches"].as_array().expect("batches");
        seen.extend(batches.iter().map(|batch| batch["batchId"].as_str().expect("id").to_owned()));
        post(&server, lines(1)).await;
        match page.json["nextCursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(seen, before);
}

#[tokio::test]
async fn the_last_page_has_no_cursor_and_bad_parameters_are_400() {
    let server = start().await;
    post(&server, lines(1)).await;
    post(&server, lines(1)).await;
    let page = server.get("/api/v1/ingest/batches?limit=2").await.json;
    assert_eq!((page["batches"].as_array().map(Vec::len), &page["nextCursor"]), (Some(2), &Value::Null));
    let long = "x".repeat(257);
    for query in ["limit=0", "limit=101", "limit=x", "limit=", "cursor=x", "limit=1&limit=2", &format!("cursor={long}")]
    {
        let refused = server.get(&format!("/api/v1/ingest/batches?{query}")).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "INVALID_PARAMETER"), "{query}");
    }
}

#[tokio::test]
async fn another_workspaces_batch_does_not_exist() {
    let mut server = start().await;
    let id = post(&server, format!("{}{{}}\n", lines(1))).await;
    server.key = server.add_key("other", &[Permission::Write, Permission::Read], None).await.1;
    for path in [id.as_str(), &format!("{id}/rejects"), "unknown", "%ff", &"x".repeat(200)] {
        let refused = server.get(&format!("/api/v1/ingest/batches/{path}")).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::NOT_FOUND, "NOT_FOUND"), "{path}");
    }
    assert_eq!(server.get("/api/v1/ingest/batches").await.json["batches"], json!([]));
}

#[tokio::test]
async fn a_long_poll_ends_when_the_batch_has_landed() {
    let server = start().await;
    let id = post(&server, lines(1)).await;
    let path = format!("/api/v1/ingest/batches/{id}?wait=LANDED&timeout=60");
    let (waited, _) = tokio::join!(server.get(&path), async {
        tell(&server, &id, Fact::Landed { lane: 0, lanes_in_batch: 1 }).await;
    });
    assert_eq!((waited.status, &waited.json["status"]), (StatusCode::OK, &json!("COMPLETE")));
}

#[tokio::test]
async fn a_long_poll_ends_when_the_batch_fails_with_the_reason() {
    let server = start().await;
    let id = post(&server, lines(1)).await;
    tell(&server, &id, Fact::Failed { reason: "never landed".into() }).await;
    let waited = server.get(&format!("/api/v1/ingest/batches/{id}?wait=COMPLETE&timeout=60")).await.json;
    assert_eq!(waited["status"], "FAILED");
    assert_eq!(waited["errors"], json!([{"index": 0, "code": "BATCH_FAILED", "message": "never landed"}]));
}

#[tokio::test]
async fn a_long_poll_ends_with_its_time() {
    let server = start().await;
    let id = post(&server, lines(1)).await;
    let started = Instant::now();
    let waited = server.get(&format!("/api/v1/ingest/batches/{id}?wait=LANDED&timeout=1")).await;
    assert_eq!((waited.status, &waited.json["status"]), (StatusCode::OK, &json!("LANDING")));
    assert!(started.elapsed() >= Duration::from_secs(1));
    for query in ["wait=DONE", "wait=landed", "wait=LANDED&timeout=0", "wait=LANDED&timeout=61", "timeout=x"] {
        let refused = server.get(&format!("/api/v1/ingest/batches/{id}?{query}")).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "INVALID_PARAMETER"), "{query}");
    }
}

#[tokio::test]
async fn rejects_are_listed_in_order_with_pointers_and_payloads() {
    let server = start().await;
    let bad: String = (0..5).map(|n| record_with(&n.to_string(), "{}", r#","_no":1"#) + "\n").collect();
    let id = post(&server, format!("{}{bad}", lines(1))).await;
    // What the pipeline does with the topic.
    let rejects: Vec<Reject> = read_topic(&*server.log, Topic::Rejects)
        .await
        .iter()
        .flatten()
        .map(|message| Reject::decode(&message.value).expect("frame"))
        .collect();
    server.tables.put_rejects(&rejects).await.expect("stored");
    let first = server.get(&format!("/api/v1/ingest/batches/{id}/rejects?limit=3")).await.json;
    let cursor = first["nextCursor"].as_str().expect("more");
    let second = server.get(&format!("/api/v1/ingest/batches/{id}/rejects?limit=3&cursor={cursor}")).await.json;
    assert_eq!(second["nextCursor"], Value::Null);
    let all: Vec<&Value> =
        [&first, &second].into_iter().flat_map(|page| page["rejects"].as_array().expect("page")).collect();
    assert_eq!(all.iter().map(|r| r["index"].as_u64().expect("index")).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(all[0]["line"], 2);
    assert_eq!(all[0]["payload"], record_with("0", "{}", r#","_no":1"#));
    assert_eq!((&all[0]["errors"][0]["pointer"], &all[0]["payloadCut"]), (&json!("/_no"), &json!(false)));
    let refused = server.get(&format!("/api/v1/ingest/batches/{id}/rejects?cursor=zzz")).await;
    assert_eq!(refused.code(), "INVALID_PARAMETER");
}

#[tokio::test]
async fn the_format_hint_is_kept_and_checked() {
    let server = start().await;
    let request = |format: &str| {
        let url = server.url(&format!("/api/v1/ingest?format={format}"));
        let request = server.client.post(url).header("x-api-key", &server.key);
        crate::harness::answer(request.header("content-type", "application/json").body(record("1", "{}")))
    };
    for format in ["text", "audio", "video", "file"] {
        let id = request(format).await.json["batchId"].as_str().expect("accepted").to_owned();
        let batch = server.tables.batch("default", &id).await.expect("tables").expect("batch");
        assert_eq!(batch.row.format.as_deref(), Some(format));
    }
    assert_eq!(request("TEXT").await.code(), "INVALID_PARAMETER");
}

#[tokio::test]
async fn creation_times_rise_even_within_a_millisecond() {
    let server = start().await;
    let posts = (0..20).map(|_| post(&server, lines(1)));
    futures::future::join_all(posts).await;
    let page = server.get("/api/v1/ingest/batches?limit=100").await.json;
    let times: BTreeSet<i64> =
        page["batches"].as_array().expect("batches").iter().filter_map(|b| b["createdAt"].as_i64()).collect();
    assert_eq!(times.len(), 20);
}
