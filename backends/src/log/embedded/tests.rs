//! The embedded log held to the port's conformance suite.

use super::*;
use crate::{
    log::{
        Change, FetchLimit,
        conformance::{self, Factory},
    },
    world::TestWorld,
};
use bytes::Bytes;
use std::{collections::HashMap, sync::Mutex, time::Duration};
use tempfile::TempDir;

fn record(partition: u32, value: &str) -> Append {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Append { topic: Topic::Records, partition, key: Bytes::from_static(b"key"), value }
}

const LIMIT: FetchLimit = FetchLimit { max_bytes: 1 << 20, max_messages: 100, max_wait: Duration::from_secs(10) };

/// Makes logs in directories of their own.
#[derive(Debug)]
struct Logs {
    /// By the log's address.
    dirs: Mutex<HashMap<usize, Arc<TempDir>>>,
    world: TestWorld,
}

impl Logs {
    fn open(&self, dir: Arc<TempDir>) -> Arc<dyn RecordLog> {
        let options = Options { segment_bytes: 4_096, ..Options::default() };
        let log = open(dir.path(), options, Arc::new(self.world.clone())).unwrap();
        self.dirs.lock().unwrap().insert(address(&log), dir);
        log
    }
}

fn address(log: &Arc<dyn RecordLog>) -> usize {
    Arc::as_ptr(log).cast::<()>() as usize
}

#[async_trait]
impl Factory for Logs {
    async fn fresh(&self) -> Arc<dyn RecordLog> {
        self.open(Arc::new(tempfile::tempdir().unwrap()))
    }

    async fn reopen(&self, log: Arc<dyn RecordLog>) -> Arc<dyn RecordLog> {
        let dir = self.dirs.lock().unwrap().remove(&address(&log)).unwrap();
        drop(log);
        self.open(dir)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_log_does_what_every_log_must() {
    conformance::run_all(&Logs { dirs: Mutex::default(), world: TestWorld::new(1) }).await;
}

#[tokio::test]
async fn what_was_appended_and_committed_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        || Options { lanes: tributary_schemas::identity::Lanes { partitions: 2, spread: 1 }, ..Options::default() };
    let world = Arc::new(TestWorld::new(1));
    for round in 0..3 {
        let log = open(dir.path(), options(), world.clone()).unwrap();
        let offsets = log.append(vec![record(1, "a"), record(0, "b"), record(1, "c")]).await.unwrap();
        assert_eq!(offsets, [2 * round, round, 2 * round + 1]);
        let mut member = log.join("lanes", Topic::Records).await.unwrap();
        for _ in 0..2 {
            let Ok(Change::Assigned(mut reader)) = member.next().await else { panic!("assigned") };
            assert_eq!(reader.position(), if reader.partition() == 1 { 2 * round } else { round });
            let values: Vec<_> = reader.fetch(LIMIT).await.unwrap().into_iter().map(|m| m.value).collect();
            assert_eq!(values, if reader.partition() == 1 { vec!["a", "c"] } else { vec!["b"] });
            reader.commit(reader.position()).await.unwrap();
        }
        assert!(matches!(open(dir.path(), options(), world.clone()), Err(LogError::Halted(_))));
    }
}
