//! The embedded key index as it grows: what a record costs, and how long a restart takes, at each size.
//!
//! `cargo bench -p tributary-backends --bench key_index -- 1000000 10000000`

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, not a library")]

use std::{path::Path, sync::Arc, time::Instant};
use tributary_backends::tables::{IndexPart, Location, Tables, embedded};
use tributary_schemas::identity::Identity;
use uuid::Uuid;

const CHUNK: u64 = 20_000;
/// Chunks over which a size is measured.
const MEASURED: u64 = 10;

fn identity(n: u64) -> Identity {
    Identity(*blake3::hash(&n.to_le_bytes()).as_bytes().first_chunk().unwrap())
}

fn chunk(first: u64, version: u64) -> Vec<(Identity, Location)> {
    let file = Uuid::from_u128(u128::from(version).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
    let entry = |n: u64| {
        let digest = i64::from_le_bytes(*blake3::hash(&n.to_be_bytes()).as_bytes().first_chunk().unwrap());
        let row = u32::try_from(n - first).unwrap();
        (identity(n), Location { file, row, version: i64::try_from(n).unwrap(), digest, table_version: version })
    };
    (first..first + CHUNK).map(entry).collect()
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// A line of `/proc/self/status`, in MB.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    found.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

struct Timer(Instant, f64);

impl Timer {
    fn start() -> Self {
        Self(Instant::now(), cpu())
    }

    fn report(&self, what: &str, records: u64) {
        let (wall, cpu) = (self.0.elapsed().as_secs_f64(), cpu() - self.1);
        let per = 1e6 / records as f64;
        println!("  {what:<34} {wall:7.2} s  {:6.2} us wall/record  {:6.2} us cpu/record", wall * per, cpu * per);
    }
}

fn open(dir: &Path) -> Arc<dyn Tables> {
    embedded::open(dir).unwrap()
}

#[tokio::main]
async fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000_000] } else { sizes };
    let dir = tempfile::tempdir().unwrap();
    let part = IndexPart { workspace: "w".to_owned(), lane: 0 };
    let mut tables = open(dir.path());
    let (mut keys, mut version) = (0, 0);
    for size in sizes {
        let timer = Timer::start();
        let before = keys;
        while keys < size {
            tables.upsert(&part, &chunk(keys, version)).await.unwrap();
            tables.set_watermark(&part, version).await.unwrap();
            (keys, version) = (keys + CHUNK, version + 1);
        }
        println!("{keys} keys, peak memory {} MB", memory("VmHWM:"));
        timer.report("grow to this size", keys - before);
        (keys, version) = measure(&*tables, &part, keys, version).await;
        drop(tables);
        let timer = Timer::start();
        tables = open(dir.path());
        timer.report("open", keys);
        let mut seen = 0;
        tables.scan(&part, &mut |slice| seen += slice.len() as u64).await.unwrap();
        timer.report("open and scan", keys);
        assert_eq!(seen, keys);
        println!("  resident {} MB", memory("VmRSS:"));
    }
}

async fn measure(tables: &dyn Tables, part: &IndexPart, mut keys: u64, mut version: u64) -> (u64, u64) {
    let timer = Timer::start();
    for _ in 0..MEASURED {
        // One record in twenty is an old one: looked up, and written at its new place.
        let mut entries = chunk(keys, version);
        let old: Vec<Identity> = (0..CHUNK / 20).map(|n| identity((n * 7_919 + version * 104_729) % keys)).collect();
        assert!(tables.lookup(part, &old).await.unwrap().locations.iter().all(Option::is_some));
        let place = entries[0].1;
        entries.extend(old.into_iter().map(|identity| (identity, place)));
        tables.upsert(part, &entries).await.unwrap();
        tables.set_watermark(part, version).await.unwrap();
        (keys, version) = (keys + CHUNK, version + 1);
    }
    timer.report("land, 5 % overwritten", CHUNK * MEASURED);
    let timer = Timer::start();
    for n in 0..MEASURED {
        let old: Vec<Identity> = (0..CHUNK).map(|m| identity((m * 7_919 + n * 104_729) % keys)).collect();
        assert!(tables.lookup(part, &old).await.unwrap().locations.iter().all(Option::is_some));
    }
    timer.report("look up, all old", CHUNK * MEASURED);
    (keys, version)
}
