//! A partition that is this member's for a while: shared by the member's thread, its reader and its release.

use super::{group::Coordination, native, reports::Reports};
use crate::log::{LogError, Topic};
use rdkafka::{
    consumer::{BaseConsumer, Consumer, base_consumer::PartitionQueue},
    error::KafkaError,
    topic_partition_list::{Offset, TopicPartitionList},
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::{Notify, watch};

/// The clients of one member. The last handle to it leaves the group.
pub(super) struct Session {
    pub(super) coordinator: Arc<BaseConsumer<Coordination>>,
    pub(super) fetcher: Arc<BaseConsumer<Reports>>,
    /// The topic's name on the cluster.
    pub(super) topic: String,
}

impl Session {
    /// Tells the clients of `brokers` again, if they have lost them.
    pub(super) fn remind(&self, brokers: &str) {
        self.coordinator.context().reports.remind(self.coordinator.client(), brokers);
        self.fetcher.context().remind(self.fetcher.client(), brokers);
    }
}

/// The right to read a partition and to commit its offsets.
pub(super) struct Lease {
    pub(super) topic: Topic,
    pub(super) partition: u32,
    /// Told when there is something to read.
    pub(super) filled: Arc<Notify>,
    fenced: watch::Sender<bool>,
    released: AtomicBool,
    reading: Mutex<Reading>,
}

enum Reading {
    NotYet(Arc<Session>),
    From(Arc<Session>, PartitionQueue<Reports>),
    /// The partition is another member's, or may be.
    No,
}

impl Lease {
    pub(super) fn new(topic: Topic, partition: u32, session: Arc<Session>) -> Arc<Self> {
        let (fenced, _) = watch::channel(false);
        let (filled, released) = (Arc::new(Notify::new()), AtomicBool::new(false));
        Arc::new(Self { topic, partition, filled, fenced, released, reading: Mutex::new(Reading::NotYet(session)) })
    }

    /// Turns true when the partition is no longer this member's.
    pub(super) fn fenced(&self) -> watch::Receiver<bool> {
        self.fenced.subscribe()
    }

    /// [`LogError::Fenced`] once the partition is no longer this member's.
    pub(super) fn check(&self) -> Result<(), LogError> {
        if *self.fenced.borrow() { Err(self.lost()) } else { Ok(()) }
    }

    pub(super) fn lost(&self) -> LogError {
        LogError::Fenced { topic: self.topic, partition: self.partition }
    }

    /// The clients, for as long as the partition is this member's.
    pub(super) fn session(&self) -> Result<Arc<Session>, LogError> {
        match &*self.reading() {
            Reading::NotYet(session) | Reading::From(session, _) => Ok(session.clone()),
            Reading::No => Err(self.lost()),
        }
    }

    /// Whether the work on it has ended.
    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// The work on it has ended: from now on it can neither be read nor committed.
    pub(super) fn release(&self) {
        self.fence();
        self.released.store(true, Ordering::Release);
    }

    /// Ends reading and committing.
    pub(super) fn fence(&self) {
        let before = std::mem::replace(&mut *self.reading(), Reading::No);
        self.fenced.send_replace(true);
        if let Reading::From(session, _) = before
            && let Err(error) = session.fetcher.incremental_unassign(&self.place(&session, Offset::Invalid))
        {
            tracing::warn!(%error, partition = self.partition, "cannot stop reading a partition");
        }
    }

    /// Reads from `offset` on; below zero from the low watermark on.
    pub(super) fn read_from(&self, offset: i64) -> Result<(), LogError> {
        let mut reading = self.reading();
        let (session, queue) = match std::mem::replace(&mut *reading, Reading::No) {
            Reading::No => return Err(self.lost()),
            Reading::NotYet(session) => (session, None),
            Reading::From(session, queue) => (session, Some(queue)),
        };
        let outcome = self.begin(&session, queue, offset);
        let (now, outcome) = match outcome {
            Ok(queue) => (Reading::From(session, queue), Ok(())),
            Err(error) => (Reading::NotYet(session), Err(super::errors::unavailable("read a partition", &error))),
        };
        *reading = now;
        outcome
    }

    fn begin(
        &self,
        session: &Session,
        queue: Option<PartitionQueue<Reports>>,
        offset: i64,
    ) -> Result<PartitionQueue<Reports>, KafkaError> {
        let fetcher = &session.fetcher;
        let queue = match queue {
            Some(queue) => {
                // A new assignment works in every state; a seek fails silently after some errors.
                fetcher.incremental_unassign(&self.place(session, Offset::Invalid))?;
                queue
            }
            None => {
                // Before the assignment, for what is fetched earlier would go to the queue of all partitions.
                let queue = fetcher.split_partition_queue(&session.topic, native(self.partition));
                let mut queue =
                    queue.ok_or_else(|| KafkaError::Subscription("there is no such partition".to_owned()))?;
                let filled = self.filled.clone();
                queue.set_nonempty_callback(move || filled.notify_one());
                queue
            }
        };
        let offset = if offset < 0 { Offset::Beginning } else { Offset::Offset(offset) };
        fetcher.incremental_assign(&self.place(session, offset))?;
        Ok(queue)
    }

    /// What the queue holds, given to `take` until that says enough.
    pub(super) fn drain<T>(&self, take: impl FnOnce(&PartitionQueue<Reports>) -> T) -> Result<T, LogError> {
        match &*self.reading() {
            Reading::From(_, queue) => Ok(take(queue)),
            Reading::NotYet(_) => Err(LogError::Unavailable("the partition is not being read".to_owned())),
            Reading::No => Err(self.lost()),
        }
    }

    fn place(&self, session: &Session, offset: Offset) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        let mut place = list.add_partition(&session.topic, native(self.partition));
        // Only offsets that librdkafka knows are set, which it cannot refuse.
        let _ = place.set_offset(offset);
        list
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
