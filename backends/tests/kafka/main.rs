//! The log on a real Kafka broker, whose address is in `TRIBUTARY_TEST_KAFKA`.
//!
//! `tests/services/kafka.sh start` starts one; `just test-cluster` does both. Without a broker these tests fail: they
//! are only built with the feature `kafka`, so whoever builds them wants them run.

#![expect(clippy::unwrap_used, reason = "tests: what fails panics")]

mod access;
#[path = "../../../tests/services/registry.rs"]
mod fake_registry;
mod faults;
mod groups;
mod handover;
mod late;
mod registry;
mod support;
mod topics;

use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use support::{open, options};
use tributary_backends::log::{
    RecordLog,
    conformance::{self, Factory},
    kafka::Options,
};

/// Makes logs on one broker.
#[derive(Default)]
struct Logs {
    /// By the log's address.
    options: Mutex<BTreeMap<usize, Options>>,
}

impl Logs {
    async fn open(&self, options: Options) -> Arc<dyn RecordLog> {
        let log = open(&options).await;
        self.options.lock().unwrap().insert(address(&log), options);
        log
    }
}

fn address(log: &Arc<dyn RecordLog>) -> usize {
    Arc::as_ptr(log).cast::<()>() as usize
}

#[async_trait]
impl Factory for Logs {
    async fn fresh(&self) -> Arc<dyn RecordLog> {
        self.open(options(2)).await
    }

    async fn reopen(&self, log: Arc<dyn RecordLog>) -> Arc<dyn RecordLog> {
        let options = self.options.lock().unwrap().remove(&address(&log)).unwrap();
        drop(log);
        self.open(options).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_on_kafka_does_what_every_log_must() {
    conformance::run_all(&Logs::default()).await;
}
