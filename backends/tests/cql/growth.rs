//! Nothing grows without bound, and what has grown stays quick.

use crate::support::*;
use futures::{TryStreamExt, stream};
use std::collections::BTreeSet;
use tributary_backends::tables::{BatchPosition, IndexPart, Location};
use tributary_schemas::identity::Identity;
use uuid::Uuid;

const HOUR: i64 = 3_600_000;

/// A million batches of one workspace are at most as many to a partition as were accepted in an hour, however long it has
/// been there; and a page reads a few of these partitions, not all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_partition_of_batches_grows_with_their_number() {
    let keyspace = Keyspace::new();
    let tables = open(&keyspace.options()).await;
    // 30 a hour, over 100 hours with gaps of days between some.
    let start = 1_700_000_000_000_i64.div_euclid(HOUR) * HOUR;
    let times = (0..100).flat_map(|n| (0..30).map(move |m| start + (n + n / 10 * 100) * HOUR + m * 119_000));
    let times: Vec<i64> = times.collect();
    stream::iter(times.iter().enumerate().map(Ok))
        .try_for_each_concurrent(64, |(n, at)| tables.put_batch(row("w", &format!("b{n}"), *at)))
        .await
        .unwrap();
    let session = session(&keyspace.node).await;
    let name = &keyspace.name;
    let counts: Vec<(i64,)> =
        rows(&session, format!("SELECT count(*) FROM {name}.batch_order GROUP BY workspace, hour")).await;
    assert_eq!((counts.len(), counts.iter().map(|count| count.0).max()), (100, Some(30)));
    let counts: Vec<(i64,)> =
        rows(&session, format!("SELECT count(*) FROM {name}.due GROUP BY queue, shard, minute")).await;
    assert_eq!((counts.len(), counts.iter().map(|count| count.0).max()), (3_000, Some(1)), "30 an hour are 1 a minute");
    let counts: Vec<(i64,)> =
        rows(&session, format!("SELECT count(*) FROM {name}.batches GROUP BY workspace, batch_id")).await;
    assert_eq!(counts.iter().map(|count| count.0).max(), Some(1));

    let (mut seen, mut before): (Vec<i64>, Option<BatchPosition>) = (Vec::new(), None);
    loop {
        let page = tables.batches("w", 100, before.as_ref()).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(BatchPosition { created_at: last.row.created_at, batch_id: last.row.batch_id.clone() });
        seen.extend(page.iter().map(|batch| batch.row.created_at));
    }
    assert!(seen.iter().rev().eq(&times), "all, newest first");
    // Over gaps that no walk from hour to hour by the clock would cross soon.
    let old = BatchPosition { created_at: i64::MAX, batch_id: String::new() };
    assert_eq!(tables.batches("w", 1, Some(&old)).await.unwrap()[0].row.created_at, times[2_999]);
}

/// A part with more entries has more partitions, and all of it works as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_part_may_have_any_number_of_partitions() {
    let keyspace = Keyspace::new();
    let part = IndexPart { workspace: "w".to_owned(), lane: 0 };
    let entry = |n: u32| {
        let location = Location { file: Uuid::from_u128(1), row: n, version: n.into(), digest: 1, table_version: 1 };
        (Identity(*blake3::hash(&n.to_le_bytes()).as_bytes().first_chunk().unwrap()), location)
    };
    let mut entries: Vec<_> = (0..20_000).map(entry).collect();
    entries.sort_by_key(|entry| entry.0);
    let session = session(&keyspace.node).await;
    let count = format!("SELECT count(*) FROM {}_index.locations GROUP BY generation, bucket", keyspace.name);
    for bits in [8, 1, 11] {
        let tables = open(&keyspace.options()).await;
        tables.clear(&part).await.unwrap();
        tables.set_watermark(&part, 1).await.unwrap();
        let set = format!(
            "UPDATE {}_index.parts SET bits = {bits} WHERE workspace = 'w' AND lane = 0 IF EXISTS",
            keyspace.name
        );
        session.query_unpaged(set, ()).await.unwrap();
        let tables = open(&keyspace.options()).await;
        tables.upsert(&part, &entries).await.unwrap();
        let partitions = rows::<(i64,)>(&session, count.clone()).await.len();
        assert_eq!(partitions, 1 << bits, "and nothing of the last generation");
        let keys: Vec<_> = entries.iter().step_by(7).map(|entry| entry.0).collect();
        let found = tables.lookup(&part, &keys).await.unwrap().locations;
        assert!(found.iter().flatten().eq(entries.iter().step_by(7).map(|entry| &entry.1)));
        let mut all = Vec::new();
        tables.scan(&part, &mut |slice| all.extend_from_slice(slice)).await.unwrap();
        assert!(all == entries, "in key order");
        tables.clear(&part).await.unwrap();
        assert_eq!(rows::<(i64,)>(&session, count.clone()).await, [], "dropped entirely");
    }
}

/// The server drops idempotency keys by itself: each row has a time to live.
#[tokio::test(flavor = "multi_thread")]
async fn idempotency_keys_have_a_time_to_live() {
    use tributary_backends::{tables::Hold, world::World};
    let keyspace = Keyspace::new();
    let tables = open(&keyspace.options()).await;
    let now = tributary_backends::world::SystemWorld.now_micros();
    let hold = |key: &str| Hold {
        workspace: "w".to_owned(),
        key: key.to_owned(),
        body_hash: [1; 32],
        owner: Uuid::from_u128(1),
    };
    let (day, lease) = (86_400, 120);
    tables.reserve(&hold("held"), now, now + lease * 1_000_000).await.unwrap();
    tables.reserve(&hold("done"), now, now + lease * 1_000_000).await.unwrap();
    tables.complete(&hold("done"), b"response", now + day * 1_000_000).await.unwrap();
    let session = session(&keyspace.node).await;
    let ttl: BTreeSet<(String, i32)> =
        rows(&session, format!("SELECT key, TTL(owner) FROM {}.idempotency", keyspace.name))
            .await
            .into_iter()
            .collect();
    let within = |found: i32, wanted: i64| (wanted - 60..=wanted + 60).contains(&i64::from(found));
    let found: Vec<_> = ttl.iter().map(|(key, ttl)| (key.as_str(), *ttl)).collect();
    assert!(
        matches!(found[..], [("done", done), ("held", held)]
        if within(done, day + 3_600) && within(held, lease + 3_600)),
        "{found:?}"
    );
    let queued = format!("SELECT count(*) FROM {}.due", keyspace.name);
    assert_eq!(rows::<(i64,)>(&session, queued.clone()).await, [(3,)]);
    // What is over is dropped sooner when somebody comes for it.
    assert_eq!(tables.expire(now + (lease + 1) * 1_000_000).await.unwrap(), 1);
    assert_eq!(rows::<(i64,)>(&session, queued).await, [(1,)]);
}
