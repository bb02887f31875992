//! The attachments of a batch, through kills: each once, with all that was said of it.

use crate::{
    harness::{Answer, Home, Up},
    model::record,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const RECORDS: usize = 12;

/// Records of which one has no attachment, one a single one, … and two say the same of who they are; and a bad one.
fn body() -> String {
    let lines = (0..RECORDS).map(|index| {
        let said: Vec<String> = (0..index % 5).map(|n| said(index, n).to_string()).collect();
        let line = record(&format!("r{}", index % 10), 1_600_000_000, &format!("{{\"v\":{index}}}"));
        match said.as_slice() {
            [] => line,
            some => format!("{},\"_attachments\":[{}]}}", &line[..line.len() - 1], some.join(",")),
        }
    });
    let mut lines: Vec<String> = lines.collect();
    lines.insert(3, "{\"_attachments\":[{\"type\":\"file\"}]}".to_owned());
    lines.join("\n")
}

/// What the sender says of an attachment.
fn said(index: usize, n: usize) -> Value {
    match n {
        0 => json!({"type": "file"}),
        _ => json!({"type": "audio", "filename": format!("{index}-{n}.ogg"), "size": index * 1_000 + n,
            "mime_type": "audio/ogg", "sha1": "s", "md5": "m", "vendor_url": "https://example.org/f",
            "upload_intent_id": "u"}),
    }
}

/// What the API has to show, but for the keys.
fn wanted() -> Vec<Value> {
    let of_record = |index: usize| {
        (0..index % 5).map(move |n| {
            // The bad record is the fourth of the body.
            let mut shown = json!({"index": index + usize::from(index >= 3), "n": n, "state": "PENDING"});
            for (name, value) in said(index, n).as_object().expect("an object") {
                let name = match name.as_str() {
                    "mime_type" => "mimeType",
                    "vendor_url" => "vendorUrl",
                    "upload_intent_id" => "uploadIntentId",
                    same => same,
                };
                shown[name] = value.clone();
            }
            shown
        })
    };
    (0..RECORDS).flat_map(of_record).collect()
}

/// All pages of the list; the keys apart from the rest.
async fn listed(up: &Up, batch_id: &str) -> (Vec<Value>, Vec<String>) {
    let (mut shown, mut keys, mut cursor) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = up.http.get(&format!("/batches/{batch_id}/attachments?limit=7{cursor}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        for attachment in page.json["attachments"].as_array().expect("attachments") {
            let mut attachment = attachment.clone();
            let key = attachment.as_object_mut().and_then(|fields| fields.remove("key")).expect("a key");
            keys.push(key.as_str().expect("text").to_owned());
            shown.push(attachment);
        }
        match page.json["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (shown, keys),
        }
    }
}

/// Waits until the list is as long as it must become; then it must be exact.
async fn assert_listed(up: &Up, batch_id: &str) {
    up.http.complete(batch_id).await;
    let (wanted, begun) = (wanted(), Instant::now());
    let (mut shown, mut keys) = listed(up, batch_id).await;
    while shown.len() < wanted.len() && begun.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        (shown, keys) = listed(up, batch_id).await;
    }
    assert_eq!(shown, wanted);
    let batch = up.http.get(&format!("/batches/{batch_id}")).await.json;
    assert_eq!(batch["attachmentDownloadTotal"], wanted.len(), "{batch}");
    // Those of one record have its key; records 1 and 11 are one and the same.
    let of = |index: usize| &keys[shown.iter().position(|one| one["index"] == index).expect("listed")];
    assert!(shown.iter().zip(&keys).all(|(one, key)| key == of(one["index"].as_u64().expect("index") as usize)));
    assert_eq!(of(1), of(12));
    assert_ne!(of(1), of(2));
    assert!(keys.iter().all(|key| key.len() == 32), "{keys:?}");
}

/// Posts the body, whether or not an answer comes.
async fn post(up: &Up) -> Option<Answer> {
    up.http.try_post("application/x-ndjson", body().into(), Some("once")).await.ok()
}

/// Dies again and again on the way of the same batch, at another place each time.
#[tokio::test(flavor = "multi_thread")]
async fn each_is_listed_once_through_kills() {
    let mut home = Home::new();
    // None of the first three lets the lane's offsets move, so that the chunk comes again, and is skipped by its table.
    for point in ["lane.after_table_commit", "lane.after_attachments", "lane.after_facts", "tables.after_write:2"] {
        match home.try_start(&[("TRIBUTARY_CRASH_AT", point)]) {
            Ok(mut doomed) => {
                post(&doomed).await;
                assert_eq!(doomed.ended().await.code(), None, "{point}: killed, not ended: {}", home.log());
            }
            // What comes again may come while it starts.
            Err(dead) => assert_eq!(dead.code, -1, "{point}: killed, not ended: {dead:?}"),
        }
    }
    let mut up = home.start();
    let id = post(&up).await.expect("an answer").batch_id();
    assert_listed(&up, &id).await;
    up.kill();
    up = home.start();
    assert_listed(&up, &id).await;
    assert!(up.terminate().await.0.success());
    assert_listed(&home.start(), &id).await;
    home.lake(&["check"]).await.ok();
}
