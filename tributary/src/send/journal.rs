//! What a run remembers, so that a killed `send` started again sends nothing twice.
//!
//! A text file, one line per entry: CRC-32C in hexadecimal, a space, JSON. First the header, then a line for each
//! acknowledged batch. Planning is deterministic, so a batch's number and the hash of its content name it. Batches that
//! were on the way when the run was killed are sent again under the same `Idempotency-Key`, which is made of the run,
//! the number and the hash: the server answers again what it answered before. That also covers lines that a power cut
//! takes from the end of the file, which is why they need no sync of their own.

use super::plan::Limits;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

/// What must be the same for a run to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Version of the journal and of the planning.
    pub format: u32,
    /// Where to.
    pub url: String,
    /// Fingerprints of the inputs.
    pub inputs: Vec<String>,
    /// What batches may hold.
    pub limits: Limits,
}

/// First line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    run: String,
    /// Where rejected records go.
    rejected: PathBuf,
    job: Job,
}

/// Lengths of the two files of rejected records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Lines of the records' file.
    pub lines: u64,
    /// Bytes of the records' file.
    pub records: u64,
    /// Bytes of the errors' file.
    pub errors: u64,
}

/// An acknowledged batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Its number in the plan.
    pub number: u64,
    /// Hash of its content.
    pub hash: String,
    /// What the server calls it; none when every record was rejected.
    pub batch_id: Option<String>,
    /// Records accepted.
    pub accepted: u64,
    /// Records rejected.
    pub rejected: u64,
    /// Files of rejected records once this batch's were in them.
    pub marks: Marks,
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Two runs on the same inputs would send everything twice.
    #[error("another `send` is working on the same inputs ({})", .0.display())]
    Busy(PathBuf),
    /// The disk.
    #[error("cannot use the state file {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// An open, locked journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    header: Header,
    acknowledged: HashMap<u64, Acknowledged>,
    marks: Marks,
}

/// What is proposed for a run that cannot go on from an earlier one.
pub struct Proposal {
    /// A name that no other run has.
    pub run: String,
    /// Where rejected records go.
    pub rejected: PathBuf,
}

impl Journal {
    /// Opens the journal at `path` for `job`; a journal of another job, or any when `fresh`, begins anew with `proposal`.
    ///
    /// # Errors
    /// It is in use, or the disk says no.
    pub fn open(path: &Path, job: Job, proposal: Proposal, fresh: bool) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Busy(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let mut lines = Lines { rest: &bytes, good: 0 };
        let header = lines.next::<Header>().filter(|header| !fresh && header.job == job);
        if let Some(header) = header {
            let acknowledged: Vec<Acknowledged> = std::iter::from_fn(|| lines.next()).collect();
            let marks = acknowledged.last().map_or_else(Marks::default, |last| last.marks);
            file.set_len(lines.good).map_err(failed)?;
            let acknowledged = acknowledged.into_iter().map(|batch| (batch.number, batch)).collect();
            return Ok(Self { path: path.to_owned(), file, header, acknowledged, marks });
        }
        let header = Header { run: proposal.run, rejected: proposal.rejected, job };
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        file.write_all(&line(&header).map_err(failed)?).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, header, acknowledged: HashMap::new(), marks: Marks::default() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where rejected records go.
    pub fn rejected(&self) -> &Path {
        &self.header.rejected
    }

    /// Lengths of the files of rejected records at the last acknowledged batch.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// Batches acknowledged so far.
    pub fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// What became of a batch in an earlier run.
    pub fn find(&self, number: u64, hash: &str) -> Option<&Acknowledged> {
        self.acknowledged.get(&number).filter(|batch| batch.hash == hash)
    }

    /// The `Idempotency-Key` of a batch.
    pub fn key(&self, number: u64, hash: &str) -> String {
        format!("send-{}-{number}-{hash}", self.header.run)
    }

    /// Notes an acknowledged batch.
    ///
    /// # Errors
    /// The disk says no; the batch would be sent again, under the same key.
    pub fn note(&mut self, batch: Acknowledged) -> Result<(), JournalError> {
        let written = line(&batch).and_then(|line| self.file.write_all(&line));
        written.map_err(|source| JournalError::Io { path: self.path.clone(), source })?;
        self.marks = batch.marks;
        self.acknowledged.insert(batch.number, batch);
        Ok(())
    }

    /// The run is done: nothing to remember.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn finish(self) -> Result<(), JournalError> {
        std::fs::remove_file(&self.path).map_err(|source| JournalError::Io { path: self.path, source })
    }
}

