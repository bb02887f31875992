//! `kill -9` at any moment: nothing that got a `202` is lost, duplicated or stale.
//!
//! `TRIBUTARY_KILL_ROUNDS` sets how often the random test kills (default 20, on a cluster 6), `TRIBUTARY_KILL_SEED` its
//! seed.

use crate::{
    harness::{Home, Up, World, read_table},
    model::{Key, Table},
    writers::{Work, Writer, union},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{collections::BTreeMap, slice::from_ref, time::Duration};

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Everything that must hold once the dust has settled.
async fn check(home: &Home, up: &Up, writers: &[Writer]) {
    for id in writers.iter().flat_map(|writer| &writer.batches) {
        up.http.complete(id).await;
    }
    up.table().assert_is(&union(writers));
    let found = home.lake(&["check"]).await;
    assert_eq!(found.code, 0, "{found:?}");
}

/// The version in a record's `data`.
fn versions(table: &Table) -> BTreeMap<Key, u64> {
    let version = |data: &String| serde_json::from_str::<serde_json::Value>(data).expect("JSON")["version"].as_u64();
    table.0.iter().map(|(key, data)| (key.clone(), version(data).expect("a version"))).collect()
}

/// Whoever reads sees each record once, and never an older version than before.
fn read_on(scan: &str, seen: &mut BTreeMap<Key, u64>) {
    let now = versions(&read_table(scan));
    for (key, version) in &*seen {
        assert!(now.get(key) >= Some(version), "{key:?} was at {version}, is at {:?}", now.get(key));
    }
    *seen = now;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_random_moments() {
    // A process that dies on a cluster keeps idempotency keys for half a minute, which each round waits for.
    let default = if World::of_this_run() == World::Embedded { 20 } else { 6 };
    let (rounds, seed) = (setting("TRIBUTARY_KILL_ROUNDS", default), setting("TRIBUTARY_KILL_SEED", 1));
    let mut random = StdRng::seed_from_u64(seed);
    let mut home = Home::new();
    let mut up = home.start();
    let (listen, scan) = (up.listen.to_string(), up.scan());
    let mut writers = Writer::four(seed);
    let mut seen = BTreeMap::new();
    for round in 1..=rounds {
        let work = Work::start(writers, from_ref(&up.http));
        // Each round a few kills in a row, so that recoveries are killed too; the last start lives.
        for _ in 0..random.random_range(1..=3) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..900))).await;
            up.kill();
            read_on(&scan, &mut seen);
            up = home.start_at(&listen);
        }
        writers = work.finish().await;
        if round % 5 == 0 || round == rounds {
            check(&home, &up, &writers).await;
        }
    }
    let records: u64 = writers.iter().map(|writer| writer.records).sum();
    let batches: usize = writers.iter().map(|writer| writer.batches.len()).sum();
    eprintln!("{rounds} rounds of kills, seed {seed}: {batches} batches, {records} records accepted");
    assert!(records > rounds * 10, "the writers got something done between the kills");
}

/// Kills at the n-th passing of a point, starts again, and checks.
async fn at_point(name: &str, nth: u64) {
    if name.starts_with("log.append.") && !World::has_embedded(name) {
        return;
    }
    let mut home = Home::new();
    let mut writers = Writer::four(nth);
    let mut up = home.start();
    let listen = up.listen.to_string();
    for writer in &mut writers {
        writer.write(from_ref(&up.http)).await;
    }
    check(&home, &up, &writers).await;
    assert!(up.terminate().await.0.success());

    let crash_at = format!("{name}:{nth}");
    let environment = [("TRIBUTARY_CRASH_AT", crash_at.as_str()), ("TRIBUTARY_LISTEN", listen.as_str())];
    // A point that is passed while starting kills before it is ready.
    if let Ok(mut doomed) = home.try_start(&environment) {
        let work = Work::start(writers, from_ref(&doomed.http));
        let ended = tokio::time::timeout(Duration::from_secs(120), doomed.ended()).await;
        let status = ended.unwrap_or_else(|_| panic!("{name} is not passed {nth} times in two minutes"));
        assert!(!status.success() && status.code().is_none(), "killed, not ended: {status:?} {}", home.log());
        up = home.start_at(&listen);
        writers = work.finish().await;
    } else {
        up = home.start_at(&listen);
    }
    check(&home, &up, &writers).await;
    // And it goes on as if nothing had happened.
    for writer in &mut writers {
        writer.write(from_ref(&up.http)).await;
    }
    check(&home, &up, &writers).await;
}

macro_rules! points {
    ($($test:ident: $name:literal, $nth:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            for nth in $nth {
                at_point($name, nth).await;
            }
        }
    )*};
}

points! {
    before_the_log_is_synced: "log.append.before_sync", [1, 7];
    after_the_log_is_synced: "log.append.after_sync", [1, 7];
    after_the_batch_row: "accept.after_batch_row", [1, 4];
    after_the_append: "accept.after_append", [1, 4];
    before_the_reply: "accept.before_reply", [1, 4];
    after_keys_are_resolved: "lane.after_resolve", [1, 4];
    after_parquet_is_written: "lane.after_parquet", [1, 4];
    after_deletion_vectors_are_written: "lane.after_deletion_vectors", [1, 4];
    after_the_table_commit: "lane.after_table_commit", [1, 4];
    after_the_index: "lane.after_index", [1, 4];
    after_the_watermark: "lane.after_watermark", [1, 4];
    after_the_offsets: "lane.after_offsets", [1, 4];
    after_the_facts: "lane.after_facts", [1, 4];
    after_a_checkpoint: "lake.after_checkpoint", [1];
    after_a_write_to_the_tables: "tables.after_write", [1, 20];
}
