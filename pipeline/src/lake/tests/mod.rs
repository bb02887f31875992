//! The lake against a local directory.

mod faults;
mod faulty;
mod model;
mod rows;
mod tables;

use super::{Lake, Table, TableCommit};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};
use tempfile::TempDir;
use tributary_backends::world::World;
use url::Url;

/// Time that moves one millisecond with each look, and a seeded stream of randomness.
#[derive(Debug)]
struct SeededWorld {
    micros: AtomicI64,
    random: Mutex<StdRng>,
}

impl SeededWorld {
    fn new(seed: u64) -> Arc<Self> {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Arc::new(Self { micros: AtomicI64::new(1_700_000_000_000_000), random })
    }
}

impl World for SeededWorld {
    fn now_micros(&self) -> i64 {
        self.micros.fetch_add(1_000, Ordering::Relaxed)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.random.lock().unwrap().fill(bytes);
    }
}

/// A lake in a fresh directory.
struct Home {
    directory: TempDir,
    lake: Lake,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(directory.path()).unwrap();
        let lake = Lake::open(&url, SeededWorld::new(7)).unwrap();
        Self { directory, lake }
    }

    async fn table(&self) -> Table {
        self.lake.table_of("acme", rows::schema).await.unwrap()
    }

    fn file(&self, path: &str) -> PathBuf {
        self.directory.path().join("acme/records").join(path)
    }

    fn log_entry(&self, version: u64) -> PathBuf {
        self.file(&format!("_delta_log/{version:020}.json"))
    }
}

/// Live rows of a lane as the index would be told: identity → version.
async fn live(table: &Table, lane: u32, after: Option<u64>) -> BTreeMap<u64, i64> {
    let mut live = BTreeMap::new();
    let each = &mut |rows: &[super::KeyRow]| {
        for row in rows {
            let twice = live.insert(rows::number_of(&row.identity), row.location.version);
            assert_eq!(twice, None, "an identity is live twice");
        }
    };
    table.keys_since(lane, after, each).await.unwrap();
    live
}

/// Writes and commits in one go.
async fn land(table: &mut Table, rows: &[rows::Row]) -> Vec<(uuid::Uuid, u32)> {
    let written = table.write(0, &rows::batch(rows)).await.unwrap();
    let commit = TableCommit { adds: written.files, ..TableCommit::default() };
    table.commit(commit).await.unwrap();
    written.places
}
