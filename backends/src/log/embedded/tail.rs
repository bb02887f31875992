//! The end of a partition, where its one writer works: opening it, rolling to a new segment, dropping old ones.

use super::{
    disk,
    frame::{FILE_HEADER, FileHeader},
    mark::Mark,
    partition::Partition,
    recovery::{self, Damage, Place},
    segment::Segment,
};
use crate::{
    log::{LogError, Topic},
    world::World,
};
use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the writer holds of one partition.
#[derive(Debug)]
pub struct Tail {
    /// The partition for its readers.
    pub partition: Arc<Partition>,
    /// Its directory.
    dir: PathBuf,
    /// The segment that is being written; its cursor stands at `end`.
    pub file: File,
    /// What that segment says about itself.
    pub header: FileHeader,
    /// Behind the last durable message.
    pub end: Place,
    /// Time of the last message (ms).
    pub last_time: i64,
    mark: Mark,
}

impl Tail {
    /// Opens the partition in `dir`, which is created when it is not there. Blocks.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when acknowledged messages are missing or damaged in its newest segment.
    pub fn open(dir: PathBuf, topic: Topic, number: u32, world: &dyn World) -> Result<Self, LogError> {
        std::fs::create_dir_all(&dir).map_err(|error| super::io_error("create", &dir, &error))?;
        dir.parent().map_or(Ok(()), disk::sync_dir).map_err(|error| super::io_error("sync", &dir, &error))?;
        let mark = Mark::open(&dir)?;
        let bases = settle(&dir, mark.known().low)?;
        let Some((&newest, sealed)) = bases.split_last() else {
            return Self::first(dir, topic, number, mark, world);
        };
        if bases[0] > mark.known().low {
            let reason = format!("the segment with messages from {} on is missing", mark.known().low);
            return Err(super::corrupt(&segment_path(&dir, mark.known().low), 0, &reason));
        }
        let mut segments = Vec::with_capacity(bases.len());
        for (at, &base) in sealed.iter().enumerate() {
            segments.push(Arc::new(sealed_segment(&dir, base, bases[at + 1])?));
        }
        let (file, segment, last_time) = recover(&segment_path(&dir, newest), newest, mark.known().high)?;
        let (header, end) = (segment.header, segment.end());
        if (header.topic, header.partition) != (topic, number) {
            return Err(super::corrupt(&segment.path, 28, "the segment belongs to another partition"));
        }
        segments.push(Arc::new(segment));
        let partition = Arc::new(Partition::new(topic, number, segments));
        let mut tail = Self { partition, dir, file, header, end, last_time, mark };
        tail.raise_mark();
        Ok(tail)
    }

    fn first(dir: PathBuf, topic: Topic, number: u32, mark: Mark, world: &dyn World) -> Result<Self, LogError> {
        let known = mark.known();
        if known.high > 0 {
            let reason = format!("there are no segments, but messages up to {} were acknowledged", known.high);
            return Err(super::corrupt(mark.path(), 0, &reason));
        }
        let header = FileHeader { base: 0, time_floor: i64::MIN, salt: salt(world), topic, partition: number };
        let (file, segment) =
            create(&dir, header).map_err(|error| super::io_error("create a segment in", &dir, &error))?;
        let end = segment.end();
        let partition = Arc::new(Partition::new(topic, number, vec![Arc::new(segment)]));
        Ok(Self { partition, dir, file, header, end, last_time: header.time_floor, mark })
    }

    /// Seals the segment and begins the next one.
    pub fn roll(&mut self, world: &dyn World) -> io::Result<()> {
        let header = FileHeader { base: self.end.offset, time_floor: self.last_time, salt: salt(world), ..self.header };
        let (file, segment) = create(&self.dir, header)?;
        self.end = segment.end();
        (self.file, self.header) = (file, header);
        self.partition.push(Arc::new(segment));
        Ok(())
    }

    /// Where the segment is that is being written.
    pub fn path(&self) -> PathBuf {
        segment_path(&self.dir, self.header.base)
    }

    /// Whether the segment holds no message yet.
    pub fn is_empty(&self) -> bool {
        self.end.at == FILE_HEADER as u64
    }

    /// Lets readers see up to `end`, which is durable now.
    pub fn publish(&mut self, end: Place, last_time: i64, places: &[Place]) {
        (self.end, self.last_time) = (end, last_time);
        self.raise_mark();
        self.partition.publish(end, places);
    }

