//! `tributary batches …` against a running `up`.

use crate::{
    harness::{Finished, Home, Up},
    model::record,
};

/// Runs `batches …` with the address and the key of the first start.
async fn batches(home: &Home, up: &Up, args: &[&str]) -> Finished {
    let url = up.url();
    home.run(&[&["batches"], args, &["--url", &url, "--key", home.key()]].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_waited_for_shown_listed_and_its_rejects_told() {
    let mut home = Home::new();
    let up = home.start();
    let mut ids = Vec::new();
    for n in 0..3 {
        let body = format!("{}\n{{\"_type\":\"none\"}}", record("r", 86_400 * n, "{}"));
        ids.push(up.http.ndjson(body).await.batch_id());
    }

    let waited = batches(&home, &up, &["wait", &ids[0], "--json"]).await.ok().json();
    assert_eq!((&waited["batchId"], &waited["status"]), (&ids[0].as_str().into(), &"COMPLETE".into()));
    let shown = batches(&home, &up, &["show", &ids[0]]).await.ok().out;
    for part in [&ids[0], "COMPLETE", "accepted    1", "rejected    1", "/_type"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }

    let listed = batches(&home, &up, &["list", "--limit", "2", "--json"]).await.ok().out;
    let listed: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let newest: Vec<_> = listed.iter().map(|batch| batch["batchId"].as_str().expect("an id")).collect();
    assert_eq!(newest, [&ids[2], &ids[1]], "newest first");
    let table = batches(&home, &up, &["list", "--all"]).await.ok().out;
    assert!(ids.iter().all(|id| table.contains(id.as_str())), "{table}");

    up.until_landed().await;
    // Rejects have a topic of their own, which a landed batch does not wait for.
    let rejects = loop {
        let rejects = batches(&home, &up, &["rejects", &ids[1], "--json"]).await.ok();
        if !rejects.out.is_empty() {
            break rejects.json();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!((rejects["index"].as_u64(), rejects["line"].as_u64()), (Some(1), Some(2)));
    assert_eq!(rejects["payload"], "{\"_type\":\"none\"}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_says_why() {
    let mut home = Home::new();
    let up = home.start();
    let unknown = "01980000-0000-7000-8000-000000000000";
    for args in [["show", unknown], ["wait", unknown], ["rejects", unknown]] {
        let refused = batches(&home, &up, &args).await;
        assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{refused:?}");
        assert!(refused.err.contains("404") || refused.err.contains("no batch"), "{refused:?}");
    }
    let url = up.url();
    let stranger = home.run(&["batches", "list", "--url", &url, "--key", "em_sk_wrong"]).await;
    assert_eq!(stranger.code, 1, "{stranger:?}");
    assert!(stranger.err.contains("key"), "{stranger:?}");
}
