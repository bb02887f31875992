//! Looks the state's journals over before `fjall` reads them.
//!
//! `fjall` takes the first bytes of a journal that it cannot read for the torn end of the last write, and cuts the
//! journal there. After a flipped byte that would silently drop acknowledged writes. So this reads the journals first
//! and tells the two apart: behind a torn write there is nothing but the zeros that the file was made with; behind a
//! flipped byte the end marker of that write, or of a later one, is still there.
//!
//! A flipped byte in the end marker of the very last write looks like a torn write, and is taken for one.

use super::codec::damaged;
use crate::tables::TablesError;
use std::{
    fs::File,
    hash::Hasher,
    io::{BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::Xxh3;

/// Ends every write.
const MAGIC: [u8; 4] = *b"FJL\x03";
/// Zeros in a row that only space never written to has: a sector.
const NEVER_WRITTEN: usize = 512;
const BUFFER: usize = 64 * 1024;

/// Reads every journal in `dir`; a directory that is not there has none.
///
/// # Errors
/// [`TablesError::Halted`] naming the file and the place of the first damaged write.
pub(super) fn check(dir: &Path) -> Result<(), TablesError> {
    for path in journals(dir).map_err(|error| unreadable(dir, &error))? {
        let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        let mut journal = Journal { reader: BufReader::with_capacity(BUFFER, file), raw: Vec::new(), at: 0 };
        if let Some(at) = journal.damaged_at().map_err(|error| unreadable(&path, &error))? {
            return Err(damaged("write", &format!("{} does not hold what was written at byte {at}", path.display())));
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> TablesError {
    TablesError::Halted(format!("cannot read {}: {error}", path.display()))
}

fn journals(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths: std::io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    Ok(paths?.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).collect())
}

/// One journal: writes, each of them a start, its items, and an end with their checksum.
struct Journal<R> {
    reader: R,
    /// The entry just read.
    raw: Vec<u8>,
    /// One past the last whole write.
    at: u64,
}

enum Entry {
    Start { items: u32 },
    Item,
    End { checksum: u64 },
}

impl<R: Read + Seek> Journal<R> {
    /// Where the first damaged write begins; none when all are whole, but for a torn end.
    fn damaged_at(&mut self) -> std::io::Result<Option<u64>> {
        while let Some(whole) = self.write()? {
            if !whole {
                return Ok(Some(self.at));
            }
            self.at = self.reader.stream_position()?;
        }
        self.reader.seek(SeekFrom::Start(self.at))?;
        Ok(self.end_marker_follows()?.then_some(self.at))
    }

    /// Reads one write and says whether its checksum is right; none when it cannot be read.
    fn write(&mut self) -> std::io::Result<Option<bool>> {
        let Some(Entry::Start { items }) = self.entry()? else { return Ok(None) };
        let mut hasher = Xxh3::new();
        for _ in 0..items {
            let Some(Entry::Item) = self.entry()? else { return Ok(None) };
            hasher.update(&self.raw);
        }
        let Some(Entry::End { checksum }) = self.entry()? else { return Ok(None) };
        Ok(Some(hasher.finish() == checksum))
    }

    fn entry(&mut self) -> std::io::Result<Option<Entry>> {
        self.raw.clear();
        let Some([tag]) = self.take()? else { return Ok(None) };
        match tag {
            1 => {
                let (Some(items), Some(_sequence)) = (self.take::<4>()?, self.take::<8>()?) else { return Ok(None) };
                Ok(Some(Entry::Start { items: u32::from_le_bytes(items) }))
            }
            2 => Ok(self.item()?.then_some(Entry::Item)),
            3 => {
                let (Some(checksum), Some(magic)) = (self.take::<8>()?, self.take::<4>()?) else { return Ok(None) };
                Ok((magic == MAGIC).then_some(Entry::End { checksum: u64::from_le_bytes(checksum) }))
            }
            // A keyspace was cleared.
            4 => Ok(self.take::<8>()?.map(|_| Entry::Item)),
            _ => Ok(None),
        }
    }

    /// Kind, compression, keyspace, lengths of the key and of the value (as it is, as stored), key, value.
    fn item(&mut self) -> std::io::Result<bool> {
        let Some([_kind, _compression]) = self.take()? else { return Ok(false) };
        let Some(_keyspace) = self.take::<8>()? else { return Ok(false) };
        let (Some(key), Some(_), Some(value)) = (self.take::<2>()?, self.take::<4>()?, self.take::<4>()?) else {
            return Ok(false);
        };
        let length = u64::from(u16::from_le_bytes(key)) + u64::from(u32::from_le_bytes(value));
        let read = (&mut self.reader).take(length).read_to_end(&mut self.raw)?;
        Ok(read as u64 == length)
    }

    fn take<const N: usize>(&mut self) -> std::io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        match self.reader.read_exact(&mut bytes) {
            Ok(()) => {
                self.raw.extend_from_slice(&bytes);
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks for an end marker before space that was never written to.
    fn end_marker_follows(&mut self) -> std::io::Result<bool> {
        let (mut buffer, mut last, mut zeros) = (vec![0; BUFFER], [0; MAGIC.len()], 0);
        loop {
            let read = self.reader.read(&mut buffer)?;
            if read == 0 {
                return Ok(false);
            }
            for &byte in &buffer[..read] {
                last.rotate_left(1);
                last[MAGIC.len() - 1] = byte;
                zeros = if byte == 0 { zeros + 1 } else { 0 };
                if last == MAGIC {
                    return Ok(true);
                }
                if zeros == NEVER_WRITTEN {
                    return Ok(false);
                }
            }
        }
    }
}
