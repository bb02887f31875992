//! The log on local files: one process, durable by group commit, safe through `kill -9` and power loss.
//!
//! ```text
//! DIR/lock                                  keeps a second process out
//! DIR/offsets                               what the groups have committed            [offsets]
//! DIR/records-0/00000000000000000000.log    segments, named by their first offset     [frame]
//! DIR/records-0/mark                        which offsets are known to be durable     [mark]
//! DIR/records-1/… DIR/rejects-0/… …
//! ```
//!
//! **Appending**: the caller's task computes the checksums and hands the messages to the one [`writer`] thread, waiting
//! when too many bytes are queued. The thread takes everything that waits as one [`group`]: one vectored write per
//! partition, straight from the callers' buffers; one `fdatasync` per file, several at once; then the mark, the high
//! watermark, the answers. Readers never see what is not durable.
//!
//! **Reading**: one slice of the file, checked, handed out as parts of one buffer ([`segment`]). A seek uses the sparse
//! index, which is built as segments are written or first walked through.
//!
//! **Starting** reads the newest segment of each partition only ([`recovery`] says how a torn write is told from
//! damage); older ones are checked whenever they are read.
//!
//! **Failing**: a full disk fails the append with [`LogError::Full`], cuts the unfinished write off, and the log goes
//! on once there is room. A failed sync for any other reason halts appending until the log is opened again, since
//! after it the page cache proves nothing; what was durable before can still be read.
//!
//! **Time**: a message is never older than the one before it, so a clock that jumps back disturbs neither retention
//! nor lag; a clock that once was ahead keeps the partition's time there until it is overtaken.

mod disk;
#[cfg(test)]
mod faults;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod group;
pub mod groups;
mod id;
mod mark;
mod offsets;
mod options;
mod partition;
mod reader;
mod recovery;
mod retention;
mod segment;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use options::Options;

use super::{Append, FetchLimit, LogError, Member, Message, RecordLog, Topic, Watermarks};
use crate::{
    trace::{self, TraceParent},
    world::World,
};
use async_trait::async_trait;
use disk::{Disk, RealDisk};
use group::Request;
use groups::Groups;
use offsets::{Key, Offsets};
use partition::Partition;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};
use tail::Tail;
use tokio::sync::{Semaphore, oneshot};
use writer::Writer;

/// Opens the log in `dir`, which is created when it is not there. Blocks, for as long as reading the newest segments
/// takes. The log is closed, with everything that was accepted written, when the last handle, member and reader is
/// dropped.
///
/// # Errors
/// [`LogError::Corrupt`] when acknowledged messages are missing or damaged; [`LogError::Halted`] when another process
/// has the directory or it holds more partitions than `options` say; [`LogError::Unavailable`] or [`LogError::Full`]
/// when the file system fails.
pub fn open(dir: &Path, options: Options, world: Arc<dyn World>) -> Result<Arc<dyn RecordLog>, LogError> {
    Ok(Arc::new(EmbeddedLog::open(dir, options, world, Arc::new(RealDisk))?))
}

/// What the log, its members and its readers share; dropped with the last of them.
#[derive(Debug)]
struct Shared {
    id: String,
    partitions: Vec<Arc<Partition>>,
    options: Options,
    offsets: Arc<Offsets>,
    groups: Groups,
    room: Arc<Semaphore>,
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    /// Unlocked last.
    _lock: File,
}

#[derive(Debug)]
struct EmbeddedLog(Arc<Shared>);

impl EmbeddedLog {
    fn open(dir: &Path, options: Options, world: Arc<dyn World>, disk: Arc<dyn Disk>) -> Result<Self, LogError> {
        check_options(&options)?;
        std::fs::create_dir_all(dir).map_err(|error| io_error("create", dir, &error))?;
        let lock = lock(dir)?;
        check_partitions(dir, &options)?;
        let id = id::of(dir, world.as_ref())?;
        let offsets = Arc::new(Offsets::open(dir)?);
        let tails = open_tails(dir, &options, world.as_ref())?;
        let partitions = tails.iter().map(|tail| tail.partition.clone()).collect();
        let (requests, received) = mpsc::channel();
        let room = Arc::new(Semaphore::new(options.queue_bytes.min(u32::MAX as usize)));
        let writer = Writer::new(tails, disk, world, offsets.clone(), options.clone());
        let writer = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(|error| LogError::Unavailable(format!("cannot start the writing thread: {error}")))?;
        let (requests, writer, groups) = (Some(requests), Some(writer), Groups::default());
        Ok(Self(Arc::new(Shared { id, partitions, options, offsets, groups, room, requests, writer, _lock: lock })))
    }
}

impl Shared {
    /// Index of a partition among all.
    fn index(&self, topic: Topic, partition: u32) -> Option<usize> {
        let before = Topic::ALL.iter().take_while(|other| **other != topic);
        let first: u32 = before.map(|other| self.options.partitions(*other)).sum();
        (partition < self.options.partitions(topic)).then_some((first + partition) as usize)
    }

    /// A partition that is known to be there.
    fn partition(&self, topic: Topic, partition: u32) -> Arc<Partition> {
        self.partitions[self.index(topic, partition).unwrap_or_default()].clone()
    }

    fn find(&self, topic: Topic, partition: u32) -> Result<usize, LogError> {
        let unknown = || LogError::Halted(format!("topic {} has no partition {partition}", topic.name()));
        self.index(topic, partition).ok_or_else(unknown)
    }

