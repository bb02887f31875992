//! The first minute of a stranger: start, paste, read.

use crate::{
    harness::{Home, query, tributary},
    model::Table,
};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

/// Killed when dropped, so that a failed test leaves nothing running.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines that `up` prints for people, up to the one with the DuckDB statement.
fn printed(home: &Home) -> (Killed, Vec<String>) {
    let data = home.data().display().to_string();
    let mut command = home.tool(&["up", "--data", &data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut child = Killed(command.stdout(Stdio::piped()).spawn().expect("it starts"));
    let mut lines = Vec::new();
    for line in BufReader::new(child.0.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        lines.push(line.trim().to_owned());
        if line.contains("delta_scan") {
            return (child, lines);
        }
    }
    panic!("no DuckDB statement in {lines:#?}; exit {:?}", child.0.wait());
}

/// Splits a line as a shell does, by letting one do it.
fn arguments(line: &str) -> Vec<String> {
    let output = Command::new("sh").args(["-c", &format!("printf '%s\\0' {line}")]).output().expect("sh");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_terminator('\0').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_lines_work_when_pasted() {
    let home = Home::new();
    let (_up, lines) = printed(&home);
    let line = |start: &str| lines.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{lines:#?}"));
    let posted = Command::new("sh").args(["-c", line("curl ")]).output().expect("curl");
    let answer: serde_json::Value = serde_json::from_slice(&posted.stdout).unwrap_or_else(|_| panic!("{posted:?}"));
    assert_eq!(answer["acceptedCount"], 1, "{answer}");

    let key = lines.iter().find(|line| line.starts_with("em_sk_")).expect("the key");
    let url = line("API").split_whitespace().nth(1).expect("an address").trim_end_matches("/api/v1").to_owned();
    let id = answer["batchId"].as_str().expect("batchId");
    tributary(home.path(), ["batches", "wait", id, "--url", &url, "--key", key]).await.ok();

    let sql = arguments(line("duckdb ")).pop().expect("a statement");
    let sql = sql.strip_prefix("INSTALL delta; LOAD delta; ").expect("the extension is loaded first").to_owned();
    let rows = query(&sql);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].iter().any(|column| column.as_str().is_some_and(|text| text.starts_with('{'))), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_shown_once_and_works_ever_after() {
    let mut home = Home::new();
    let up = home.start();
    let key = home.key().to_owned();
    assert!(key.starts_with("em_sk_"));
    up.http.land(crate::model::NOTES).await;
    let (status, _) = up.terminate().await;
    assert!(status.success());

    let up = home.start();
    assert_eq!(home.key(), key, "no other key is made");
    up.http.land(crate::model::TRANSCRIPTS).await;
    up.table().assert_is(&Table::of(&[crate::model::NOTES, crate::model::TRANSCRIPTS].concat()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_up_on_the_same_directory_is_refused() {
    let mut home = Home::new();
    let up = home.start();
    let refused = home.try_start(&[]).err().expect("refused");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains(&home.data().display().to_string()), "names the directory: {refused:?}");
    assert!(refused.err.contains("in use") || refused.err.contains("another"), "says why: {refused:?}");
    up.http.land(crate::model::NOTES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_lands_what_it_accepted_within_ten_seconds() {
    let mut home = Home::new();
    let up = home.start();
    let scan = up.scan();
    let answer = up.http.ndjson(crate::model::MESSAGES).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let (status, took) = up.terminate().await;
    assert!(status.success(), "{status:?}: {}", home.log());
    assert!(took.as_secs() < 10, "{took:?}");
    crate::harness::read_table(&scan).assert_is(&Table::of(crate::model::MESSAGES));
}
