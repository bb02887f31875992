//! A log in memory: shared by "processes" that come and go, each with its own fate. Unlike a real one it lets two
//! owners read the same partition, which is what a lane must survive.

use super::mortal::{Fate, Verdict, dead_log};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;
use tributary_backends::log::*;

#[derive(Debug, Default)]
pub(crate) struct Stored {
    messages: Mutex<HashMap<(Topic, u32), Vec<Message>>>,
    committed: Mutex<HashMap<(Topic, u32), i64>>,
    /// Below which offset nothing is kept any more.
    lows: Mutex<HashMap<(Topic, u32), i64>>,
    /// From which offset on nothing can be read.
    damaged: Mutex<HashMap<(Topic, u32), i64>>,
    /// How often somebody has tried.
    refused: AtomicU64,
    /// Calls that appended something.
    appends: AtomicU64,
    changed: Notify,
}

impl Stored {
    pub(crate) fn put(&self, topic: Topic, partition: u32, key: Bytes, value: Bytes) -> i64 {
        let mut messages = self.messages.lock().unwrap();
        let messages = messages.entry((topic, partition)).or_default();
        let offset = messages.len() as i64;
        messages.push(Message { offset, appended_at: offset, key, value, trace: None });
        self.changed.notify_waiters();
        offset
    }

    /// How many calls appended something.
    pub(crate) fn appends(&self) -> u64 {
        self.appends.load(Ordering::SeqCst)
    }

    pub(crate) fn all(&self, topic: Topic, partition: u32) -> Vec<Message> {
        self.messages.lock().unwrap().get(&(topic, partition)).cloned().unwrap_or_default()
    }

    pub(crate) fn committed(&self, topic: Topic, partition: u32) -> i64 {
        self.committed.lock().unwrap().get(&(topic, partition)).copied().unwrap_or(0)
    }

    /// Everybody goes on at `offset`.
    pub(crate) fn skip(&self, topic: Topic, partition: u32, offset: i64) {
        self.committed.lock().unwrap().insert((topic, partition), offset);
    }

    pub(crate) fn rewind(&self, topic: Topic, partition: u32) {
        self.committed.lock().unwrap().insert((topic, partition), 0);
    }

    /// Keeps nothing below `offset`.
    pub(crate) fn drop_below(&self, topic: Topic, partition: u32, offset: i64) {
        self.lows.lock().unwrap().insert((topic, partition), offset);
    }

    /// From `offset` on nothing can be read.
    pub(crate) fn damage_from(&self, topic: Topic, partition: u32, offset: i64) {
        self.damaged.lock().unwrap().insert((topic, partition), offset);
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::SeqCst)
    }

    /// Until the partition's committed offset is its end.
    pub(crate) async fn drained(&self, topic: Topic, partition: u32) {
        self.until(|| self.committed(topic, partition) >= self.all(topic, partition).len() as i64).await;
    }

    /// Until something has become true that messages and commits change.
    pub(crate) async fn until(&self, is_true: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_true() {
                return;
            }
            changed.await;
        }
    }
}

/// The log as one process sees it.
#[derive(Debug, Clone)]
pub(crate) struct MemoryLog {
    pub(crate) stored: Arc<Stored>,
    pub(crate) lanes: u32,
    pub(crate) fate: Fate,
}

impl MemoryLog {
    pub(crate) fn reader(&self, topic: Topic, partition: u32) -> Reader {
        let position = self.stored.committed(topic, partition);
        Reader { log: self.clone(), topic, partition, position }
    }
}

