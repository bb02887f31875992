//! Embedded backends in a directory of their own.

use anyhow::Context;
use std::{path::Path, sync::Arc};
use tempfile::TempDir;
use tributary_backends::{
    log::{self, RecordLog},
    tables::{self, Tables},
    world::{SystemWorld, World},
};
use tributary_pipeline::lake::Lake;
use tributary_schemas::identity::Lanes;
use url::Url;

/// As `tributary up` has them by default.
pub const LANES: Lanes = Lanes { partitions: 4, spread: 1 };
/// The workspace that everything goes to.
pub const WORKSPACE: &str = "default";

/// The log and the tables, open.
#[derive(Debug, Clone)]
pub struct Backends {
    pub log: Arc<dyn RecordLog>,
    pub tables: Arc<dyn Tables>,
    pub world: Arc<dyn World>,
}

impl Backends {
    /// Opens both below `dir`.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let tables = tables::embedded::open(&dir.join("tables"))?;
        let options = log::embedded::Options { lanes: LANES, ..Default::default() };
        let log = log::embedded::open(&dir.join("log"), options, world.clone())?;
        Ok(Self { log, tables, world })
    }
}

/// The lake below `dir`, or in a fresh place below the URL in `TRIBUTARY_LAKE`.
pub fn lake(dir: &Path, world: Arc<dyn World>) -> anyhow::Result<Lake> {
    if let Ok(store) = std::env::var("TRIBUTARY_LAKE") {
        let url = Url::parse(&store)?.join(&format!("{}/", world.uuid_v7()))?;
        return Ok(Lake::open(&url, world)?);
    }
    let dir = std::path::absolute(dir.join("lake"))?;
    let url = Url::from_directory_path(&dir).map_err(|()| anyhow::anyhow!("{} is no directory", dir.display()))?;
    Ok(Lake::open(&url, world)?)
}

/// A directory that goes away with its handle; on the disk to be measured.
pub fn scratch(below: Option<&Path>) -> anyhow::Result<TempDir> {
    let made = match below {
        Some(dir) => TempDir::new_in(dir),
        None => TempDir::new(),
    };
    made.context("no scratch directory")
}
