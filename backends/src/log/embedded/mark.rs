//! A partition's durable mark: which offsets are known to be on the disk.
//!
//! Written after every sync, itself not synced: it survives a killed process, and after a power loss it is at worst
//! behind, never ahead. Recovery needs it to tell an unfinished write, which may be cut off, from lost acknowledged
//! messages, which must not be. Two slots are written in turn, so a torn or damaged one leaves the other.

use super::{
    disk,
    frame::{i64_at, u32_at},
};
use crate::log::LogError;
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const SLOT: usize = 512;
const USED: usize = 28;

/// What is known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The first offset that is kept; segments wholly below it may be gone.
    pub low: i64,
    /// One past the last offset known to be durable.
    pub high: i64,
}

/// The mark file.
#[derive(Debug)]
pub struct Mark {
    file: File,
    path: PathBuf,
    sequence: i64,
    known: Known,
}

impl Mark {
    /// Creates the mark of a new partition in `dir`, or reads the one that is there.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when neither slot can be read.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join("mark");
        let unavailable = |error: io::Error| super::io_error("open", &path, &error);
        if !path.exists() {
            let mut bytes = vec![0; 2 * SLOT];
            bytes[..USED].copy_from_slice(&encode(0, Known::default()));
            bytes[SLOT..SLOT + USED].copy_from_slice(&encode(1, Known::default()));
            disk::create_whole(&path, &bytes).map_err(unavailable)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(unavailable)?;
        let bytes = std::fs::read(&path).map_err(unavailable)?;
        let newest = [0, SLOT].into_iter().filter_map(|at| decode(bytes.get(at..at + USED)?)).max_by_key(|(n, _)| *n);
        let Some((sequence, known)) = newest else {
            let reason = "neither copy of the durable mark can be read; restore the partition from a backup".to_owned();
            return Err(LogError::Corrupt { file: path, at: 0, reason });
        };
        Ok(Self { file, path, sequence, known })
    }

    /// What is known.
    pub fn known(&self) -> Known {
        self.known
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that everything below `high` is durable.
    pub fn raise(&mut self, high: i64) -> io::Result<()> {
        self.write(Known { high, ..self.known })
    }

    /// Notes that nothing below `low` is kept, durably: only then may it be deleted.
    pub fn drop_below(&mut self, low: i64) -> io::Result<()> {
        self.write(Known { low, ..self.known })?;
        self.sync()
    }

    /// Makes the mark itself durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&mut self, known: Known) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let slot = if sequence % 2 == 0 { 0 } else { SLOT as u64 };
        self.file.write_all_at(&encode(sequence, known), slot)?;
        (self.sequence, self.known) = (sequence, known);
        Ok(())
    }
}

fn encode(sequence: i64, known: Known) -> [u8; USED] {
    let mut bytes = [0; USED];
    bytes[..8].copy_from_slice(&sequence.to_le_bytes());
    bytes[8..16].copy_from_slice(&known.low.to_le_bytes());
    bytes[16..24].copy_from_slice(&known.high.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..24]);
    bytes[24..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(i64, Known)> {
    let sound = crc32c::crc32c(&bytes[..24]) == u32_at(bytes, 24);
    sound.then(|| (i64_at(bytes, 0), Known { low: i64_at(bytes, 8), high: i64_at(bytes, 16) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_and_a_damaged_slot_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::open(dir.path()).unwrap();
        mark.raise(10).unwrap();
        mark.raise(25).unwrap();
        mark.drop_below(5).unwrap();
        drop(mark);
        assert_eq!(Mark::open(dir.path()).unwrap().known(), Known { low: 5, high: 25 });

        let path = dir.path().join("mark");
        let sound = std::fs::read(&path).unwrap();
        for (at, left) in [(0, Known { low: 5, high: 25 }), (SLOT, Known { low: 5, high: 25 })] {
            let mut bytes = sound.clone();
            bytes[at + 20] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let known = Mark::open(dir.path()).unwrap().known();
            assert!(known.high <= left.high && known.low <= left.low && known.high >= 25, "{known:?}");
        }
        std::fs::write(&path, vec![0; 2 * SLOT]).unwrap();
        // A file of zeros, as a power loss may leave, is no mark.
        assert!(matches!(Mark::open(dir.path()), Err(LogError::Corrupt { at: 0, .. })));
    }
}
