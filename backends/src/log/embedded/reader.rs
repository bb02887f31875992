//! Members of consumer groups and the readers of their partitions.

use super::{
    Shared,
    groups::{Event, GroupKey, Lease},
    offsets::Key,
    partition::Partition,
    segment::Cursor,
};
use crate::log::{Change, FetchLimit, LogError, Member, Message, PartitionReader, Release, Topic, Watermarks};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

/// A member of a group; leaves it when dropped.
#[derive(Debug)]
pub(super) struct EmbeddedMember {
    pub(super) log: Arc<Shared>,
    pub(super) group: GroupKey,
    pub(super) id: u64,
    pub(super) wake: Arc<Notify>,
}

#[async_trait]
impl Member for EmbeddedMember {
    async fn next(&mut self) -> Result<Change, LogError> {
        loop {
            // No waiting between taking an event and returning it: a call that is dropped loses nothing.
            match self.log.groups.event(&self.group, self.id) {
                Some(Event::Assigned(lease)) => return Ok(Change::Assigned(Box::new(self.reader(lease)))),
                Some(Event::Revoked(lease)) => return Ok(self.revoked(lease)),
                None => self.wake.notified().await,
            }
        }
    }
}

impl EmbeddedMember {
    fn reader(&self, lease: Arc<Lease>) -> Reader {
        let (group, topic) = self.group.clone();
        let partition = self.log.partition(topic, lease.partition);
        let key = Key { group, topic, partition: lease.partition };
        let committed = self.log.offsets.assign(&key, lease.number);
        let position = committed.unwrap_or_else(|| partition.watermarks().low);
        let (fenced, high) = (lease.fenced(), partition.high());
        Reader { log: self.log.clone(), partition, key, lease, fenced, high, position, cursor: None }
    }

    fn revoked(&self, lease: Arc<Lease>) -> Change {
        let (log, group, partition) = (self.log.clone(), self.group.clone(), lease.partition);
        let release = Release(Some(Box::new(move || log.groups.release(&group, &lease))));
        Change::Revoked { partition, release }
    }
}

impl Drop for EmbeddedMember {
    fn drop(&mut self) {
        self.log.groups.leave(&self.group, self.id);
    }
}

/// Reads one partition for a group.
#[derive(Debug)]
struct Reader {
    log: Arc<Shared>,
    partition: Arc<Partition>,
    key: Key,
    lease: Arc<Lease>,
    fenced: watch::Receiver<bool>,
    high: watch::Receiver<i64>,
    position: i64,
    /// Where the file has been read to; lost when a fetch is dropped, then the index finds the place again.
    cursor: Option<Cursor>,
}

#[async_trait]
impl PartitionReader for Reader {
    fn topic(&self) -> Topic {
        self.key.topic
    }

    fn partition(&self) -> u32 {
        self.key.partition
    }

    fn position(&self) -> i64 {
        self.position
    }

    async fn filled(&mut self) -> Result<(), LogError> {
        while self.position >= *self.high.borrow_and_update() {
            self.owned()?;
            tokio::select! {
                _ = self.high.changed() => {}
                _ = self.fenced.changed() => {}
            }
        }
        self.owned()
    }

    async fn fetch(&mut self, limit: FetchLimit) -> Result<Vec<Message>, LogError> {
        match timeout(limit.max_wait, self.filled()).await {
            Ok(filled) => filled?,
            Err(_) => return Ok(Vec::new()),
        }
        let (partition, cursor, position) = (self.partition.clone(), self.cursor.take(), self.position);
        let read = move || partition.read_from(position, cursor, limit);
        let (messages, cursor) = blocking(read).await?;
        if let Some(last) = messages.last() {
            self.position = last.offset + 1;
        }
        self.cursor = cursor;
        Ok(messages)
    }

    fn seek(&mut self, offset: i64) {
        self.position = offset;
    }

    async fn commit(&mut self, offset: i64) -> Result<(), LogError> {
        self.owned()?;
        let high = *self.high.borrow();
        if offset > high {
            let reason = format!("cannot commit offset {offset}: the partition ends at {high}");
            return Err(LogError::Halted(reason));
        }
        let (offsets, key, lease) = (self.log.offsets.clone(), self.key.clone(), self.lease.number);
        blocking(move || offsets.commit(&key, lease, offset)).await
    }

    async fn watermarks(&self) -> Result<Watermarks, LogError> {
        Ok(self.partition.watermarks())
    }
}

impl Reader {
    fn owned(&self) -> Result<(), LogError> {
        if *self.fenced.borrow() {
            return Err(LogError::Fenced { topic: self.key.topic, partition: self.key.partition });
        }
        Ok(())
    }
}

/// Runs what waits for the disk off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
}
