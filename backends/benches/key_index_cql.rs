//! The key index on a CQL server: what writing and looking up chunks costs, here and by the clock.
//!
//! `TRIBUTARY_TEST_CQL=host:port cargo bench -p tributary-backends --features cql --bench key_index_cql -- 1000000`

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, not a library")]

use std::time::Instant;
use tributary_backends::tables::{
    IndexPart, Location,
    cql::{Options, open},
};
use tributary_schemas::identity::Identity;
use uuid::Uuid;

const CHUNK: u64 = 10_000;

fn entry(n: u64, version: u64) -> (Identity, Location) {
    let hash = blake3::hash(&n.to_le_bytes());
    let location = Location {
        file: Uuid::from_u128(u128::from(version).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)),
        row: u32::try_from(n % CHUNK).unwrap(),
        version: i64::try_from(n).unwrap(),
        digest: n.cast_signed().wrapping_mul(0x5851_F42D_4C95_7F2D),
        table_version: version,
    };
    (Identity(*hash.as_bytes().first_chunk().unwrap()), location)
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn report(what: &str, keys: u64, (began, cpu_before): (Instant, f64)) {
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu() - cpu_before);
    let rate = keys as f64 / wall;
    println!("{what:<28} {rate:>10.0} keys/s {:>8.2} CPU-s/M", cpu * 1e6 / keys as f64);
}

#[tokio::main]
async fn main() {
    let node = std::env::var("TRIBUTARY_TEST_CQL").expect("TRIBUTARY_TEST_CQL names no server");
    let total = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(200_000);
    let micros = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
    let options = Options { nodes: vec![node], keyspace: format!("bench_{micros}"), ..Options::default() };
    let tables = open(options).await.unwrap();
    let part = IndexPart { workspace: "w".to_owned(), lane: 0 };
    let chunks: Vec<Vec<_>> = (0..total / CHUNK)
        .map(|chunk| (chunk * CHUNK..(chunk + 1) * CHUNK).map(|n| entry(n, chunk)).collect())
        .collect();
    let keys = chunks.len() as u64 * CHUNK;
    let start = || (Instant::now(), cpu());

    let begun = start();
    for (chunk, version) in chunks.iter().zip(0..) {
        tables.upsert(&part, chunk).await.unwrap();
        tables.set_watermark(&part, version).await.unwrap();
    }
    report("write new keys", keys, begun);
    let begun = start();
    for chunk in &chunks {
        let keys: Vec<_> = chunk.iter().map(|entry| entry.0).collect();
        let found = tables.lookup(&part, &keys).await.unwrap().locations;
        assert!(found.iter().flatten().eq(chunk.iter().map(|entry| &entry.1)));
    }
    report("look up keys that are there", keys, begun);
    let begun = start();
    for chunk in 0..keys / CHUNK {
        let absent: Vec<_> = (0..CHUNK).map(|n| entry(u64::MAX - chunk * CHUNK - n, 0).0).collect();
        assert!(tables.lookup(&part, &absent).await.unwrap().locations.iter().all(Option::is_none));
    }
    report("look up keys that are not", keys, begun);
    let begun = start();
    let mut count = 0;
    tables.scan(&part, &mut |slice| count += slice.len() as u64).await.unwrap();
    assert_eq!(count, keys);
    report("scan", keys, begun);
}
