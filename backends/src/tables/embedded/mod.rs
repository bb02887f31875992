//! The tables on `fjall`: one process, durable by group commit.
//!
//! Two databases under one directory:
//!
//! - `state`: keys, batches, facts, rejects, attachments, idempotency, settings. One thread changes it ([`committer`]) and makes
//!   many changes durable with one fsync; a call returns after the fsync that covers it.
//! - `index`: the key index ([`index`]). Written without fsync; a crash of the process loses nothing of it, a loss of
//!   power perhaps its newest writes, and never an older write before a newer one.
//!
//! Reads go past the committer, on the runtime's blocking threads, and may see a change shortly before it is durable.
//!
//! Damage: every block of a table file, and every write in a journal, has a checksum. What does not match in the state
//! is a [`TablesError::Halted`] that says so; an index that cannot be opened is moved aside and begun anew, because it
//! can be made again from the lake. Not detected is damage to the very last write of a journal, which looks like a
//! write that a crash cut off.

mod batches;
mod board;
mod codec;
mod committer;
mod failure;
mod idempotency;
mod index;
mod journal;
mod keys;
mod listed;
mod settings;
mod space;
mod state;
#[cfg(test)]
mod tests;

use super::{
    ApiKey, AttachmentPosition, Batch, BatchPosition, BatchRow, Batches, Board, Found, Hold, Idempotency, IndexPart,
    KeyIndex, Keys, Location, Reservation, Settings, Tables, TablesError,
};
use async_trait::async_trait;
use board::Notes;
use committer::Committer;
use failure::stopped;
use index::Index;
use space::Space;
use state::State;
use std::{path::Path, sync::Arc, time::Duration};
use tributary_schemas::{
    frame::{Attachment, BatchEvent, Reject},
    identity::{Identity, Lanes},
};

/// How much memory and disk the tables take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of the state's table files kept in memory. More makes reads of old batches quicker.
    pub state_cache_bytes: u64,
    /// Bytes of the newest writes of each of the state's keyspaces kept in memory before they go to a table file.
    pub state_memtable_bytes: u64,
    /// Bytes of the index's table files kept in memory. More makes overwriting old records quicker.
    pub index_cache_bytes: u64,
    /// Bytes of the newest index entries kept in memory before they go to a table file. More means less rewriting of
    /// table files, and a longer start after a crash.
    pub index_memtable_bytes: u64,
    /// Bytes of journals of each of the two databases, at least 64 MiB. More means less frequent table files, and a
    /// longer start after a crash.
    pub max_journal_bytes: u64,
    /// Writes are refused ([`TablesError::Full`]) while the file system has fewer bytes left, for a write that fails
    /// half-way needs a restart.
    pub reserve_bytes: u64,
}

const MIB: u64 = 1024 * 1024;

impl Default for Options {
    /// For a process that has 512 MB in all.
    fn default() -> Self {
        Self {
            state_cache_bytes: 8 * MIB,
            state_memtable_bytes: 4 * MIB,
            index_cache_bytes: 32 * MIB,
            index_memtable_bytes: 16 * MIB,
            max_journal_bytes: 64 * MIB,
            reserve_bytes: 64 * MIB,
        }
    }
}

/// Opens the tables in `dir`, which is made when it is not there, with the default [`Options`].
///
/// # Errors
/// [`TablesError::Halted`] when the files are damaged, of a newer format, or open in another process.
pub fn open(dir: &Path) -> Result<Arc<dyn Tables>, TablesError> {
    open_with(dir, &Options::default())
}

/// Opens the tables in `dir` with these options.
///
/// # Errors
/// As [`open`].
pub fn open_with(dir: &Path, options: &Options) -> Result<Arc<dyn Tables>, TablesError> {
    std::fs::create_dir_all(dir)
        .map_err(|error| TablesError::Halted(format!("cannot make {}: {error}", dir.display())))?;
    let space = Space::of(dir.to_owned(), options.reserve_bytes);
    journal::check(&dir.join("state"))?;
    let state = Arc::new(State::open(&dir.join("state"), options)?);
    let index = Arc::new(Index::open_or_begin_anew(&dir.join("index"), options, &space)?);
    let committer = Committer::start(Arc::clone(&state), space)?;
    Ok(Arc::new(Embedded { committer, state, index, notes: Notes::default() }))
}

