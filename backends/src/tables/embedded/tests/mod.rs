//! The embedded tables held to the port's suite, to a plain model, to SIGKILL, and to damaged files.

use super::{Options, open_with};
use crate::tables::{
    Tables, TablesError,
    conformance::{self, Factory, Place},
};
use async_trait::async_trait;
use std::{path::Path, sync::Arc};

mod damage;
mod kill;
mod model;

/// Little memory, so that small tests also write and merge table files.
fn small() -> Options {
    Options { state_memtable_bytes: 64 * 1024, index_memtable_bytes: 64 * 1024, reserve_bytes: 0, ..Options::default() }
}

fn open(dir: &Path) -> Result<Arc<dyn Tables>, TablesError> {
    open_with(dir, &small())
}

struct Directories;

#[async_trait]
impl Factory for Directories {
    async fn place(&self) -> Box<dyn Place> {
        Box::new(Directory(tempfile::tempdir().unwrap()))
    }
}

struct Directory(tempfile::TempDir);

#[async_trait]
impl Place for Directory {
    async fn open(&self) -> Arc<dyn Tables> {
        open(self.0.path()).unwrap()
    }
}

#[tokio::test]
async fn conforms_in_keys() {
    conformance::keys::run(&Directories).await;
}

#[tokio::test]
async fn conforms_in_batches() {
    conformance::batches::run(&Directories).await;
}

#[tokio::test]
async fn conforms_in_idempotency() {
    conformance::idempotency::run(&Directories).await;
}

#[tokio::test]
async fn conforms_in_the_index() {
    conformance::index::run(&Directories).await;
}

#[tokio::test]
async fn conforms_in_settings() {
    conformance::settings(&Directories).await;
}

#[tokio::test]
async fn conforms_in_notes() {
    conformance::board(&Directories).await;
}

#[tokio::test]
async fn refuses_writes_without_room_and_goes_on_with_it() {
    use tributary_schemas::identity::Lanes;
    let dir = tempfile::tempdir().unwrap();
    let full = Options { reserve_bytes: u64::MAX, ..small() };
    let lanes = Lanes { partitions: 1, spread: 1 };
    let tables = open_with(dir.path(), &full).unwrap();
    let refused = tables.lanes(lanes).await.unwrap_err();
    assert!(matches!(refused, TablesError::Full(_)), "{refused}");
    let part = crate::tables::IndexPart { workspace: "w".to_owned(), lane: 0 };
    assert!(matches!(tables.upsert(&part, &[]).await, Err(TablesError::Full(_))));
    assert_eq!(tables.keys(None).await.unwrap(), [], "reads go on");
    drop(tables);
    let tables = open(dir.path()).unwrap();
    assert_eq!(tables.lanes(lanes).await.unwrap(), lanes);
}

#[test]
fn a_second_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path()).unwrap();
    let refused = open(dir.path()).unwrap_err();
    assert!(matches!(&refused, TablesError::Halted(why) if why.contains("another process")), "{refused}");
}
