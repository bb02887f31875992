//! The list of a workspace's batches as it grows: what putting a batch with its facts costs, and how long a page takes at
//! the new end, in the middle and at the old end.
//!
//! `cargo bench -p tributary-backends --bench batches -- 10000 1000000`, on the embedded tables; or with
//! `--features cql` and `TRIBUTARY_TEST_CQL=host:port`, on a CQL server.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, not a library")]

use futures::{StreamExt, stream};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tributary_backends::tables::{BatchPosition, BatchRow, Tables};
use tributary_schemas::{batch::Fact, frame::BatchEvent};

/// Calls under way at once.
const WIDTH: usize = 64;
/// Milliseconds from one batch to the next: ten a second.
const APART: i64 = 100;
const BEGIN: i64 = 1_700_000_000_000;
const PAGE: usize = 100;
/// Pages of which the slowest is told.
const PAGES: usize = 50;

fn row(n: u64) -> BatchRow {
    BatchRow {
        workspace: "w".to_owned(),
        batch_id: format!("batch-{n:012}"),
        created_at: BEGIN + i64::try_from(n).unwrap() * APART,
        accepted: 1_000,
        rejected: 0,
        total_errors: 0,
        errors: vec![],
        source: "bench".to_owned(),
        kind: "message".to_owned(),
        format: None,
        attachments: 0,
    }
}

/// A batch that is landed by one lane.
async fn put(tables: &dyn Tables, n: u64) {
    let row = row(n);
    let event = BatchEvent {
        workspace: row.workspace.clone(),
        batch_id: row.batch_id.clone(),
        at: row.created_at * 1_000,
        fact: Fact::Landed { lane: 0, lanes_in_batch: 1 },
    };
    tables.put_batch(row).await.unwrap();
    tables.add_facts(&[event]).await.unwrap();
}

/// The median and the slowest of pages that follow each other, beginning behind the batch `n`.
async fn pages(tables: &dyn Tables, mut n: u64) -> (Duration, Duration) {
    let mut took = Vec::new();
    while took.len() < PAGES && n > PAGE as u64 {
        let behind = row(n);
        let position = BatchPosition { created_at: behind.created_at, batch_id: behind.batch_id };
        let begun = Instant::now();
        let page = tables.batches("w", PAGE, Some(&position)).await.unwrap();
        took.push(begun.elapsed());
        assert!(page.iter().map(|batch| &batch.row).eq(&(n - PAGE as u64..n).rev().map(row).collect::<Vec<_>>()));
        n -= PAGE as u64;
    }
    took.sort();
    (took[took.len() / 2], took[took.len() - 1])
}

#[cfg(feature = "cql")]
async fn open(_dir: &std::path::Path) -> Arc<dyn Tables> {
    use tributary_backends::tables::cql;
    let node = std::env::var("TRIBUTARY_TEST_CQL").expect("TRIBUTARY_TEST_CQL names no server");
    let micros = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
    let options = cql::Options { nodes: vec![node], keyspace: format!("bench_{micros}"), ..cql::Options::default() };
    cql::open(options).await.unwrap()
}

#[cfg(not(feature = "cql"))]
async fn open(dir: &std::path::Path) -> Arc<dyn Tables> {
    tributary_backends::tables::embedded::open(dir).unwrap()
}

#[tokio::main]
async fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 100_000] } else { sizes };
    let dir = tempfile::tempdir().unwrap();
    let tables = open(dir.path()).await;
    let mut there = 0;
    for size in sizes {
        let begun = Instant::now();
        stream::iter(there..size).for_each_concurrent(WIDTH, |n| put(&*tables, n)).await;
        println!("{size} batches: {:.0} a second put", (size - there) as f64 / begun.elapsed().as_secs_f64());
        there = size;
        for (what, from) in
            [("newest", size), ("in the middle", size / 2), ("oldest", PAGE as u64 * (PAGES as u64 + 1))]
        {
            let (median, slowest) = pages(&*tables, from.min(size)).await;
            println!("  a page of {PAGE}, {what:<14} median {median:>9.1?}, slowest of {PAGES} {slowest:>9.1?}");
        }
    }
}
