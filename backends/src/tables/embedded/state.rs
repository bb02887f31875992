//! The database of everything but the key index, and its keyspaces.

use super::{Options, failure::Classified, settings};
use crate::tables::TablesError;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Slice, Snapshot};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Keyspaces, with their keys → values. Texts are length-prefixed (see `codec`), times sort as they count.
pub(super) struct State {
    db: Database,
    /// Something was written since the last persist.
    dirty: AtomicBool,
    start: u64,
    /// Key id → `ApiKey`.
    pub(super) keys: Keyspace,
    /// Key hash → key id.
    pub(super) key_hashes: Keyspace,
    /// Workspace, key id → nothing.
    pub(super) workspace_keys: Keyspace,
    /// Workspace, batch id → `BatchRow`.
    pub(super) batches: Keyspace,
    /// Workspace, `created_at`, batch id → nothing: read backwards it is newest first.
    pub(super) batch_order: Keyspace,
    /// `created_at`, workspace, batch id → nothing: the batches that are neither landed nor failed.
    pub(super) open_batches: Keyspace,
    /// Workspace, batch id, hash of the fact → the fact and its time.
    pub(super) facts: Keyspace,
    /// Workspace, batch id, index → `Reject`.
    pub(super) rejects: Keyspace,
    /// Workspace, batch id, index, place in the record → `Attachment`.
    pub(super) attachments: Keyspace,
    /// Workspace, idempotency key → who holds it, or the response.
    pub(super) idempotency: Keyspace,
    /// When it ends, workspace, idempotency key → nothing.
    pub(super) idempotency_ends: Keyspace,
    /// Name → value.
    pub(super) settings: Keyspace,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn open(dir: &Path, options: &Options) -> Result<Self, TablesError> {
        let db = Database::builder(dir)
            .cache_size(options.state_cache_bytes)
            .max_journaling_size(options.max_journal_bytes)
            .worker_threads(1)
            // Persisted by the committer, once for many changes.
            .manual_journal_persist(true)
            .open()
            .classified()?;
        let memtable = options.state_memtable_bytes;
        let keyspace = |name: &str| {
            db.keyspace(name, || {
                KeyspaceCreateOptions::default().max_memtable_size(memtable).manual_journal_persist(true)
            })
            .classified()
        };
        let mut state = Self {
            dirty: AtomicBool::new(false),
            start: 0,
            keys: keyspace("keys")?,
            key_hashes: keyspace("key_hashes")?,
            workspace_keys: keyspace("workspace_keys")?,
            batches: keyspace("batches")?,
            batch_order: keyspace("batch_order")?,
            open_batches: keyspace("open_batches")?,
            facts: keyspace("facts")?,
            rejects: keyspace("rejects")?,
            attachments: keyspace("attachments")?,
            idempotency: keyspace("idempotency")?,
            idempotency_ends: keyspace("idempotency_ends")?,
            settings: keyspace("settings")?,
            db,
        };
        state.start = settings::count_start(&state)?;
        Ok(state)
    }

    /// Which start of the process this is, from 1.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Changes that happen together or not at all.
    pub(super) fn begin(&self) -> OwnedWriteBatch {
        self.db.batch()
    }

    /// Makes them visible; durable they are after [`Self::persist`].
    pub(super) fn commit(&self, batch: OwnedWriteBatch) -> Result<(), TablesError> {
        self.dirty.store(true, Ordering::Relaxed);
        batch.commit().classified()
    }

    /// Makes everything committed durable.
    pub(super) fn persist(&self) -> fjall::Result<()> {
        if self.dirty.swap(false, Ordering::Relaxed) {
            // After a failure the next change must not be answered as if everything before it were durable.
            self.db.persist(PersistMode::SyncData).inspect_err(|_| self.dirty.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    }

    /// One moment of all keyspaces, for reads that must fit together.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.db.snapshot()
    }
}

/// The value under a key.
pub(super) fn get(keyspace: &Keyspace, key: &[u8]) -> Result<Option<Slice>, TablesError> {
    keyspace.get(key).classified()
}