fn line(entry: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(entry)?;
    Ok(format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes())
}

/// Reads entries up to the first line that is torn or damaged.
struct Lines<'a> {
    rest: &'a [u8],
    /// Bytes of the lines that were read.
    good: u64,
}

impl Lines<'_> {
    fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let (sum, json) = self.rest[..end].split_at_checked(9)?;
        let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?.strip_suffix(' ')?, 16).ok()?;
        let entry = (crc32c::crc32c(json) == sum).then(|| serde_json::from_slice(json).ok()).flatten()?;
        self.good += end as u64 + 1;
        self.rest = &self.rest[end + 1..];
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(input: &str) -> Job {
        Job { format: 1, url: "http://h".into(), inputs: vec![input.into()], limits: Limits::default() }
    }

    fn proposal(run: &str) -> Proposal {
        Proposal { run: run.into(), rejected: "r.ndjson".into() }
    }

    fn acknowledged(number: u64) -> Acknowledged {
        let marks = Marks { lines: number, records: number * 10, errors: number * 20 };
        Acknowledged { number, hash: format!("h{number}"), batch_id: None, accepted: 5, rejected: 1, marks }
    }

    fn journal(dir: &Path, notes: u64) -> PathBuf {
        let path = dir.join("state/journal");
        let mut journal = Journal::open(&path, job("a"), proposal("first"), false).unwrap();
        (0..notes).for_each(|number| journal.note(acknowledged(number)).unwrap());
        path
    }

    #[test]
    fn the_same_job_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = journal(dir.path(), 3);
        let again = Journal::open(&path, job("a"), proposal("second"), false).unwrap();
        assert_eq!(again.key(7, "h"), "send-first-7-h");
        assert_eq!(again.find(1, "h1"), Some(&acknowledged(1)));
        assert_eq!(again.find(1, "other content"), None);
        assert_eq!(again.find(3, "h3"), None);
        assert_eq!(again.marks(), acknowledged(2).marks);
        again.finish().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn another_job_or_a_fresh_start_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        for (input, fresh) in [("b", false), ("a", true)] {
            let path = journal(dir.path(), 2);
            let anew = Journal::open(&path, job(input), proposal("second"), fresh).unwrap();
            assert_eq!((anew.len(), anew.key(0, "h")), (0, "send-second-0-h".to_owned()));
            anew.finish().unwrap();
        }
    }

    #[test]
    fn cut_anywhere_it_keeps_the_whole_lines_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = journal(dir.path(), 3);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
            let mut journal = Journal::open(&path, job("a"), proposal("second"), false).unwrap();
            assert_eq!(journal.len(), lines.saturating_sub(1), "cut at {length}");
            assert_eq!(journal.key(0, "h").starts_with("send-first"), lines > 0);
            journal.note(acknowledged(9)).unwrap();
            drop(journal);
            let journal = Journal::open(&path, job("a"), proposal("third"), false).unwrap();
            assert_eq!(journal.len(), lines.saturating_sub(1) + 1, "what is added after a torn line can be read");
        }
    }

    #[test]
    fn a_flipped_byte_is_never_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = journal(dir.path(), 3);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x04;
            std::fs::write(&path, &bytes).unwrap();
            let journal = Journal::open(&path, job("a"), proposal("second"), false).unwrap();
            for number in 0..3 {
                let found = journal.find(number, &format!("h{number}"));
                assert!(found.is_none_or(|found| *found == acknowledged(number)), "flipped at {at}");
            }
        }
    }

    #[test]
    fn two_runs_on_one_journal_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let first = Journal::open(&path, job("a"), proposal("first"), false).unwrap();
        let second = Journal::open(&path, job("a"), proposal("second"), false);
        assert!(matches!(second, Err(JournalError::Busy(_))));
        drop(first);
        assert!(Journal::open(&path, job("a"), proposal("third"), false).is_ok());
    }
}
