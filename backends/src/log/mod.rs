//! The port `RecordLog`: durable, partitioned topics with consumer groups.
//!
//! Offsets are `i64`, as in Kafka; a committed offset is the *next* one to read. Delivery is at least once from the
//! committed offset; order holds within a partition; readers never see a message that is not durable.

use crate::trace::TraceParent;
use async_trait::async_trait;
use bytes::Bytes;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tributary_schemas::frame::{SchemaIds, Unasked};

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(any(test, feature = "conformance"))]
pub mod stand_in;

/// The five topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Accepted records; partition = lane.
    Records,
    /// Rejected records.
    Rejects,
    /// Facts about batches.
    BatchEvents,
    /// Attachments to fetch.
    Attachments,
    /// Messages that could not be processed.
    DeadLetters,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Records, Self::Rejects, Self::BatchEvents, Self::Attachments, Self::DeadLetters];

    /// The topic's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Rejects => "rejects",
            Self::BatchEvents => "batch-events",
            Self::Attachments => "attachments",
            Self::DeadLetters => "dead-letters",
        }
    }
}

/// A message to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where to.
    pub topic: Topic,
    /// Which partition, < [`RecordLog::partitions`].
    pub partition: u32,
    /// Message key.
    pub key: Bytes,
    /// Message value.
    pub value: Bytes,
}

/// A message as read.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its offset.
    pub offset: i64,
    /// When it was appended, milliseconds since the Unix epoch.
    pub appended_at: i64,
    /// Message key.
    pub key: Bytes,
    /// Message value.
    pub value: Bytes,
    /// Whose last message for this partition it is, when that is traced.
    pub trace: Option<TraceParent>,
}

/// What a partition holds: offsets `low..high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset still kept.
    pub low: i64,
    /// One past the last durable offset.
    pub high: i64,
}

/// How far a group is in one partition: offsets `done..high` are still to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Its committed offset; the low watermark when it never committed one.
    pub done: i64,
    /// One past the last durable offset.
    pub high: i64,
}

/// How much to fetch at once.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimit {
    /// Stop after this many bytes of keys and values (one message always fits).
    pub max_bytes: usize,
    /// Stop after this many messages.
    pub max_messages: usize,
    /// When there is nothing, wait this long for something.
    pub max_wait: Duration,
}

/// Classified by what the caller must do.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Try again later; nothing is known to be lost. An append that fails so may or may not have happened.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// No room: try again once the disk has space.
    #[error("no space left for the log: {0}")]
    Full(String),
    /// This reader no longer owns its partition, or was silent for so long that another may: stop.
    #[error("partition {partition} of {topic} is no longer this process's", topic = topic.name())]
    Fenced {
        /// Which topic.
        topic: Topic,
        /// Which partition.
        partition: u32,
    },
    /// Stored bytes are not what was written: halt and tell the operator.
    #[error("{} is corrupt at byte {at}: {reason}", file.display())]
    Corrupt {
        /// Which file.
        file: PathBuf,
        /// Byte offset in it.
        at: u64,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The log is shutting down, or the call cannot ever work as it was made.
    #[error("{0}")]
    Halted(String),
}

/// How long whoever stops waits for the disk of a log that no other process appends to.
const DISK: Duration = Duration::from_secs(3);
/// Of an append that came after the time that was given to it.
const TOO_LATE: &str = "the time in which it may be appended is over";

