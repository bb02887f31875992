//! The attachments of a batch.

use crate::harness::{Server, answer, lines, record_with, start};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tributary_backends::tables::Permission;
use tributary_schemas::{frame::Attachment, identity::Identity};

/// A batch of one record with this many attachments; its id.
async fn post(server: &Server, attachments: usize) -> String {
    let list = vec![r#"{"type":"file"}"#; attachments].join(",");
    let accepted = server.post_json(record_with("1", "{}", &format!(r#","_attachments":[{list}]"#))).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{accepted:?}");
    accepted.json["batchId"].as_str().expect("id").to_owned()
}

/// At its least.
pub fn bare(batch_id: &str, record_index: u32, n: u32) -> Attachment {
    Attachment {
        workspace: "default".into(),
        batch_id: batch_id.into(),
        record_index,
        n,
        key: Identity([0x0A; 16]),
        kind: "file".into(),
        filename: None,
        size: None,
        mime_type: None,
        sha1: None,
        md5: None,
        vendor_url: None,
        upload_intent_id: None,
    }
}

/// With everything that there can be.
pub fn whole(batch_id: &str) -> Attachment {
    Attachment {
        filename: Some("ü.ogg".into()),
        size: Some(i64::MAX),
        mime_type: Some("audio/ogg".into()),
        sha1: Some("s".into()),
        md5: Some("m".into()),
        vendor_url: Some("https://example.org/f".into()),
        upload_intent_id: Some("u".into()),
        ..bare(batch_id, 0, 1)
    }
}

/// What the pipeline does once records have landed.
async fn land(server: &Server, attachments: &[Attachment]) {
    server.tables.put_attachments(attachments).await.expect("stored");
}

fn path(batch_id: &str, query: &str) -> String {
    format!("/api/v1/ingest/batches/{batch_id}/attachments{query}")
}

#[tokio::test]
async fn an_attachment_shows_exactly_what_is_documented() {
    let server = start().await;
    let id = post(&server, 2).await;
    assert_eq!(server.get(&path(&id, "")).await.json, json!({"attachments": [], "nextCursor": null}), "not landed yet");
    land(&server, &[whole(&id), bare(&id, 0, 0)]).await;
    let shown = server.get(&path(&id, "")).await;
    let key = "0a".repeat(16);
    let expected = json!({"nextCursor": null, "attachments": [
        {"index": 0, "n": 0, "state": "PENDING", "key": key, "type": "file"},
        {"index": 0, "n": 1, "state": "PENDING", "key": key, "type": "file", "filename": "ü.ogg", "size": i64::MAX,
         "mimeType": "audio/ogg", "sha1": "s", "md5": "m", "vendorUrl": "https://example.org/f", "uploadIntentId": "u"},
    ]});
    assert_eq!((shown.status, shown.json), (StatusCode::OK, expected));
}

/// Reads all pages: the places in their order.
async fn all_pages(server: &Server, id: &str, limit: usize) -> Vec<(u64, u64)> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&path(id, &format!("?limit={limit}{cursor}"))).await.json;
        let attachments = page["attachments"].as_array().expect("attachments");
        assert!(attachments.len() <= limit, "{page}");
        let place = |shown: &Value| (shown["index"].as_u64().expect("index"), shown["n"].as_u64().expect("n"));
        seen.extend(attachments.iter().map(place));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seen,
        }
    }
}

#[tokio::test]
async fn pages_follow_the_order_of_the_batch() {
    let server = start().await;
    let (id, other) = (post(&server, 1).await, post(&server, 1).await);
    let mut places: Vec<(u32, u32)> = (0..11).flat_map(|index| (0..10).map(move |n| (index * 30, n))).collect();
    let stored: Vec<_> = places.iter().rev().map(|(index, n)| bare(&id, *index, *n)).collect();
    land(&server, &stored).await;
    land(&server, &[bare(&other, 5, 5)]).await;
    // The topic may say it again.
    land(&server, &stored[3..7]).await;
    places.sort_unstable();
    let wanted: Vec<_> = places.into_iter().map(|(index, n)| (u64::from(index), u64::from(n))).collect();
    for limit in [1, 7, 10, 55, 100] {
        assert_eq!(all_pages(&server, &id, limit).await, wanted, "pages of {limit}");
    }
    let first = server.get(&path(&id, "")).await.json;
    assert_eq!(first["attachments"].as_array().map(Vec::len), Some(20), "the default");
    assert_eq!(all_pages(&server, &other, 1).await, [(5, 5)]);
}

#[tokio::test]
async fn bad_limits_and_cursors_are_400() {
    let server = start().await;
    let id = post(&server, 1).await;
    let long = format!("cursor={}", "a".repeat(257));
    let of_others = ["cursor=r00000001", "cursor=b0000000000000001x"];
    for query in ["limit=0", "limit=101", "limit=x", "limit=", "cursor=", "cursor=a1", "limit=1&limit=2", &long]
        .into_iter()
        .chain(of_others)
    {
        let refused = server.get(&path(&id, &format!("?{query}"))).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_REQUEST, "INVALID_PARAMETER"), "{query}");
    }
}

#[tokio::test]
async fn unknown_batches_and_those_of_others_are_404() {
    let mut server = start().await;
    let id = post(&server, 1).await;
    land(&server, &[bare(&id, 0, 0)]).await;
    server.key = server.add_key("other", &[Permission::Read], None).await.1;
    for id in [id.as_str(), "unknown", "%ff", &"x".repeat(200)] {
        let refused = server.get(&path(id, "")).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::NOT_FOUND, "NOT_FOUND"), "{id}");
    }
}

#[tokio::test]
async fn any_permission_may_look_and_nobody_else() {
    let mut server = start().await;
    let id = post(&server, 1).await;
    land(&server, &[bare(&id, 0, 0)]).await;
    for (permissions, status) in [
        (&[Permission::Read][..], StatusCode::OK),
        (&[Permission::Write], StatusCode::OK),
        (&[], StatusCode::FORBIDDEN),
    ] {
        server.key = server.add_key("default", permissions, None).await.1;
        assert_eq!(server.get(&path(&id, "")).await.status, status, "{permissions:?}");
    }
    let without = answer(server.client.get(server.url(&path(&id, "")))).await;
    assert_eq!(without.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer(server.request(Method::POST, &path(&id, ""))).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_batch_without_attachments_has_an_empty_list() {
    let server = start().await;
    let accepted = server.post_ndjson(lines(2)).await;
    let id = accepted.json["batchId"].as_str().expect("id");
    assert_eq!(server.get(&path(id, "")).await.json, json!({"attachments": [], "nextCursor": null}));
}
