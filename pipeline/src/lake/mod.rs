//! The lake: one Delta table per workspace on `object_store`, written with deletion vectors.
//!
//! A chunk's way through this module:
//!
//! 0. [`Lake::open`] finds the store behind a URL (`open`); [`Lake::prove`] has it show that it creates an object only
//!    once (`prove`).
//! 1. [`Lake::table`] opens a workspace's table (`load`: the kernel's snapshot of the newest checkpoint and the commits
//!    after it) or makes it (`create`). The handle keeps the version's live files and `txn`s in memory (`state`).
//! 2. [`Table::write`] orders the rows by partition and event time (`split`), cuts them into Parquet files
//!    (`encode`, `stats`) and makes all of them durable: on a local disk at once (`durable`), elsewhere piece by piece
//!    (`upload`).
//! 3. [`Table::commit`] marks overwritten rows in deletion vectors (`deletion`) and puts one commit file that nobody
//!    else may have put (`commit`, `actions`); the handle moves on in memory, without reading the log again.
//! 4. Every hundredth commit writes a checkpoint (`checkpoint`).
//! 5. [`Table::keys_since`] reads keys back for the index (`keys`), and `check` what `lake check` needs.
//!
//! Durability on a local disk: data files, deletion vectors and the commit file are each on the disk, with their names,
//! before the step that relies on them begins.

mod actions;
mod check;
mod checkpoint;
mod commit;
mod create;
mod deletion;
mod durable;
mod encode;
mod error;
mod keys;
mod load;
mod open;
mod parquet_object;
mod partition;
mod prove;
mod split;
mod state;
mod stats;
mod store;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod upload;
mod write;

pub use check::Unreferenced;
pub use error::LakeError;
pub use open::StoreOptions;
pub use table::Table;

use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use std::{collections::BTreeMap, sync::Arc};
use store::Store;
use tributary_backends::{tables::Location, world::World};
use tributary_schemas::{columns, identity::Identity};
use url::Url;
use uuid::Uuid;

/// All tables under one URL.
#[derive(Debug, Clone)]
pub struct Lake {
    store: Store,
    world: Arc<dyn World>,
    /// Ends with `/`.
    url: Url,
    /// Names the object by which the store is tried.
    probe: Uuid,
}

/// A file that the version holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFile {
    /// UUID in its name.
    pub id: Uuid,
    /// Lane in its name.
    pub lane: u32,
    /// Path below the table's root.
    pub path: String,
    /// Rows in it, deleted ones included.
    pub rows: u64,
    /// Rows that its deletion vector marks.
    pub deleted: u64,
    /// Bytes.
    pub size: u64,
}

/// What a lane wrote but has not committed.
#[derive(Debug)]
pub struct WrittenFiles {
    /// For each input row: the file and the row in it.
    pub places: Vec<(Uuid, u32)>,
    /// Add actions to be committed; opaque to the lane.
    pub files: Vec<WrittenFile>,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct WrittenFile(state::Entry);

/// One atomic change of a table.
#[derive(Debug, Default)]
pub struct TableCommit {
    /// New files.
    pub adds: Vec<WrittenFile>,
    /// Rows to mark deleted, by file; existing marks stay.
    pub deletes: BTreeMap<Uuid, Vec<u32>>,
    /// `txn` actions: application id → version. The lane's position and its exact counters.
    pub txns: BTreeMap<String, i64>,
}

/// One row's key, read back for the index.
#[derive(Debug, Clone, Copy)]
pub struct KeyRow {
    /// Who.
    pub identity: Identity,
    /// Where (its `table_version` is the version of the handle that read it).
    pub location: Location,
}

impl Lake {
    /// The lake at `url`: `file://`, whose directory is created, or `s3://`, `gs://`, `az://`, with credentials and
    /// endpoint from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`). Nothing is asked of a store yet: see
    /// [`Self::prove`].
    ///
    /// # Errors
    /// [`LakeError::Unavailable`] when the directory cannot be made, [`LakeError::Halted`] for a URL that is no lake.
    pub fn open(url: &Url, world: Arc<dyn World>) -> Result<Self, LakeError> {
        Self::open_with(url, &open::environment(), world)
    }

