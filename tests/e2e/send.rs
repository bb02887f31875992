//! `send`, the reference client, against a real server.

use crate::{
    harness::{Finished, Home, Up, command},
    model::{MESSAGES, NOTES, TRANSCRIPTS, Table, record},
};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

fn write(home: &Home, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = home.path().join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

/// Arguments of `send` to a server.
fn arguments(home: &Home, up: &Up, more: &[&str]) -> Vec<String> {
    let (url, key) = (up.url(), home.key().to_owned());
    let fixed = ["send", "--url", &url, "--key", &key, "--json", "--quiet"];
    fixed.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
}

async fn send(home: &Home, up: &Up, more: &[&str]) -> Finished {
    crate::harness::tributary(home.path(), arguments(home, up, more)).await
}

/// Starts `send` without waiting for its end.
fn start(home: &Home, up: &Up, more: &[&str]) -> Child {
    let mut command = command(home.path(), arguments(home, up, more));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

/// How many batches the server knows.
async fn batches(up: &Up) -> usize {
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let page = up.http.get(&format!("/batches?limit=100{cursor}")).await;
        count += page.json["batches"].as_array().expect("batches").len();
        match page.json["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return count,
        }
    }
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Waits until a file has so many lines.
async fn until_lines(path: &Path, wanted: usize) {
    for _ in 0..6_000 {
        if lines(path) >= wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} has {} lines only", path.display(), lines(path));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_arrives_byte_for_byte() {
    let mut home = Home::new();
    let up = home.start();
    let pretty = "{\n  \"_type\": \"Message\", \"_schema_version\": \"1.0.0\", \"_event_at\": \"2020-01-01T00:00:00.5Z\",\n\
                  \"_vendor_ids\": {\"id\": \"pretty\"}, \"_product_id\": \"p\", \"_project_id\": \"q\",\n\
                  \"data\": {\n    \"n\": 1.0, \"big\": 1e400,\n    \"n\": \"\\u00e9\"\n  }\n}";
    let array = TRANSCRIPTS.trim_end().replace('\n', ",");
    write(&home, "messages.ndjson.gz", gzip(MESSAGES));
    write(&home, "notes.jsonl.zst", zstd::encode_all(NOTES.as_bytes(), 1).expect("memory"));
    write(&home, "transcripts.json", format!("{{\"records\":[{array}]}}"));
    write(&home, "pretty.json", format!("[{pretty}]"));
    let files = ["messages.ndjson.gz", "notes.jsonl.zst", "transcripts.json", "pretty.json"];
    let summary = send(&home, &up, &[&files[..], &["--wait"]].concat()).await.ok().json();
    assert_eq!((summary["accepted"].as_u64(), summary["rejected"].as_u64()), (Some(421), Some(0)), "{summary}");
    assert_eq!(summary["complete"], summary["batches"]);

    let mut wanted = Table::of(&[MESSAGES, NOTES, TRANSCRIPTS].concat());
    let (key, data) = crate::model::read(pretty);
    wanted.0.insert(key, data);
    up.table().assert_is(&wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn stdin_and_every_compression() {
    let mut home = Home::new();
    let up = home.start();
    for (how, text) in [("none", MESSAGES), ("gzip", NOTES), ("zstd", TRANSCRIPTS)] {
        let mut command = command(home.path(), arguments(&home, &up, &["-", "--compress", how, "--wait"]));
        let file = write(&home, "stdin", text);
        command.stdin(std::fs::File::open(file).expect("a file"));
        crate::harness::finish(command).await.ok();
    }
    up.table().assert_is(&Table::of(&[MESSAGES, NOTES, TRANSCRIPTS].concat()));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_records_can_be_corrected_and_sent_again() {
    let mut home = Home::new();
    let up = home.start();
    let good: Vec<String> = (0..40).map(|n| record(&format!("r{n}"), 1_600_000_000, "{\"v\":1}")).collect();
    // Every second record is spoilt: more errors than an answer shows.
    let spoil = |(n, line): (usize, &String)| match n % 4 {
        1 => line.replace("\"1.0.0\"", "\"2.0.0\""),
        3 => line[..line.len() - 1].to_owned(),
        _ => line.clone(),
    };
    let spoilt: Vec<String> = good.iter().enumerate().map(spoil).collect();
    write(&home, "in.ndjson", spoilt.join("\n"));
    let sent = send(&home, &up, &["in.ndjson"]).await;
    assert_eq!(sent.code, 1, "{sent:?}");
    let summary = sent.json();
    assert_eq!((summary["accepted"].as_u64(), summary["rejected"].as_u64()), (Some(20), Some(20)), "{summary}");

    let rejected = std::fs::read_to_string(home.path().join("in.rejected.ndjson")).expect("rejected records");
    let wanted: Vec<&String> = spoilt.iter().skip(1).step_by(2).collect();
    assert_eq!(rejected.lines().collect::<Vec<_>>(), wanted, "exactly as they were, in their order");
    let errors = std::fs::read_to_string(home.path().join("in.rejected.errors.ndjson")).expect("errors");
    for (n, line) in errors.lines().enumerate() {
        let error: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((error["line"].as_u64(), error["at"].as_u64()), (Some(n as u64 + 1), Some(n as u64 * 2 + 2)));
        assert_eq!(error["input"], "in.ndjson");
        let code = if n % 2 == 0 { "VALIDATION_ERROR" } else { "INVALID_JSON" };
        assert_eq!(error["errors"][0]["code"], code, "{error}");
    }

    let corrected = rejected.lines().map(|line| {
        let line = line.replace("\"2.0.0\"", "\"1.0.0\"");
        if line.ends_with("}}") { line + "\n" } else { line + "}\n" }
    });
    write(&home, "in.rejected.ndjson", corrected.collect::<String>());
    send(&home, &up, &["in.rejected.ndjson", "--wait"]).await.ok();
    up.table().assert_is(&Table::of(&good.join("\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_stay_in_order_across_products_batches_and_connections() {
    let mut home = Home::new();
    let up = home.start();
    let versions: Vec<String> = (0..600)
        .map(|n| {
            let line = record(&format!("r{}", n % 7), 1_600_000_000, &format!("{{\"v\":{n}}}"));
            line.replace("\"_product_id\":\"p\"", &format!("\"_product_id\":\"p{}\"", n % 3))
        })
        .collect();
    write(&home, "in.ndjson", versions.join("\n"));
    send(&home, &up, &["in.ndjson", "--wait", "--parallel", "8", "--batch-records", "9"]).await.ok();
    up.table().assert_is(&Table::of(&versions.join("\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_run_again_it_sends_nothing_twice() {
    let mut home = Home::new();
    let up = home.start();
    write(&home, "in.ndjson", MESSAGES);
    let flags = ["in.ndjson", "--batch-records", "4", "--parallel", "3", "--state", "state.journal"];
    let state = home.path().join("state.journal");
    for kill_after in [5, 30, 60] {
        let mut child = start(&home, &up, &flags);
        until_lines(&state, kill_after).await;
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
    let summary = send(&home, &up, &[&flags[..], &["--wait"]].concat()).await.ok().json();
    assert_eq!(summary["accepted"], 400, "{summary}");
    assert!(summary["alreadySent"].as_u64() >= Some(59 * 4), "{summary}");
    assert_eq!(batches(&up).await, 100, "each batch was accepted once");
    assert!(!state.exists(), "a run that is done leaves nothing behind");
    up.table().assert_is(&Table::of(MESSAGES));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_by_a_signal_it_says_how_to_go_on() {
    let mut home = Home::new();
    let up = home.start();
    write(&home, "in.ndjson", MESSAGES);
    let flags = ["in.ndjson", "--batch-records", "2", "--parallel", "1", "--state", "state.journal"];
    let child =
        command(home.path(), arguments(&home, &up, &flags)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("it starts");
    until_lines(&home.path().join("state.journal"), 3).await;
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("state.journal"), "{err}");
    send(&home, &up, &flags).await.ok();
    assert_eq!(batches(&up).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_outlives_a_server_that_dies_and_comes_back() {
    let mut home = Home::new();
    let mut up = home.start();
    write(&home, "in.ndjson", MESSAGES);
    let flags = ["in.ndjson", "--batch-records", "4", "--parallel", "3", "--state", "state.journal", "--wait"];
    let state = home.path().join("state.journal");
    let mut child = start(&home, &up, &flags);
    let listen = up.listen.to_string();
    for kill_after in [5, 40, 80] {
        until_lines(&state, kill_after).await;
        up.kill();
        up = home.start_at(&listen);
    }
    let ended = tokio::task::spawn_blocking(move || child.wait()).await.expect("no panic").expect("it ends");
    assert!(ended.success(), "{ended:?}");
    // A batch cut off between its row and its records is never answered; its repetition is another batch.
    let (known, cut_off) = (batches(&up).await, 3 * 3);
    assert!((100..=100 + cut_off).contains(&known), "{known} batches");
    up.table().assert_is(&Table::of(MESSAGES));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_to_the_rate_that_the_server_allows() {
    let mut home = Home::new().flags(&["--rate-limit", "10"]);
    let up = home.start();
    write(&home, "in.ndjson", MESSAGES);
    let summary = send(&home, &up, &["in.ndjson", "--batch-records", "10", "--parallel", "8"]).await.ok().json();
    assert_eq!(summary["accepted"], 400);
    assert!(summary["seconds"].as_f64() >= Some(2.0), "40 requests at 10 a second with a burst of 10: {summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_said_at_once() {
    let mut home = Home::new();
    let up = home.start();
    write(&home, "in.ndjson", NOTES);
    let missing = send(&home, &up, &["nowhere.ndjson"]).await;
    assert_eq!(missing.code, 2, "{missing:?}");
    assert!(missing.err.contains("nowhere.ndjson"), "{missing:?}");
    let clash = send(&home, &up, &["in.ndjson", "--rejected", "in.ndjson"]).await;
    assert_eq!(clash.code, 2, "{clash:?}");
    let url = up.url();
    let wrong = home.run(&["send", "--url", &url, "--key", "em_sk_wrong", "in.ndjson"]).await;
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.err.contains("401"), "{wrong:?}");
    drop(up);
    let gone = home.run(&["send", "--url", &url, "--key", home.key(), "--retry-for", "0", "in.ndjson", "--json"]).await;
    assert_eq!(gone.code, 1, "{gone:?}");
    assert!(gone.err.contains("refused"), "{gone:?}");
}