    /// Drops the segments that hold only messages below `low`.
    pub fn drop_below(&mut self, low: i64) -> io::Result<()> {
        let gone: Vec<_> = self.partition.segments().into_iter().filter(|s| s.header.base < low).collect();
        self.mark.drop_below(low)?;
        self.partition.forget_below(low);
        for segment in &gone {
            std::fs::remove_file(&segment.path)?;
        }
        Ok(())
    }

    /// Makes the mark durable, at the end.
    pub fn close(&self) {
        if let Err(error) = self.mark.sync() {
            tracing::warn!(file = %self.mark.path().display(), %error, "cannot sync the durable mark");
        }
    }

    fn raise_mark(&mut self) {
        // A mark that is behind costs certainty at the next start, never a message.
        if let Err(error) = self.mark.raise(self.end.offset) {
            tracing::warn!(file = %self.mark.path().display(), %error, "cannot write the durable mark");
        }
    }
}

/// Path of the segment that starts at `base`.
fn segment_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// Finishes what a crash left half done; the first offsets of the segments that stay, in order.
fn settle(dir: &Path, low: i64) -> Result<Vec<i64>, LogError> {
    let failed = |error: io::Error| super::io_error("list", dir, &error);
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == disk::TEMPORARY) {
            std::fs::remove_file(&path).map_err(|error| super::io_error("remove", &path, &error))?;
        }
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let base = path.file_stem().and_then(|stem| stem.to_str()?.parse::<i64>().ok());
        bases.push(base.ok_or_else(|| super::corrupt(&path, 0, "the file's name is not an offset"))?);
    }
    bases.sort_unstable();
    // Retention had noted these as gone.
    let gone = bases.partition_point(|base| *base < low);
    for base in bases.drain(..gone) {
        let path = segment_path(dir, base);
        std::fs::remove_file(&path).map_err(|error| super::io_error("remove", &path, &error))?;
    }
    Ok(bases)
}

fn sealed_segment(dir: &Path, base: i64, next: i64) -> Result<Segment, LogError> {
    let path = segment_path(dir, base);
    let header = Segment::read_header(&path, base)?;
    let len = std::fs::metadata(&path).map_err(|error| super::io_error("open", &path, &error))?.len();
    Ok(Segment::new(path, header, Place { offset: next, at: len }, Vec::new()))
}

/// Recovers the newest segment: cuts off a torn end and syncs the rest, so that it may be shown to readers.
fn recover(path: &Path, base: i64, durable: i64) -> Result<(File, Segment, i64), LogError> {
    let failed = |error: io::Error| super::io_error("recover", path, &error);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let recovered = recovery::recover(&file, len, base, durable).map_err(|damage| match damage {
        Damage::At(at, reason) => super::corrupt(path, at, &reason),
        Damage::Io(error) => failed(error),
    })?;
    if let Some(reason) = recovered.torn {
        let (at, bytes) = (recovered.end.at, len - recovered.end.at);
        tracing::warn!(file = %path.display(), at, bytes, reason, "cut off an unfinished write; it was never acknowledged");
    }
    disk::cut(&file, recovered.end.at).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    let header = Segment::read_header(path, base)?;
    let segment = Segment::new(path.to_owned(), header, recovered.end, recovered.index);
    Ok((file, segment, recovered.last_time))
}

/// Creates a segment, durably; its file, positioned for writing.
fn create(dir: &Path, header: FileHeader) -> io::Result<(File, Segment)> {
    let path = segment_path(dir, header.base);
    let created = disk::create_whole(&path, &header.encode()).and_then(|()| {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        disk::cut(&file, FILE_HEADER as u64)?;
        Ok(file)
    });
    let file = created.inspect_err(|_| {
        // The segment before goes on; it must not be taken for a sealed one at the next start.
        let _ = std::fs::remove_file(&path);
    })?;
    let end = Place { offset: header.base, at: FILE_HEADER as u64 };
    Ok((file, Segment::new(path, header, end, Vec::new())))
}

fn salt(world: &dyn World) -> u32 {
    let mut bytes = [0; 4];
    world.fill_random(&mut bytes);
    u32::from_le_bytes(bytes)
}
