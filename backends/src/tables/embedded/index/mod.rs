//! The key index: an own database, so that its writes (many, without fsync, and derived from the lake) never wait
//! for, or get between, those of the state.
//!
//! Last write wins without reading before writing: each part remembers the highest table version ever written to it.
//! The owner of a part writes in the order of table versions, so its entries are as high as that or higher, and win.
//! Only entries below it are compared with what is there.

mod layout;

use super::{
    Options,
    failure::{Classified, stopped},
    space::Space,
};
use crate::tables::{Found, IndexPart, Location, TablesError, keep_winners};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use layout::Meta;
use std::{
    collections::HashMap,
    io::ErrorKind,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tributary_schemas::identity::Identity;

/// Entries that one atomic write holds at most, so that no write holds the journal for long.
const WRITE: usize = 16_384;
/// Memtables' worth of entries that wait for the disk at most.
const MEMTABLES: u64 = 2;
/// Entries that a scan gives at once.
pub(super) const SLICE: usize = 8_192;

/// An entry of the index.
pub(super) type Entry = (Identity, Location);

/// All parts.
pub(super) struct Index {
    db: Database,
    entries: Keyspace,
    parts: Mutex<HashMap<IndexPart, Arc<Part>>>,
    space: Space,
    /// Bytes of entries in memory beyond which a write waits for the disk.
    most_unflushed: u64,
}

/// One part; its lock makes a write and the knowledge about it one step.
struct Part {
    number: u32,
    meta: Mutex<Meta>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the index; one that is damaged is moved aside, and an empty one takes its place. Its parts then have no
    /// watermark, which is how their owners know that they must make them again from the lake.
    pub(super) fn open_or_begin_anew(dir: &Path, options: &Options, space: &Space) -> Result<Self, TablesError> {
        let reason = match Self::open(dir, options, space.clone()) {
            Err(TablesError::Halted(reason)) => reason,
            other => return other,
        };
        tracing::error!(reason, dir = %dir.display(), "the key index cannot be opened; it is made anew from the lake");
        let aside = dir.with_extension("damaged");
        let moved = std::fs::remove_dir_all(&aside)
            .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
            .and_then(|()| std::fs::rename(dir, &aside));
        moved.map_err(|error| TablesError::Halted(format!("{reason}; nor can it be moved aside: {error}")))?;
        Self::open(dir, options, space.clone())
    }

    fn open(dir: &Path, options: &Options, space: Space) -> Result<Self, TablesError> {
        let db = Database::builder(dir)
            .cache_size(options.index_cache_bytes)
            .max_journaling_size(options.max_journal_bytes)
            // Of two or more, fjall's first does nothing but ask again, without a pause, while another one merges.
            .worker_threads(1)
            .open()
            .classified()?;
        let settings = || KeyspaceCreateOptions::default().max_memtable_size(options.index_memtable_bytes);
        let entries = db.keyspace("entries", settings).classified()?;
        let most_unflushed = MEMTABLES * options.index_memtable_bytes;
        let index = Self { db, entries, parts: Mutex::default(), space, most_unflushed };
        index.load_parts()?;
        Ok(index)
    }

    fn load_parts(&self) -> Result<(), TablesError> {
        let mut parts = self.parts();
        for row in self.entries.prefix(layout::registry_prefix()) {
            let (key, number) = row.into_inner().classified()?;
            let part = layout::read_part_key(&key)?;
            let number = number.first_chunk().copied().map_or(0, u32::from_be_bytes);
            parts.insert(part, Arc::new(self.load_part(number)?));
        }
        Ok(())
    }

    fn load_part(&self, number: u32) -> Result<Part, TablesError> {
        let meta = self.entries.get(layout::meta_key(number)).classified()?;
        let meta = meta.map(|meta| Meta::decode(&meta)).transpose()?.unwrap_or_default();
        Ok(Part { number, meta: Mutex::new(meta) })
    }

    /// Where `keys` are, and up to which table version that is all there is.
    pub(super) fn lookup(&self, part: &IndexPart, keys: &[Identity]) -> Result<Found, TablesError> {
        let mut locations = vec![None; keys.len()];
        let Some(part) = self.part(part) else { return Ok(Found { locations, complete_to: None }) };
        // Held to the end, so that nothing is dropped meanwhile.
        let meta = lock(&part.meta);
        // In key order, neighbours are in the same blocks.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|&at| keys[at]);
        for at in order {
            locations[at] = self.entry(part.number, &keys[at])?;
        }
        Ok(Found { locations, complete_to: meta.watermark })
    }

    /// Writes entries; one with a higher table version that is already there stays.
    pub(super) fn upsert(&self, part: &IndexPart, mut entries: Vec<Entry>) -> Result<(), TablesError> {
        self.space.check()?;
        keep_winners(&mut entries);
        let part = self.part_or_new(part)?;
        let mut meta = lock(&part.meta);
        for slice in entries.chunks(WRITE) {
            self.write(&part, &mut meta, slice)?;
        }
        Ok(())
    }

    fn write(&self, part: &Part, meta: &mut Meta, entries: &[Entry]) -> Result<(), TablesError> {
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.db.clone(), entries.len() + 1)
            // To the operating system, so that only a loss of power can take it.
            .durability(Some(PersistMode::Buffer));
        let mut highest = meta.highest;
        for (identity, location) in entries {
            if location.table_version < meta.highest
                && let Some(there) = self.entry(part.number, identity)?
                && there.table_version > location.table_version
            {
                continue;
            }
            highest = highest.max(location.table_version);
            let value = layout::encode_location(location);
            batch.insert(&self.entries, layout::entry_key(part.number, identity), value);
        }
        let new = Meta { highest, ..*meta };
        if new != *meta {
            batch.insert(&self.entries, layout::meta_key(part.number), new.encode());
        }
        batch.commit().classified()?;
        *meta = new;
        self.bound_memory()
    }

    /// Waits until entries are on the disk when too many are not. fjall's one worker seals and flushes what was
    /// written, but not while it merges, which can take seconds in which a lane would fill the memory.
    fn bound_memory(&self) -> Result<(), TablesError> {
        if self.db.write_buffer_size() > self.most_unflushed {
            self.entries.rotate_memtable_and_wait().classified()?;
        }
        Ok(())
    }

    pub(super) fn watermark(&self, part: &IndexPart) -> Option<u64> {
        self.part(part).and_then(|part| lock(&part.meta).watermark)
    }

    pub(super) fn set_watermark(&self, part: &IndexPart, table_version: u64) -> Result<(), TablesError> {
        self.space.check()?;
        let part = self.part_or_new(part)?;
        let mut meta = lock(&part.meta);
        let new = Meta { watermark: Some(table_version), ..*meta };
        self.entries.insert(layout::meta_key(part.number), new.encode()).classified()?;
        *meta = new;
        Ok(())
    }

    /// Gives all entries in key order, in slices, until `each` says that it wants no more; up to which table version they
    /// are complete.
    pub(super) fn scan(
        &self,
        part: &IndexPart,
        mut each: impl FnMut(Vec<Entry>) -> bool,
    ) -> Result<Option<u64>, TablesError> {
        let Some(part) = self.part(part) else { return Ok(None) };
        let mut slice = Vec::with_capacity(SLICE);
        // A watermark and the entries of the same moment: what is dropped afterwards is read all the same.
        let (complete_to, snapshot) = {
            let meta = lock(&part.meta);
            (meta.watermark, self.db.snapshot())
        };
        for row in snapshot.range(&self.entries, entries_of(part.number)) {
            let (key, value) = row.into_inner().classified()?;
            slice.push((layout::identity_of(&key)?, layout::decode_location(&value)?));
            if slice.len() == SLICE && !each(std::mem::replace(&mut slice, Vec::with_capacity(SLICE))) {
                return Ok(None);
            }
        }
        if !slice.is_empty() {
            each(slice);
        }
        Ok(complete_to)
    }

    /// Drops a part. Its watermark goes first: a part that is cut off half-way counts as unknown.
    pub(super) fn clear(&self, part: &IndexPart) -> Result<(), TablesError> {
        let Some(part) = self.part(part) else { return Ok(()) };
        let mut meta = lock(&part.meta);
        // `highest` stays until all entries are gone, for those that are left must not lose against it.
        let without = Meta { watermark: None, ..*meta };
        self.entries.insert(layout::meta_key(part.number), without.encode()).classified()?;
        *meta = without;
        loop {
            let mut batch = self.db.batch();
            for row in self.entries.range(entries_of(part.number)).take(WRITE) {
                batch.remove(&self.entries, row.key().classified()?);
            }
            if batch.is_empty() {
                break;
            }
            batch.commit().classified()?;
        }
        self.entries.insert(layout::meta_key(part.number), Meta::default().encode()).classified()?;
        *meta = Meta::default();
        Ok(())
    }

    fn entry(&self, number: u32, identity: &Identity) -> Result<Option<Location>, TablesError> {
        let value = self.entries.get(layout::entry_key(number, identity)).classified()?;
        value.map(|value| layout::decode_location(&value)).transpose()
    }

    fn part(&self, part: &IndexPart) -> Option<Arc<Part>> {
        self.parts().get(part).cloned()
    }

    fn part_or_new(&self, part: &IndexPart) -> Result<Arc<Part>, TablesError> {
        let mut parts = self.parts();
        if let Some(part) = parts.get(part) {
            return Ok(Arc::clone(part));
        }
        let highest = parts.values().map(|part| part.number).max().unwrap_or(0);
        let number = highest.checked_add(1).ok_or_else(|| stopped("supply of part numbers"))?;
        self.entries.insert(layout::part_key(part)?, number.to_be_bytes()).classified()?;
        let new = Arc::new(Part { number, meta: Mutex::default() });
        parts.insert(part.clone(), Arc::clone(&new));
        Ok(new)
    }

    fn parts(&self) -> MutexGuard<'_, HashMap<IndexPart, Arc<Part>>> {
        lock(&self.parts)
    }
}

/// What is behind a lock is replaced as a whole after each write, so a panic elsewhere leaves it sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn entries_of(number: u32) -> std::ops::RangeInclusive<[u8; layout::ENTRY_KEY_BYTES]> {
    layout::entry_key(number, &Identity([0; 16]))..=layout::entry_key(number, &Identity([0xFF; 16]))
}
