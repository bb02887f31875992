//! What a restart must not change.

use crate::{
    harness::{Home, World, query},
    model::{MESSAGES, NOTES, Table, record, with_data},
};
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const NDJSON: &str = "application/x-ndjson";

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_remembered() {
    let mut home = Home::new();
    let mut up = home.start();
    let first = up.http.try_post(NDJSON, NOTES.into(), Some("one")).await.expect("an answer");
    up.http.complete(&first.batch_id()).await;
    for clean in [true, false] {
        if clean {
            assert!(up.terminate().await.0.success());
        } else {
            up.kill();
        }
        up = home.start();
        let again = up.http.try_post(NDJSON, NOTES.into(), Some("one")).await.expect("an answer");
        assert_eq!(again.json, first.json, "the stored response");
        let other = up.http.try_post(NDJSON, MESSAGES.into(), Some("one")).await.expect("an answer");
        assert_eq!((other.status, other.json["error"].as_str()), (400, Some("IDEMPOTENCY_KEY_REUSED")));
    }
    let page = up.http.get("/batches").await;
    assert_eq!(page.json["batches"].as_array().map(Vec::len), Some(1), "processed once");
}

/// A repeat gets the key that a dead process held: with embedded tables at once, for their only process has ended; else
/// when the lease is over, and until then 429.
#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_that_a_dead_process_held_is_free() {
    let mut home = Home::new();
    for point in ["accept.after_batch_row:1", "accept.after_append:1", "accept.before_reply:1"] {
        let mut doomed = home.try_start(&[("TRIBUTARY_CRASH_AT", point)]).expect("it starts");
        let cut = doomed.http.try_post(NDJSON, NOTES.into(), Some(point)).await;
        assert!(cut.is_err(), "{point}: no answer from a dead process");
        doomed.ended().await;
        let up = home.start();
        let mut repeat = up.http.try_post(NDJSON, NOTES.into(), Some(point)).await.expect("an answer");
        while repeat.status == 429 && World::of_this_run() == World::Cluster {
            repeat = up.http.try_post(NDJSON, NOTES.into(), Some(point)).await.expect("an answer");
        }
        // The last point is behind the stored answer, so the batch is that of the first request there.
        assert_eq!((repeat.status, &repeat.json["acceptedCount"]), (202, &12.into()), "{point}: {:?}", repeat.json);
        up.http.complete(&repeat.batch_id()).await;
        up.table().assert_is(&Table::of(NOTES));
        assert!(up.terminate().await.0.success());
    }
}

/// Its records never reached the log, so that it cannot land; whoever asks is told why.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_can_never_land_fails_with_a_reason() {
    let mut home = Home::new();
    let mut doomed = home.try_start(&[("TRIBUTARY_CRASH_AT", "accept.after_batch_row")]).expect("it starts");
    assert!(doomed.http.try_post(NDJSON, NOTES.into(), None).await.is_err(), "no answer from a dead process");
    doomed.ended().await;
    let up = home.try_start(&[("TRIBUTARY_LANDING_DEADLINE", "1s")]).expect("it starts");
    let page = up.http.get("/batches").await;
    let id = page.json["batches"][0]["batchId"].as_str().expect("its row is there").to_owned();
    let failed = up.http.get(&format!("/batches/{id}?wait=COMPLETE&timeout=60")).await.json;
    assert_eq!(
        (&failed["status"], &failed["errors"][0]["code"]),
        (&"FAILED".into(), &"BATCH_FAILED".into()),
        "{failed}"
    );
    let found = home.lake(&["check"]).await;
    assert_eq!(found.code, 0, "{found:?}");
}

/// A store that takes connections and says nothing keeps a start waiting, but not its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_for_the_store_can_be_ended() {
    let store = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let home = Home::new();
    let mut command = home.command();
    command.args(["--lake", "s3://lake/"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.env("AWS_ENDPOINT_URL", format!("http://{}", store.local_addr().expect("an address")));
    let environment = [("AWS_ALLOW_HTTP", "true"), ("AWS_REGION", "r"), ("AWS_ACCESS_KEY_ID", "a")];
    let mut starting = command.envs(environment).env("AWS_SECRET_ACCESS_KEY", "s").spawn().expect("the binary starts");
    let asked = tokio::time::timeout(Duration::from_secs(60), store.accept()).await;
    let _held = asked.expect("it asks the store").expect("a connection");
    let told = Command::new("kill").args(["-TERM", &starting.id().to_string()]).status().expect("kill");
    assert!(told.success());
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = starting.try_wait().expect("its state") {
            break status;
        }
        if begun.elapsed() > Duration::from_secs(10) {
            let _ = starting.kill();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(status.success(), "{status:?} after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_rejects_are_remembered() {
    let mut home = Home::new();
    let mut up = home.start();
    let body = format!("{}\n{{\"_type\":\"message\"\n", record("r", 1_600_000_000, "{}"));
    let answer = up.http.land(body).await;
    let id = answer.batch_id();
    let rejects = format!("/batches/{id}/rejects");
    // Rejects have a topic of their own, which a landed batch does not wait for.
    while up.http.get(&rejects).await.json["rejects"].as_array().is_none_or(Vec::is_empty) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let before = (up.http.get(&format!("/batches/{id}")).await.json, up.http.get(&rejects).await.json);
    assert_eq!(before.1["rejects"].as_array().map(Vec::len), Some(1), "{before:?}");
    up.kill();
    let up = home.start();
    let after = (up.http.get(&format!("/batches/{id}")).await.json, up.http.get(&rejects).await.json);
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_made_anew_from_the_lake() {
    let mut home = Home::new();
    let up = home.start();
    up.http.land(MESSAGES).await;
    let changed: Vec<String> = MESSAGES.lines().take(50).map(|line| with_data(line, "{\"v\":1}")).collect();
    up.http.land(changed.join("\n")).await;
    home.lake(&["check"]).await.ok();
    home.lake(&["rebuild-index"]).await.ok();
    home.lake(&["check"]).await.ok();
    assert!(up.terminate().await.0.success());
    home.lake(&["rebuild-index"]).await.ok();
    home.lake(&["check"]).await.ok();

    let up = home.start();
    let again: Vec<String> = MESSAGES.lines().skip(25).take(50).map(|line| with_data(line, "{\"v\":2}")).collect();
    up.http.land(again.join("\n")).await;
    let mut wanted = Table::of(MESSAGES);
    wanted.take(&changed.join("\n"));
    wanted.take(&again.join("\n"));
    up.table().assert_is(&wanted);
    home.lake(&["check"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_a_table_is_told_with_and_without_a_server() {
    let mut home = Home::new();
    let up = home.start();
    up.http.land(NOTES).await;
    let running = home.lake(&["path"]).await.ok().out;
    let rows = query(&format!("SELECT count(*) FROM delta_scan('{}')", running.trim()));
    assert_eq!(rows[0][0], 12);
    assert!(up.terminate().await.0.success());
    assert_eq!(home.lake(&["path"]).await.ok().out, running);
}
