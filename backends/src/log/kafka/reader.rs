//! Reads one partition for a group.

use super::{Kafka, blocking, errors, header, lease::Lease, native, void};
use crate::{
    log::{FetchLimit, LogError, Message, PartitionReader, Topic, Watermarks},
    trace::{self, TraceParent},
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rdkafka::{
    Message as _,
    consumer::{CommitMode, Consumer},
    error::KafkaError,
    message::BorrowedMessage,
    topic_partition_list::{Offset, TopicPartitionList},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};
use tributary_schemas::frame::wire_id;

/// How long a commit is tried while its group is changing.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a commit takes at most.
const COMMIT_BOUND: Duration = Duration::from_secs(20);
/// A reader that waits is told of messages. Should that ever fail, it finds them by itself before anybody calls it stuck.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
const COMMIT_PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Reader {
    kafka: Arc<Kafka>,
    lease: Arc<Lease>,
    fenced: watch::Receiver<bool>,
    position: i64,
    /// Void messages begin here and go on to the position: nothing behind them went out.
    void_from: Option<i64>,
    /// What this reader knows to be committed.
    committed: i64,
    /// The partition is known to reach this far.
    reaches: i64,
    /// Whether the queue holds what comes at the position.
    placed: bool,
    /// Taken from the queue, and not given out yet.
    held: Option<Message>,
    /// Came behind messages that went out first.
    failed: Option<KafkaError>,
}

impl Reader {
    pub(super) fn new(kafka: Arc<Kafka>, lease: Arc<Lease>, position: i64) -> Self {
        let fenced = lease.fenced();
        Self {
            kafka,
            lease,
            fenced,
            position,
            void_from: None,
            committed: position,
            reaches: position,
            placed: false,
            held: None,
            failed: None,
        }
    }

    /// Begins to read, unless that was done.
    fn place(&mut self) -> Result<(), LogError> {
        self.lease.check()?;
        if !self.placed {
            self.lease.read_from(self.position)?;
            self.placed = true;
        }
        Ok(())
    }

    /// Whether there is a message, which is held from now on.
    fn peek(&mut self) -> Result<bool, LogError> {
        self.place()?;
        let (position, failed, held) = (self.position, &mut self.failed, &mut self.held);
        let mut passed_over = None;
        self.lease.drain(|queue| {
            while failed.is_none() && held.is_none() {
                match queue.poll(Duration::ZERO) {
                    None => break,
                    Some(Err(error)) => *failed = Some(error),
                    // What was on its way before the position moved.
                    Some(Ok(message)) if message.offset() < position => {}
                    Some(Ok(message)) if void::is_void(&message) => passed_over = Some(message.offset()),
                    Some(Ok(message)) => *held = Some(owned(&message)),
                }
            }
        })?;
        self.moved(None, passed_over);
        Ok(self.held.is_some())
    }

    /// What is there already, without waiting; the schema of what is held is known.
    fn take(&mut self, limit: FetchLimit) -> Result<Vec<Message>, LogError> {
        self.place()?;
        let mut taken = Taken::new(limit);
        if let Some(held) = self.held.take() {
            taken.add(held.offset, held.appended_at, &held.key, &held.value, held.trace);
        }
        let kafka = self.kafka.clone();
        let (position, failed, held) = (self.position, &mut self.failed, &mut self.held);
        let mut passed_over = None;
        self.lease.drain(|queue| {
            while failed.is_none() && taken.len() < limit.max_messages {
                match queue.poll(Duration::ZERO) {
                    None => break,
                    Some(Err(error)) => *failed = Some(error),
                    // What was on its way before the position moved.
                    Some(Ok(message)) if message.offset() < position => {}
                    Some(Ok(message)) if void::is_void(&message) => passed_over = Some(message.offset()),
                    Some(Ok(message))
                        if taken.has_room(message_len(&message)) && new_schema(&kafka, message.payload()).is_none() =>
                    {
                        let (key, value) = (message.key().unwrap_or(&[]), message.payload().unwrap_or(&[]));
                        taken.add(message.offset(), appended_at(&message), key, value, trace_of(&message));
                    }
                    Some(Ok(message)) => {
                        *held = Some(owned(&message));
                        break;
                    }
                }
            }
        })?;
        let messages = taken.finish();
        let last = messages.last().map(|last| last.offset);
        self.moved(last, passed_over);
        Ok(messages)
    }

    /// Moves the position past what went out and what was passed over.
    fn moved(&mut self, last: Option<i64>, passed_over: Option<i64>) {
        if let Some(last) = last {
            (self.position, self.void_from) = (last + 1, None);
            self.reaches = self.reaches.max(self.position);
        }
        if let Some(passed_over) = passed_over.filter(|offset| *offset >= self.position) {
            tracing::info!(
                topic = self.lease.topic.name(),
                partition = self.lease.partition,
                from = self.position,
                to = passed_over,
                "passed over messages that came too late, of appends that had failed"
            );
            self.void_from.get_or_insert(self.position);
            self.position = passed_over + 1;
            self.reaches = self.reaches.max(self.position);
        }
    }

    /// Commits void messages behind which nothing comes, once all before them is committed: nobody else would.
    async fn commit_void(&mut self) -> Result<(), LogError> {
        match self.void_from {
            Some(from) if from == self.committed => self.commit(from).await,
            _ => Ok(()),
        }
    }

    /// Finds out what the schema of the message in hand is, if nobody has yet. Cancel-safe.
    async fn learn_schema(&mut self) -> Result<(), LogError> {
        let held = self.held.as_ref().and_then(|held| new_schema(&self.kafka, Some(&held.value)));
        let (Some(id), Some(registry)) = (held, &self.kafka.registry) else { return Ok(()) };
        registry.resolve(id).await
    }

    /// What to do about an error in place of a message. Once it returns `Ok`, fetching can go on.
    async fn mend(&mut self, error: &KafkaError) -> Result<(), LogError> {
        let name = self.kafka.options.topic(self.lease.topic);
        let partition = self.lease.partition;
        // librdkafka may have stopped reading; the next fetch starts it anew.
        self.placed = false;
        match errors::read(error) {
            errors::Read::OutOfRange => {
                let marks = self.watermarks().await?;
                if self.position > marks.high {
                    let (at, high) = (self.position, marks.high);
                    return Err(LogError::Halted(format!(
                        "partition {partition} of {name} ends at {high}, before the position {at}: it was made anew, \
                         or its brokers lost messages"
                    )));
                }
                if self.position < marks.low {
                    let (from, low) = (self.position, marks.low);
                    // A seek to below the low watermark is allowed; a group that fell behind the retention is a loss.
                    tracing::warn!(topic = name, partition, from, low, "messages were dropped before they were read");
                    self.position = marks.low;
                }
                Ok(())
            }
            errors::Read::Corrupt => Err(LogError::Corrupt {
                file: PathBuf::from(format!("{name}-{partition}")),
                at: u64::try_from(self.position).unwrap_or(0),
                reason: "the message at this offset is not what was written: restore the broker's disk, or go on with \
                         another copy"
                    .to_owned(),
            }),
            errors::Read::Unavailable => {
                Err(errors::unavailable(&format!("read partition {partition} of {name}"), error))
            }
        }
    }
}

#[async_trait]
impl PartitionReader for Reader {
    fn topic(&self) -> Topic {
        self.lease.topic
    }

    fn partition(&self) -> u32 {
        self.lease.partition
    }

    fn position(&self) -> i64 {
        self.position
    }

    async fn filled(&mut self) -> Result<(), LogError> {
        while !self.peek()? {
            self.commit_void().await?;
            if let Some(error) = self.failed.clone() {
                // Whoever is dropped over it leaves it to the next.
                let mended = self.mend(&error).await;
                self.failed = None;
                mended?;
                continue;
            }
            tokio::select! {
                () = self.lease.filled.notified() => {}
                _ = self.fenced.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
        Ok(())
    }

    async fn fetch(&mut self, limit: FetchLimit) -> Result<Vec<Message>, LogError> {
        // What is dropped in the middle of it is done again by the next one.
        match timeout(limit.max_wait, self.filled()).await {
            Ok(filled) => filled?,
            Err(_) => return Ok(Vec::new()),
        }
        self.learn_schema().await?;
        // No waiting between taking messages and returning them: a fetch that is dropped loses nothing.
        self.take(limit)
    }

    fn seek(&mut self, offset: i64) {
        (self.position, self.placed, self.held, self.failed) = (offset, false, None, None);
        self.void_from = None;
    }

    async fn commit(&mut self, offset: i64) -> Result<(), LogError> {
        self.lease.check()?;
        if offset > self.reaches {
            let high = self.watermarks().await?.high;
            if offset > high {
                return Err(LogError::Halted(format!("cannot commit offset {offset}: the partition ends at {high}")));
            }
            self.reaches = high;
        }
        let end = if self.void_from == Some(offset) { self.position } else { offset };
        let lease = self.lease.clone();
        let commit = blocking(move || commit(&lease, end));
        // librdkafka has no bound of its own for a coordinator that neither answers nor hangs up. What is still under
        // way then may happen later: a group that has gone back reads again what is in the lake already.
        match tokio::time::timeout(COMMIT_BOUND, commit).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(LogError::Unavailable("the group's coordinator does not answer a commit".to_owned())),
        }
        (self.committed, self.void_from) = (end, self.void_from.filter(|from| *from != offset));
        Ok(())
    }

    async fn watermarks(&self) -> Result<Watermarks, LogError> {
        let (kafka, topic, partition) = (self.kafka.clone(), self.lease.topic, self.lease.partition);
        blocking(move || kafka.watermarks(topic, partition)).await
    }
}

/// Commits with the member's generation, which the broker checks. Blocks.
fn commit(lease: &Lease, offset: i64) -> Result<(), LogError> {
    let deadline = std::time::Instant::now() + COMMIT_PATIENCE;
    loop {
        let session = lease.session()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&session.topic, native(lease.partition), Offset::Offset(offset))
            .map_err(|error| errors::unavailable("commit", &error))?;
        let Err(error) = session.coordinator.commit(&list, CommitMode::Sync) else { return Ok(()) };
        drop(session);
        lease.check()?;
        match errors::commit(&error) {
            errors::Commit::Fenced => return Err(lease.lost()),
            errors::Commit::Again if std::time::Instant::now() < deadline => std::thread::sleep(COMMIT_PAUSE),
            errors::Commit::Again | errors::Commit::Unavailable => {
                return Err(errors::unavailable("commit an offset", &error));
            }
        }
    }
}

/// The schema id of a message, when the registry has to be asked for it.
fn new_schema(kafka: &Kafka, value: Option<&[u8]>) -> Option<u32> {
    let registry = kafka.registry.as_ref()?;
    value.and_then(wire_id).filter(|id| registry.is_new(*id))
}

fn message_len(message: &BorrowedMessage<'_>) -> usize {
    message.key_len() + message.payload_len()
}

fn appended_at(message: &BorrowedMessage<'_>) -> i64 {
    message.timestamp().to_millis().unwrap_or(0)
}

pub(super) fn owned(message: &BorrowedMessage<'_>) -> Message {
    Message {
        offset: message.offset(),
        appended_at: appended_at(message),
        key: Bytes::copy_from_slice(message.key().unwrap_or(&[])),
        value: Bytes::copy_from_slice(message.payload().unwrap_or(&[])),
        trace: trace_of(message),
    }
}

fn trace_of(message: &BorrowedMessage<'_>) -> Option<TraceParent> {
    TraceParent::read(header::find(message, trace::KAFKA_HEADER)?)
}

/// Messages on their way out, as parts of one buffer.
struct Taken {
    limit: FetchLimit,
    bytes: BytesMut,
    /// Offset, time, length of the key, length of the value, trace.
    heads: Vec<(i64, i64, usize, usize, Option<TraceParent>)>,
}

impl Taken {
    fn new(limit: FetchLimit) -> Self {
        Self { limit, bytes: BytesMut::new(), heads: Vec::new() }
    }

    fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether a message of `len` bytes fits; the first always does.
    fn has_room(&self, len: usize) -> bool {
        self.heads.is_empty() || self.bytes.len() + len <= self.limit.max_bytes
    }

    fn add(&mut self, offset: i64, appended_at: i64, key: &[u8], value: &[u8], trace: Option<TraceParent>) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.heads.push((offset, appended_at, key.len(), value.len(), trace));
    }

    fn finish(self) -> Vec<Message> {
        let mut bytes = self.bytes.freeze();
        let message = |(offset, appended_at, key, value, trace)| {
            let (key, value) = (bytes.split_to(key), bytes.split_to(value));
            Message { offset, appended_at, key, value, trace }
        };
        self.heads.into_iter().map(message).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_keeps_to_the_limit_and_one_always_fits() {
        let limit = FetchLimit { max_bytes: 10, max_messages: 5, max_wait: Duration::ZERO };
        let mut taken = Taken::new(limit);
        assert!(taken.has_room(1_000));
        taken.add(7, 1, b"key", b"value", None);
        assert!(taken.has_room(2));
        assert!(!taken.has_room(3));
        taken.add(9, 2, b"", b"xy", None);
        let messages = taken.finish();
        let seen: Vec<_> = messages.iter().map(|m| (m.offset, m.appended_at, &m.key[..], &m.value[..])).collect();
        assert_eq!(seen, [(7, 1, &b"key"[..], &b"value"[..]), (9, 2, b"", b"xy")]);
    }
}
