//! The lake against a local directory; with the feature `services` the same tests against a real S3 server, and those
//! that only make sense there.

mod faults;
mod faulty;
#[cfg(feature = "services")]
mod minio;
mod model;
mod rows;
mod tables;

use super::{Lake, Table, TableCommit};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};
use tempfile::TempDir;
use tributary_backends::world::World;

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

/// A lake in a fresh place: on the server that the tests were started with, or else in `directory`.
pub(crate) fn fresh_lake(directory: &std::path::Path, world: Arc<dyn World>) -> Lake {
    #[cfg(feature = "services")]
    let url = (directory, minio::fresh_url()).1;
    #[cfg(not(feature = "services"))]
    let url = url::Url::from_directory_path(directory).unwrap();
    Lake::open(&url, world).unwrap()
}

/// The same lake, whose next commit of an open table is stored while nobody can tell.
pub(crate) fn with_one_unclear_commit(lake: &Lake) -> Lake {
    let store = faulty::FaultyStore::over(lake.store.objects());
    store.set(faulty::Fault::OneAnswerLost);
    Lake { store: super::store::Store::over(Arc::new(store), false).unwrap(), ..lake.clone() }
}

/// Puts an object into a workspace's table, as no lane would.
pub(crate) async fn put(lake: &Lake, workspace: &str, path: &str, bytes: impl Into<Vec<u8>>) {
    let path = super::below(&super::object_path(&lake.table_url(workspace)).unwrap(), path).unwrap();
    lake.store.objects().put(&path, bytes.into().into()).await.unwrap();
}

/// Removes an object of a workspace's table.
pub(crate) async fn remove(lake: &Lake, workspace: &str, path: &str) {
    let path = super::below(&super::object_path(&lake.table_url(workspace)).unwrap(), path).unwrap();
    lake.store.delete(&path).await.unwrap();
}

/// Files with rows under a workspace's table, whether or not it has them.
pub(crate) async fn data_files(lake: &Lake, workspace: &str) -> usize {
    let root = super::object_path(&lake.table_url(workspace)).unwrap();
    let objects = lake.store.list(&root).await.unwrap();
    let of_rows = |path: &str| path.ends_with(".parquet") && !path.contains("_delta_log");
    objects.iter().filter(|object| of_rows(object.location.as_ref())).count()
}

/// A lake in a fresh place.
struct Home {
    _directory: TempDir,
    lake: Lake,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lake = fresh_lake(directory.path(), SeededWorld::new(7));
        Self { _directory: directory, lake }
    }

    async fn table(&self) -> Table {
        self.lake.table_of("acme", rows::schema).await.unwrap()
    }

    fn objects(&self) -> Arc<dyn ObjectStore> {
        self.lake.store.objects()
    }

    /// An object of the table.
    fn path(&self, path: &str) -> Path {
        super::below(&super::object_path(&self.lake.table_url("acme")).unwrap(), path).unwrap()
    }

    async fn read(&self, path: &str) -> Vec<u8> {
        self.objects().get(&self.path(path)).await.unwrap().bytes().await.unwrap().to_vec()
    }

    async fn write(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        put(&self.lake, "acme", path, bytes).await;
    }

    async fn flip(&self, path: &str, place: usize) {
        let mut bytes = self.read(path).await;
        bytes[place] ^= 0x10;
        self.write(path, bytes).await;
    }

    async fn remove(&self, path: &str) {
        remove(&self.lake, "acme", path).await;
    }
}

/// Path of a commit file below the table.
fn log_entry(version: u64) -> String {
    format!("_delta_log/{version:020}.json")
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
