//! A server of one test's own, which it may kill.

use super::{super::SeededWorld, Lake};
use crate::lake::StoreOptions;
use std::{path::Path, process::Command};
use tempfile::TempDir;

pub(super) struct Server {
    directory: TempDir,
    environment: StoreOptions,
}

impl Server {
    pub(super) fn start() -> Self {
        let mut server = Self { directory: tempfile::tempdir().unwrap(), environment: StoreOptions::new() };
        server.environment = server.script("start");
        server
    }

    /// `start`, `pause`, `kill` of tests/services/minio.sh.
    pub(super) fn script(&self, verb: &str) -> StoreOptions {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/services/minio.sh");
        let run = Command::new(script).arg(verb).env("TRIBUTARY_SERVICES", self.directory.path()).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let said = String::from_utf8(run.stdout).unwrap();
        said.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    pub(super) fn lake(&self, seed: u64) -> Lake {
        let (_, url) = self.environment.iter().find(|(key, _)| key == "TRIBUTARY_TEST_S3").unwrap();
        Lake::open_with(&url.parse().unwrap(), &self.environment, SeededWorld::new(seed)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.script("stop");
    }
}