/// The committer comes first, for it must have ended when the databases close.
#[derive(Debug)]
struct Embedded {
    committer: Committer,
    state: Arc<State>,
    index: Arc<Index>,
    notes: Notes,
}

impl Embedded {
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&State) -> Result<T, TablesError> + Send + 'static,
    ) -> Result<T, TablesError> {
        let state = Arc::clone(&self.state);
        blocking(move || read(&state)).await
    }

    async fn index<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Index) -> Result<T, TablesError> + Send + 'static,
    ) -> Result<T, TablesError> {
        let index = Arc::clone(&self.index);
        blocking(move || work(&index)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TablesError> + Send + 'static,
) -> Result<T, TablesError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| stopped("reader"))?
}

#[async_trait]
impl Keys for Embedded {
    async fn create_key(&self, key: ApiKey, limit: usize) -> Result<(), TablesError> {
        self.committer.change(move |state| keys::create(state, &key, limit)).await
    }

    async fn keys(&self, workspace: Option<&str>) -> Result<Vec<ApiKey>, TablesError> {
        let workspace = workspace.map(str::to_owned);
        self.read(move |state| keys::list(state, workspace.as_deref())).await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>, TablesError> {
        let hash = *hash;
        self.read(move |state| keys::by_hash(state, &hash)).await
    }

    async fn revoke_key(&self, id: &str, at: i64) -> Result<bool, TablesError> {
        let id = id.to_owned();
        self.committer.change(move |state| keys::revoke(state, &id, at)).await
    }

    async fn touch_key(&self, id: &str, at: i64) -> Result<(), TablesError> {
        let id = id.to_owned();
        self.committer.change(move |state| keys::touch(state, &id, at)).await
    }
}

#[async_trait]
impl Batches for Embedded {
    async fn put_batch(&self, row: BatchRow) -> Result<(), TablesError> {
        self.committer.change(move |state| batches::put(state, &row)).await
    }

    async fn batch(&self, workspace: &str, batch_id: &str) -> Result<Option<Batch>, TablesError> {
        let (workspace, batch_id) = (workspace.to_owned(), batch_id.to_owned());
        self.read(move |state| batches::one(state, &workspace, &batch_id)).await
    }

    async fn batches(
        &self,
        workspace: &str,
        limit: usize,
        before: Option<&BatchPosition>,
    ) -> Result<Vec<Batch>, TablesError> {
        let (workspace, before) = (workspace.to_owned(), before.cloned());
        self.read(move |state| batches::page(state, &workspace, limit, before.as_ref())).await
    }

    async fn add_facts(&self, events: &[BatchEvent]) -> Result<(), TablesError> {
        let events = events.to_vec();
        self.committer.change(move |state| batches::add_facts(state, &events)).await
    }

    async fn landing_before(&self, created_before: i64, limit: usize) -> Result<Vec<Batch>, TablesError> {
        self.read(move |state| batches::landing_before(state, created_before, limit)).await
    }

    async fn put_rejects(&self, rejects: &[Reject]) -> Result<(), TablesError> {
        let rejects = rejects.to_vec();
        self.committer.change(move |state| listed::put(state, &rejects)).await
    }

    async fn rejects(
        &self,
        workspace: &str,
        batch_id: &str,
        after: Option<u32>,
        limit: usize,
    ) -> Result<Vec<Reject>, TablesError> {
        let (workspace, batch_id) = (workspace.to_owned(), batch_id.to_owned());
        self.read(move |state| listed::page(state, &workspace, &batch_id, after, limit)).await
    }

    async fn put_attachments(&self, attachments: &[Attachment]) -> Result<(), TablesError> {
        let attachments = attachments.to_vec();
        self.committer.change(move |state| listed::put(state, &attachments)).await
    }