#[async_trait]
impl RecordLog for MemoryLog {
    fn id(&self) -> &str {
        "memory"
    }
    fn partitions(&self, topic: Topic) -> u32 {
        if topic == Topic::Records { self.lanes } else { 1 }
    }
    async fn append(&self, messages: Vec<Append>) -> Result<Vec<i64>, LogError> {
        self.stored.appends.fetch_add(1, Ordering::SeqCst);
        let put = |append: Append| self.stored.put(append.topic, append.partition, append.key, append.value);
        match self.fate.judge() {
            Verdict::Live => Ok(messages.into_iter().map(put).collect()),
            Verdict::Away => Err(LogError::Unavailable("away".into())),
            Verdict::DieBefore => Err(dead_log()),
            Verdict::DieAfter => {
                let _: Vec<_> = messages.into_iter().map(put).collect();
                Err(dead_log())
            }
        }
    }
    async fn watermarks(&self, topic: Topic, partition: u32) -> Result<Watermarks, LogError> {
        let low = self.stored.lows.lock().unwrap().get(&(topic, partition)).copied().unwrap_or(0);
        Ok(Watermarks { low, high: self.stored.all(topic, partition).len() as i64 })
    }
    async fn committed(&self, _: &str, topic: Topic, partition: u32) -> Result<Option<i64>, LogError> {
        Ok(Some(self.stored.committed(topic, partition)))
    }
    async fn look(
        &self,
        topic: Topic,
        places: &[(u32, i64)],
        limit: FetchLimit,
    ) -> Result<Vec<Vec<Message>>, LogError> {
        let stored = self.stored.messages.lock().unwrap();
        let from = |(partition, offset): &(u32, i64)| {
            let messages = stored.get(&(topic, *partition)).into_iter().flatten().skip(*offset as usize);
            messages.take(limit.max_messages).cloned().collect()
        };
        Ok(places.iter().map(from).collect())
    }
    async fn join(&self, _: &str, topic: Topic) -> Result<Box<dyn Member>, LogError> {
        Ok(Box::new(All { log: self.clone(), topic, next: 0 }))
    }
}

/// A member that gets every partition at once.
struct All {
    log: MemoryLog,
    topic: Topic,
    next: u32,
}

#[async_trait]
impl Member for All {
    async fn next(&mut self) -> Result<Change, LogError> {
        if self.next == self.log.partitions(self.topic) {
            std::future::pending::<()>().await;
        }
        self.next += 1;
        Ok(Change::Assigned(Box::new(self.log.reader(self.topic, self.next - 1))))
    }
}

pub(crate) struct Reader {
    log: MemoryLog,
    topic: Topic,
    partition: u32,
    position: i64,
}

#[async_trait]
impl PartitionReader for Reader {
    fn topic(&self) -> Topic {
        self.topic
    }
    fn partition(&self) -> u32 {
        self.partition
    }
    fn position(&self) -> i64 {
        self.position
    }
    async fn filled(&mut self) -> Result<(), LogError> {
        let stored = self.log.stored.clone();
        loop {
            let damaged = stored.damaged.lock().unwrap().get(&(self.topic, self.partition)).copied();
            if damaged.is_some_and(|from| self.position >= from) {
                stored.refused.fetch_add(1, Ordering::SeqCst);
                stored.changed.notify_waiters();
                return Err(LogError::Halted("damaged".into()));
            }
            let changed = stored.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if stored.all(self.topic, self.partition).len() as i64 > self.position {
                return Ok(());
            }
            changed.await;
        }
    }
    async fn fetch(&mut self, limit: FetchLimit) -> Result<Vec<Message>, LogError> {
        match tokio::time::timeout(limit.max_wait, self.filled()).await {
            Ok(filled) => filled?,
            Err(_) => return Ok(Vec::new()),
        }
        let stored = self.log.stored.clone();
        let mut bytes = 0;
        let fits = |message: &Message| {
            let first = bytes == 0;
            bytes += message.key.len() + message.value.len();
            first || bytes <= limit.max_bytes
        };
        let messages = stored.all(self.topic, self.partition).into_iter().skip(self.position as usize);
        let messages: Vec<_> = messages.take(limit.max_messages).take_while(fits).collect();
        self.position += messages.len() as i64;
        Ok(messages)
    }
    fn seek(&mut self, offset: i64) {
        self.position = offset;
    }
    async fn commit(&mut self, offset: i64) -> Result<(), LogError> {
        let verdict = self.log.fate.judge();
        match verdict {
            Verdict::Away => return Err(LogError::Unavailable("away".into())),
            Verdict::DieBefore => return Err(dead_log()),
            Verdict::Live | Verdict::DieAfter => {}
        }
        self.log.stored.committed.lock().unwrap().insert((self.topic, self.partition), offset);
        self.log.stored.changed.notify_waiters();
        if matches!(verdict, Verdict::DieAfter) { Err(dead_log()) } else { Ok(()) }
    }
    async fn watermarks(&self) -> Result<Watermarks, LogError> {
        self.log.watermarks(self.topic, self.partition).await
    }
}