    /// The same with settings that do not come from the environment.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(url: &Url, options: &StoreOptions, world: Arc<dyn World>) -> Result<Self, LakeError> {
        let mut url = url.clone();
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let probe = world.uuid_v7();
        Ok(Self { store: Store::open(&url, options)?, world, url, probe })
    }

    /// Asks the store whether it serves us, and has it show that it creates an object only once, which the commits rely
    /// on. Done at most once in a process, and by [`Self::table`] at the latest.
    ///
    /// # Errors
    /// [`LakeError::Halted`] when the store lacks create-only puts, refuses the credentials or has no such bucket, with
    /// what to do; [`LakeError::Unavailable`] when it does not answer.
    pub async fn prove(&self) -> Result<(), LakeError> {
        self.store.prove(&object_path(&self.url)?, self.probe).await
    }

    /// Asks the store one small thing, for a health check.
    ///
    /// # Errors
    /// [`LakeError::Unavailable`] when it does not answer or will not serve us.
    pub async fn answers(&self) -> Result<(), LakeError> {
        let root = object_path(&self.url)?;
        if self.store.local {
            return self.store.directories(&root).await.map(drop);
        }
        // That it is not there is an answer; a bucket that is not there is another one.
        self.store.get(&root.join("_ready")).await.map(drop)
    }

    /// URL of a workspace's `records` table; ends with `/`.
    pub fn table_url(&self, workspace: &str) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push(workspace).push("records").push("");
        }
        url
    }

    /// Workspaces that have a table.
    pub async fn workspaces(&self) -> Result<Vec<String>, LakeError> {
        let mut workspaces = Vec::new();
        for workspace in self.store.directories(&object_path(&self.url)?).await? {
            if load::exists(&self.store, &object_path(&self.table_url(&workspace))?).await? {
                workspaces.push(workspace);
            }
        }
        Ok(workspaces)
    }

    /// The workspace's table, created when there is none.
    pub async fn table(&self, workspace: &str) -> Result<Table, LakeError> {
        self.table_of(workspace, columns::table_schema).await
    }

    async fn table_of(&self, workspace: &str, schema: fn() -> SchemaRef) -> Result<Table, LakeError> {
        self.prove().await?;
        if let Some(table) = self.existing(workspace).await? {
            return Ok(table);
        }
        let url = self.table_url(workspace);
        create::create(&self.store, &*self.world, &object_path(&url)?, &schema()).await?;
        let table = self.existing(workspace).await?;
        table.ok_or_else(|| LakeError::Unavailable(format!("{url}_delta_log is not there though it was just written")))
    }

    /// The workspace's table, if there is one.
    pub async fn existing(&self, workspace: &str) -> Result<Option<Table>, LakeError> {
        check_name(workspace)?;
        let url = self.table_url(workspace);
        let root = object_path(&url)?;
        let state = load::newest(&self.store, &url, &root).await?;
        Ok(state.map(|state| Table { store: self.store.clone(), world: self.world.clone(), url, root, state }))
    }
}

/// A workspace's name is a directory's: 1 to 64 of `[A-Za-z0-9._-]`, and none of those that mean another directory.
pub(crate) fn is_workspace_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && !name.bytes().all(|byte| byte == b'.')
}

fn check_name(workspace: &str) -> Result<(), LakeError> {
    if is_workspace_name(workspace) {
        return Ok(());
    }
    Err(LakeError::Halted(format!("{workspace:?} cannot be a workspace: 1 to 64 of A-Z a-z 0-9 . _ -")))
}

/// A directory's URL as the store names it.
fn object_path(url: &Url) -> Result<Path, LakeError> {
    Path::from_url_path(url.path()).map_err(|error| LakeError::Halted(format!("{url} is no path of a store: {error}")))
}

/// An object below `root`; `%` in its path stands for itself.
fn below(root: &Path, path: &str) -> Result<Path, LakeError> {
    Path::parse(format!("{root}/{path}")).map_err(|error| LakeError::Halted(format!("{path} is no path: {error}")))
}