    fn message(&self, append: Append, trace: Option<TraceParent>) -> Result<group::Message, LogError> {
        let tail = self.find(append.topic, append.partition)?;
        let message = group::Message::new(tail, append, trace);
        if message.len() > frame::MAX_MESSAGE {
            let most = frame::MAX_MESSAGE;
            return Err(LogError::Halted(format!("a message of {} bytes; at most {most} are possible", message.len())));
        }
        Ok(message)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.requests.take());
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the log's writing thread had panicked");
        }
    }
}

#[async_trait]
impl RecordLog for EmbeddedLog {
    fn id(&self) -> &str {
        &self.0.id
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.0.options.partitions(topic)
    }

    async fn append(&self, messages: Vec<Append>) -> Result<Vec<i64>, LogError> {
        let trace = TraceParent::current();
        let carried = trace::carried(trace.as_ref(), &messages);
        let message = |(append, carries): (Append, bool)| self.0.message(append, trace.clone().filter(|_| carries));
        let messages = messages.into_iter().zip(carried).map(message).collect::<Result<Vec<_>, _>>()?;
        let bytes: usize = messages.iter().map(group::Message::len).sum();
        // More than the whole queue takes all of it, alone.
        let room = bytes.min(self.0.options.queue_bytes).min(u32::MAX as usize) as u32;
        let closed = || LogError::Halted("the log is closed".to_owned());
        let room = self.0.room.clone().acquire_many_owned(room).await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let request = Request { messages, reply, _room: room };
        self.0.requests.as_ref().ok_or_else(closed)?.send(request).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(LogError::Unavailable("the log's writing thread is gone".to_owned())))
    }

    async fn watermarks(&self, topic: Topic, partition: u32) -> Result<Watermarks, LogError> {
        Ok(self.0.partitions[self.0.find(topic, partition)?].watermarks())
    }

    async fn committed(&self, group: &str, topic: Topic, partition: u32) -> Result<Option<i64>, LogError> {
        self.0.find(topic, partition)?;
        Ok(self.0.offsets.committed(&Key { group: group.to_owned(), topic, partition }))
    }

    async fn look(
        &self,
        topic: Topic,
        places: &[(u32, i64)],
        limit: FetchLimit,
    ) -> Result<Vec<Vec<Message>>, LogError> {
        let mut seen = Vec::with_capacity(places.len());
        for (partition, offset) in places {
            let (partition, offset) = (self.0.partitions[self.0.find(topic, *partition)?].clone(), *offset);
            seen.push(reader::blocking(move || Ok(partition.read_from(offset, None, limit)?.0)).await?);
        }
        Ok(seen)
    }

    async fn join(&self, group: &str, topic: Topic) -> Result<Box<dyn Member>, LogError> {
        if group.len() > offsets::MAX_GROUP {
            let most = offsets::MAX_GROUP;
            return Err(LogError::Halted(format!("the group's name is longer than {most} bytes")));
        }
        let group = (group.to_owned(), topic);
        let (id, wake) = self.0.groups.join(&group, self.partitions(topic));
        Ok(Box::new(reader::EmbeddedMember { log: self.0.clone(), group, id, wake }))
    }
}

fn check_options(options: &Options) -> Result<(), LogError> {
    if options.lanes.partitions == 0 || options.segment_bytes == 0 || options.queue_bytes == 0 {
        return Err(LogError::Halted("partitions, segment size and queue size must be at least 1".to_owned()));
    }
    Ok(())
}

/// Keeps a second process, or a second log in this one, out of the directory.
fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(|error| io_error("create", &path, &error))?;
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => {
            LogError::Halted(format!("another process has the log in {} open", dir.display()))
        }
        std::fs::TryLockError::Error(error) => io_error("lock", &path, &error),
    })?;
    Ok(file)
}

/// Refuses a directory with partitions that nobody would read.
fn check_partitions(dir: &Path, options: &Options) -> Result<(), LogError> {
    for entry in std::fs::read_dir(dir).map_err(|error| io_error("list", dir, &error))?.flatten() {
        let name = entry.file_name();
        let Some((topic, number)) = name.to_str().and_then(|name| name.rsplit_once('-')) else { continue };
        let Some(topic) = Topic::ALL.into_iter().find(|known| known.name() == topic) else { continue };
        let partitions = options.partitions(topic);
        if number.parse::<u32>().is_ok_and(|number| number >= partitions) {
            let reason = format!("{} belongs to more than {partitions} partitions", entry.path().display());
            return Err(LogError::Halted(reason));
        }
    }
    Ok(())
}

/// Opens all partitions, at the same time.
fn open_tails(dir: &Path, options: &Options, world: &dyn World) -> Result<Vec<Tail>, LogError> {
    let all = Topic::ALL.into_iter().flat_map(|topic| (0..options.partitions(topic)).map(move |n| (topic, n)));
    std::thread::scope(|scope| {
        let opening: Vec<_> = all
            .map(|(topic, number)| {
                let dir: PathBuf = dir.join(format!("{}-{number}", topic.name()));
                scope.spawn(move || Tail::open(dir, topic, number, world))
            })
            .collect();
        let panicked = |_| Err(LogError::Unavailable("opening a partition panicked".to_owned()));
        opening.into_iter().map(|tail| tail.join().unwrap_or_else(panicked)).collect()
    })
}

fn corrupt(file: &Path, at: u64, reason: &str) -> LogError {
    LogError::Corrupt { file: file.to_owned(), at, reason: reason.to_owned() }
}

fn io_error(action: &str, path: &Path, error: &io::Error) -> LogError {
    let message = format!("cannot {action} {}: {error}", path.display());
    if disk::is_full(error) { LogError::Full(message) } else { LogError::Unavailable(message) }
}
