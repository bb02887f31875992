//! What the groups have committed: an append-only file of slots of 64 bytes, each with its checksum.
//!
//! A commit is written before it is acknowledged but not synced: it survives a killed process; a power loss may bring
//! an older one back, so that a group reads messages again, which it must bear anyway. A slot is only ever what some
//! group committed, so no damage can bring back more than was committed; slots that cannot be read are left out, and
//! the file is written anew at every start and whenever it has grown.

use super::{
    disk,
    frame::{i64_at, topic_code, topic_of, u32_at},
};
use crate::log::{LogError, Topic};
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

const SLOT: usize = 64;
const FIXED: usize = 20;
/// Bytes that a group's name may have.
pub const MAX_GROUP: usize = SLOT - FIXED - 1;
/// Bytes at which the file is written anew.
const REWRITE_AT: u64 = 1 << 20;

/// A group's place in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The group.
    pub group: String,
    /// Which topic.
    pub topic: Topic,
    /// Which partition.
    pub partition: u32,
}

/// The committed offsets of all groups.
#[derive(Debug)]
pub struct Offsets {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    len: u64,
    entries: HashMap<Key, Entry>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Entry {
    committed: Option<i64>,
    /// Who may commit: the lease that was assigned last.
    lease: u64,
}

impl Offsets {
    /// Reads the file in `dir`, or creates it. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join("offsets");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(super::io_error("read", &path, &error)),
        };
        let mut entries = HashMap::<Key, Entry>::new();
        for (slot, bytes) in bytes.chunks(SLOT).enumerate() {
            match decode(bytes) {
                Some((key, offset)) => entries.entry(key).or_default().committed = Some(offset),
                None => tracing::warn!(
                    file = %path.display(), at = slot * SLOT,
                    "cannot read a committed offset; its group may read some messages again"
                ),
            }
        }
        let (file, len) = rewrite(&path, &entries).map_err(|error| super::io_error("write", &path, &error))?;
        Ok(Self { path, state: Mutex::new(State { file, len, entries }) })
    }

    /// What was committed last.
    pub fn committed(&self, key: &Key) -> Option<i64> {
        self.lock().entries.get(key).and_then(|entry| entry.committed)
    }

    /// Gives the partition to `lease`: commits of the leases before it fail from now on. What was committed last.
    pub fn assign(&self, key: &Key, lease: u64) -> Option<i64> {
        let mut state = self.lock();
        let entry = state.entries.entry(key.clone()).or_default();
        entry.lease = entry.lease.max(lease);
        entry.committed
    }

    /// Commits for the holder of `lease`. Blocks.
    ///
    /// # Errors
    /// [`LogError::Fenced`] when the partition was assigned again since; those of the file system.
    pub fn commit(&self, key: &Key, lease: u64, offset: i64) -> Result<(), LogError> {
        let mut state = self.lock();
        let entry = state.entries.get(key).copied().unwrap_or_default();
        if entry.lease != lease {
            return Err(LogError::Fenced { topic: key.topic, partition: key.partition });
        }
        let failed = |error: io::Error| super::io_error("write", &self.path, &error);
        if state.len >= REWRITE_AT {
            (state.file, state.len) = rewrite(&self.path, &state.entries).map_err(failed)?;
        }
        // A slot that a full disk left half written is written over by the next commit.
        state.file.write_all_at(&encode(key, offset), state.len).map_err(failed)?;
        state.len += SLOT as u64;
        state.entries.insert(key.clone(), Entry { committed: Some(offset), ..entry });
        Ok(())
    }

    /// Makes what is committed durable. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sync(&self) -> io::Result<()> {
        self.lock().file.sync_data()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rewrite(path: &Path, entries: &HashMap<Key, Entry>) -> io::Result<(File, u64)> {
    let committed = entries.iter().filter_map(|(key, entry)| Some((key, entry.committed?)));
    let bytes: Vec<u8> = committed.flat_map(|(key, offset)| encode(key, offset)).collect();
    disk::create_whole(path, &bytes)?;
    Ok((OpenOptions::new().write(true).open(path)?, bytes.len() as u64))
}

fn encode(key: &Key, offset: i64) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    bytes[4..8].copy_from_slice(&topic_code(key.topic).to_le_bytes());
    bytes[8..12].copy_from_slice(&key.partition.to_le_bytes());
    bytes[12..20].copy_from_slice(&offset.to_le_bytes());
    let group = key.group.as_bytes();
    let len = group.len().min(MAX_GROUP);
    bytes[FIXED] = u8::try_from(len).unwrap_or_default();
    bytes[FIXED + 1..FIXED + 1 + len].copy_from_slice(&group[..len]);
    let sum = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(Key, i64)> {
    if bytes.len() < SLOT || crc32c::crc32c(&bytes[4..]) != u32_at(bytes, 0) {
        return None;
    }
    let len = usize::from(bytes[FIXED]);
    let group = std::str::from_utf8(bytes.get(FIXED + 1..FIXED + 1 + len)?).ok()?.to_owned();
    let key = Key { group, topic: topic_of(u32_at(bytes, 4))?, partition: u32_at(bytes, 8) };
    Some((key, i64_at(bytes, 12)))
}