    async fn attachments(
        &self,
        workspace: &str,
        batch_id: &str,
        after: Option<AttachmentPosition>,
        limit: usize,
    ) -> Result<Vec<Attachment>, TablesError> {
        let (workspace, batch_id) = (workspace.to_owned(), batch_id.to_owned());
        self.read(move |state| listed::page(state, &workspace, &batch_id, after, limit)).await
    }
}

#[async_trait]
impl Idempotency for Embedded {
    async fn reserve(&self, hold: &Hold, now: i64, lease_until: i64) -> Result<Reservation, TablesError> {
        let hold = hold.clone();
        self.committer.change(move |state| idempotency::reserve(state, &hold, now, lease_until)).await
    }

    async fn complete(&self, hold: &Hold, response: &[u8], expires_at: i64) -> Result<bool, TablesError> {
        let (hold, response) = (hold.clone(), response.to_vec());
        self.committer.change(move |state| idempotency::complete(state, &hold, &response, expires_at)).await
    }

    async fn release(&self, hold: &Hold) -> Result<(), TablesError> {
        let hold = hold.clone();
        self.committer.change(move |state| idempotency::release(state, &hold)).await
    }

    async fn expire(&self, now: i64) -> Result<u64, TablesError> {
        let mut total = 0;
        loop {
            let dropped = self.committer.change(move |state| idempotency::expire(state, now)).await?;
            total += dropped as u64;
            if dropped < idempotency::SWEEP {
                return Ok(total);
            }
        }
    }
}

#[async_trait]
impl KeyIndex for Embedded {
    async fn lookup(&self, part: &IndexPart, keys: &[Identity]) -> Result<Found, TablesError> {
        let (part, keys) = (part.clone(), keys.to_vec());
        self.index(move |index| index.lookup(&part, &keys)).await
    }

    async fn upsert(&self, part: &IndexPart, entries: &[(Identity, Location)]) -> Result<(), TablesError> {
        let (part, entries) = (part.clone(), entries.to_vec());
        self.index(move |index| index.upsert(&part, entries)).await
    }

    async fn watermark(&self, part: &IndexPart) -> Result<Option<u64>, TablesError> {
        let part = part.clone();
        // Held by a writer at most while it writes; still not to be waited for on the runtime's own threads.
        self.index(move |index| Ok(index.watermark(&part))).await
    }

    async fn set_watermark(&self, part: &IndexPart, table_version: u64) -> Result<(), TablesError> {
        let part = part.clone();
        self.index(move |index| index.set_watermark(&part, table_version)).await
    }

    async fn scan(
        &self,
        part: &IndexPart,
        each: &mut (dyn for<'a> FnMut(&'a [(Identity, Location)]) + Send),
    ) -> Result<Option<u64>, TablesError> {
        let part = part.clone();
        let (slices, mut ready) = tokio::sync::mpsc::channel(2);
        let reader = self.index(move |index| index.scan(&part, |slice| slices.blocking_send(slice).is_ok()));
        let feed = async {
            while let Some(slice) = ready.recv().await {
                each(&slice);
            }
        };
        let (outcome, ()) = tokio::join!(reader, feed);
        outcome
    }

    async fn clear(&self, part: &IndexPart) -> Result<(), TablesError> {
        let part = part.clone();
        self.index(move |index| index.clear(&part)).await
    }
}

#[async_trait]
impl Settings for Embedded {
    async fn lanes(&self, wanted: Lanes) -> Result<Lanes, TablesError> {
        self.committer.change(move |state| settings::lanes(state, wanted)).await
    }
}

#[async_trait]
impl Board for Embedded {
    async fn exchange(
        &self,
        board: &str,
        process: uuid::Uuid,
        note: &[u8],
        lives: Duration,
    ) -> Result<Vec<(uuid::Uuid, Vec<u8>)>, TablesError> {
        Ok(self.notes.exchange(board, process, note, lives))
    }
}

impl Tables for Embedded {}