/// Durable, partitioned topics.
#[async_trait]
pub trait RecordLog: Send + Sync + std::fmt::Debug + 'static {
    /// Names this log for ever. Offsets mean something only together with it: a log that was made anew counts from 0
    /// again, under another id.
    fn id(&self) -> &str;

    /// Number of partitions of a topic.
    fn partitions(&self, topic: Topic) -> u32;

    /// What the schema ids in messages mean that readers of this log hand out. Without a schema registry nobody knows.
    fn schema_ids(&self) -> Arc<dyn SchemaIds> {
        Arc::new(Unasked)
    }

    /// Asks what these schema ids mean, also those that meant nothing before; whether one of them means something now.
    /// Readers do so by themselves for what they hand out; this is for frames that were put into others, or looked at.
    async fn learn_schemas(&self, ids: &[u32]) -> Result<bool, LogError> {
        let _ = ids;
        Ok(false)
    }

    /// Appends all messages and returns their offsets once every one is durable. Not atomic: after an error any
    /// subset may be in the log; what is not by then never will be, so whoever appends it again comes behind it. Messages
    /// of one call keep their order within each partition. A call without
    /// messages changes nothing, and fails when messages could not be appended either, as far as that is known.
    ///
    /// The last record for each lane carries the trace context of the span in which this is called.
    async fn append(&self, messages: Vec<Append>) -> Result<Vec<i64>, LogError>;

    /// The same for what must not come later than `by`: nothing of it comes behind what anybody appends from then on, also
    /// when this process has stood still in between, or nobody waits for it any more. Fails when it is past `by` already.
    ///
    /// As it is here it does for a log to which one process alone appends, in the order in which it is asked.
    async fn append_by(&self, messages: Vec<Append>, by: Instant) -> Result<Vec<i64>, LogError> {
        if Instant::now() >= by {
            return Err(LogError::Unavailable(TOO_LATE.to_owned()));
        }
        self.append(messages).await
    }

    /// How long after it has begun nothing of an append comes to pass any more, also when nobody waits for it: whoever is
    /// told then to append it again, here or elsewhere, comes behind it. No append takes longer. A process that stops waits
    /// for as long as this, and for nothing longer.
    ///
    /// As it is here it does for a log to which one process alone appends: nobody can come before what that one has begun, and
    /// after its end nothing does. So it is only how long a disk may take until waiting for it is given up.
    fn settles_within(&self) -> Duration {
        DISK
    }

    /// What the partition holds now.
    async fn watermarks(&self, topic: Topic, partition: u32) -> Result<Watermarks, LogError>;

    /// The group's committed offset, if it ever committed one. Some logs commit where a group begins.
    async fn committed(&self, group: &str, topic: Topic, partition: u32) -> Result<Option<i64>, LogError>;

    /// How far each group is in each partition of its topic, in the order of their numbers. Made to be asked every other
    /// second: a few questions to the brokers, however many groups and partitions there are.
    async fn progress_of(&self, groups: &[(&str, Topic)]) -> Result<Vec<Vec<Progress>>, LogError> {
        let mut all = Vec::new();
        for (group, topic) in groups {
            let mut one = Vec::new();
            for partition in 0..self.partitions(*topic) {
                // In this order, so that nobody is ahead of the end.
                let committed = self.committed(group, *topic, partition).await?;
                let Watermarks { low, high } = self.watermarks(*topic, partition).await?;
                one.push(Progress { done: committed.unwrap_or(low), high });
            }
            all.push(one);
        }
        Ok(all)
    }

    /// The same of one group.
    async fn progress(&self, group: &str, topic: Topic) -> Result<Vec<Progress>, LogError> {
        Ok(self.progress_of(&[(group, topic)]).await?.pop().unwrap_or_default())
    }

    /// For onlookers: of each of the partitions `places`, which differ, the messages from an offset on (from the first
    /// that is kept, if that comes later), each within `limit`, and no more than what is there and comes within
    /// `limit.max_wait`; in the order of `places`. No group notices.
    async fn look(&self, topic: Topic, places: &[(u32, i64)], limit: FetchLimit)
    -> Result<Vec<Vec<Message>>, LogError>;

    /// Joins a consumer group for one topic; partitions are divided evenly among the group's members.
    async fn join(&self, group: &str, topic: Topic) -> Result<Box<dyn Member>, LogError>;
}

/// One member of a consumer group. Dropping it leaves the group.
#[async_trait]
pub trait Member: Send {
    /// The next change of this member's assignment; waits until there is one. Cancel-safe.
    async fn next(&mut self) -> Result<Change, LogError>;

    /// Turns true once the group has decided which part is this member's, and [`Self::next`] has given all of it. The
    /// part may be nothing, where there are more members than partitions.
    fn settled(&self) -> watch::Receiver<bool> {
        watch::channel(true).1
    }
}

/// A change of a member's assignment.
pub enum Change {
    /// A partition to read from now on, positioned at the group's committed offset or else the low watermark.
    Assigned(Box<dyn PartitionReader>),
    /// A partition to give up: finish or abandon the work on it, then drop `release`. Another member gets the
    /// partition only after that (or once a time-out says that this member is dead).
    Revoked {
        /// Which one.
        partition: u32,
        /// Dropped when the work on it has ended.
        release: Release,
    },
}

/// Gives a revoked partition free when dropped.
pub struct Release(pub Option<Box<dyn FnOnce() + Send>>);

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(release) = self.0.take() {
            release();
        }
    }
}

/// Reads one partition for a group.
#[async_trait]
pub trait PartitionReader: Send {
    /// Which topic.
    fn topic(&self) -> Topic;
    /// Which partition.
    fn partition(&self) -> u32;
    /// The next offset that [`Self::fetch`] reads.
    fn position(&self) -> i64;
    /// Waits, for as long as it takes, until a fetch may give something, and takes nothing of that; it may hold one message, and
    /// move past what is not to be read. Cancel-safe.
    async fn filled(&mut self) -> Result<(), LogError>;
    /// Messages from the position on, which moves past them; empty when nothing came within `max_wait`. Offsets may be
    /// missing between them and behind them, where there is nothing to read. Cancel-safe.
    async fn fetch(&mut self, limit: FetchLimit) -> Result<Vec<Message>, LogError>;
    /// Moves the position. Below the low watermark the next fetch starts at the low watermark.
    fn seek(&mut self, offset: i64);
    /// Durably notes that the group has done everything below `offset`.
    async fn commit(&mut self, offset: i64) -> Result<(), LogError>;
    /// What the partition holds now.
    async fn watermarks(&self) -> Result<Watermarks, LogError>;
}
