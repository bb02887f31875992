//! What a data team sees: the table through DuckDB, straight from the bucket.

use super::{acme, fresh_url, lake_at};
use crate::lake::{
    TableCommit,
    tests::{
        land,
        rows::{self, Row},
    },
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};
use tokio::task::spawn_blocking;
use uuid::Uuid;

/// The rows that one statement gives, in DuckDB's own process.
fn query(sql: &str) -> Vec<Vec<Value>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
    let packages = Command::new(tests.join("services/duckdb.sh")).output().unwrap();
    assert!(packages.status.success(), "{}", String::from_utf8_lossy(&packages.stderr));
    let packages = String::from_utf8(packages.stdout).unwrap();
    let mut duck = Command::new("python3")
        .arg(tests.join("e2e/duck.py"))
        .env("PYTHONPATH", packages.trim())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut duck.stdin.take().unwrap(), json!({ "sql": sql }).to_string().as_bytes()).unwrap();
    let said = String::from_utf8(duck.wait_with_output().unwrap().stdout).unwrap();
    let mut answer: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(answer["error"], Value::Null, "{sql}");
    serde_json::from_value(answer["rows"].take()).unwrap()
}

#[tokio::test]
async fn duckdb_counts_exactly_what_was_committed() {
    let lake = lake_at(&fresh_url(), &[]);
    let mut table = acme(&lake).await;
    let rows: Vec<_> = (0..1_000).map(|n| Row { number: n, version: n as i64, day: (n % 3) as i32 }).collect();
    let places = land(&mut table, &rows).await;
    // Every tenth one again, with a version that is a million more.
    let newer: Vec<_> = rows.iter().step_by(10).map(|row| Row { version: row.version + 1_000_000, ..*row }).collect();
    let written = table.write(0, &rows::batch(&newer)).await.unwrap();
    let mut deletes: BTreeMap<Uuid, Vec<u32>> = BTreeMap::new();
    places.iter().step_by(10).for_each(|(file, row)| deletes.entry(*file).or_default().push(*row));
    table.commit(TableCommit { adds: written.files, deletes, ..TableCommit::default() }).await.unwrap();
    // Written, and never committed.
    table.write(0, &rows::batch(&newer)).await.unwrap();
    let sql = format!("SELECT count(*), count(DISTINCT key), sum(_version)::BIGINT FROM delta_scan('{}')", table.url());
    let expected: i64 = (0..1_000).sum::<i64>() + 100 * 1_000_000;
    let of_log = sql.clone();
    assert_eq!(spawn_blocking(move || query(&of_log)).await.unwrap(), [[json!(1_000), json!(1_000), json!(expected)]]);
    table.checkpoint().await.unwrap();
    assert_eq!(spawn_blocking(move || query(&sql)).await.unwrap(), [[json!(1_000), json!(1_000), json!(expected)]]);
}
