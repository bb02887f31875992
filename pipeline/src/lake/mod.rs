//! The lake: one Delta table per workspace on `object_store`, written with deletion vectors.

use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use tributary_backends::tables::Location;
use tributary_schemas::identity::Identity;
use url::Url;
use uuid::Uuid;

/// Classified by what the caller must do.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The store is away or full: wait and try again; nothing was committed.
    #[error("the lake is not available: {0}")]
    Unavailable(String),
    /// Another commit came first, or the answer to ours is unclear: refresh, look at `txn`, resolve again.
    #[error("the commit may have lost a race: {0}")]
    Conflict(String),
    /// What is stored is not what was written: halt and tell the operator which file.
    #[error("{path} is corrupt: {reason}")]
    Corrupt {
        /// Which object.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Cannot ever work.
    #[error("{0}")]
    Halted(String),
}

/// All tables under one URL.
#[derive(Debug, Clone)]
pub struct Lake(());

impl Lake {
    /// Opens the lake at `url` (`file://` …), creating the directory.
    pub fn open(url: &Url) -> Result<Self, LakeError> {
        let _ = url;
        todo!()
    }
    /// URL of a workspace's `records` table.
    pub fn table_url(&self, workspace: &str) -> Url {
        let _ = workspace;
        todo!()
    }
    /// Workspaces that have a table.
    pub async fn workspaces(&self) -> Result<Vec<String>, LakeError> {
        todo!()
    }
    /// The workspace's table, created when there is none.
    pub async fn table(&self, workspace: &str) -> Result<Table, LakeError> {
        let _ = workspace;
        todo!()
    }
    /// The workspace's table, if there is one.
    pub async fn existing(&self, workspace: &str) -> Result<Option<Table>, LakeError> {
        let _ = workspace;
        todo!()
    }
}

/// A table at one version.
#[derive(Debug)]
pub struct Table(());

/// A file that the version holds.
#[derive(Debug, Clone)]
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
pub struct WrittenFile(());

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
    /// Where (its `table_version` is the version asked for).
    pub location: Location,
}

impl Table {
    /// The version this handle stands at.
    pub fn version(&self) -> u64 {
        todo!()
    }
    /// Latest version of an application's `txn`.
    pub fn txn(&self, app_id: &str) -> Option<i64> {
        let _ = app_id;
        todo!()
    }
    /// All `txn` actions.
    pub fn txns(&self) -> &BTreeMap<String, i64> {
        todo!()
    }
    /// A live file.
    pub fn file(&self, id: &Uuid) -> Option<&LiveFile> {
        let _ = id;
        todo!()
    }
    /// All live files.
    pub fn files(&self) -> Vec<&LiveFile> {
        todo!()
    }
    /// Moves the handle to the newest version.
    pub async fn refresh(&mut self) -> Result<(), LakeError> {
        todo!()
    }
    /// Writes rows ([`tributary_schemas::columns::table_schema`]) as Parquet under fresh names, a file per partition. Nothing is
    /// visible before [`Self::commit`].
    pub async fn write(&self, lane: u32, rows: &RecordBatch) -> Result<WrittenFiles, LakeError> {
        let _ = (lane, rows);
        todo!()
    }
    /// Commits on top of this handle's version, create-only; the handle then stands at the new version. Writes a
    /// checkpoint when one is due.
    pub async fn commit(&mut self, commit: TableCommit) -> Result<u64, LakeError> {
        let _ = commit;
        todo!()
    }
    /// Keys of the live rows of this lane's files that were added after table version `after` (all when `None`), with
    /// their `table_version` set to this handle's version; file by file.
    pub async fn keys_since(
        &self,
        lane: u32,
        after: Option<u64>,
        each: &mut (dyn FnMut(&[KeyRow]) + Send),
    ) -> Result<(), LakeError> {
        let _ = (lane, after, each);
        todo!()
    }
}
