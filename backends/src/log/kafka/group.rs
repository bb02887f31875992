//! Members of consumer groups: one thread each, which follows what the group decides.
//!
//! With the cooperative protocol a partition moves in two rounds. In the first its owner is told to give it up; the
//! thread passes that on, and confirms only when the work on it has ended ([`Lease::release`]) or the grace is over.
//! The confirmation starts the second round, in which the partition gets its new owner. All other partitions keep
//! being read the whole time.

use super::{
    Kafka, Shared, clients, committed, lease::Lease, lease::Session, native, reader::Reader, reports::Reports,
};
use crate::log::{Change, LogError, Member, Release, Topic};
use async_trait::async_trait;
use rdkafka::{
    ClientContext, Statistics,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::KafkaError,
    topic_partition_list::{Offset, TopicPartitionList},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// How soon a release is noticed, or what could not be done is tried again.
const BUSY: Duration = Duration::from_millis(20);
/// How soon anything else is noticed. What the group says ends the waiting at once.
const IDLE: Duration = Duration::from_secs(1);

/// What the group decided.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Assigned(Vec<u32>),
    Revoked {
        partitions: Vec<u32>,
        /// They are others' already.
        lost: bool,
    },
}

/// Takes the group's decisions as they come; the member's thread carries them out.
pub(super) struct Coordination {
    pub(super) reports: Reports,
    decisions: Mutex<VecDeque<Decision>>,
    leaving: AtomicBool,
}

impl ClientContext for Coordination {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, text: &str) {
        self.reports.log(level, fac, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Coordination {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = list.elements().iter().filter_map(|place| u32::try_from(place.partition()).ok()).collect();
        let decision = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Decision::Assigned(partitions),
            _ => Decision::Revoked { partitions, lost: consumer.assignment_lost() },
        };
        if self.leaving.load(Ordering::Acquire) {
            confirm(consumer, &decision);
        } else {
            self.decisions.lock().unwrap_or_else(PoisonError::into_inner).push_back(decision);
        }
    }
}

/// Tells the group that a decision was carried out. The coordinator itself reads nothing, so its own list of partitions
/// stays empty whatever is decided.
fn confirm(consumer: &BaseConsumer<Coordination>, decision: &Decision) {
    let nothing = TopicPartitionList::new();
    let confirmed = match decision {
        Decision::Assigned(_) => consumer.incremental_assign(&nothing),
        Decision::Revoked { .. } => consumer.incremental_unassign(&nothing),
    };
    if let Err(error) = confirmed {
        consumer.context().reports.warn("confirm", &format!("a rebalance could not be confirmed: {error}"));
    }
}

/// What a member is told.
enum Event {
    Assigned {
        lease: Arc<Lease>,
        position: i64,
    },
    Revoked(Arc<Lease>),
    /// All that the group has given this member for a beginning has been told.
    Settled,
    Failed(LogError),
}

/// Leases that were not given up, by partition.
type Leases = Arc<Mutex<HashMap<u32, Arc<Lease>>>>;

/// Joins `group`; the member's thread does the rest. Blocks for as long as clients take to be set up.
pub(super) fn join(shared: &Arc<Shared>, group: &str, topic: Topic) -> Result<KafkaMember, LogError> {
    let kafka = &shared.kafka;
    let coordination = Coordination {
        reports: kafka.reports.for_another(),
        decisions: Mutex::default(),
        leaving: AtomicBool::new(false),
    };
    let coordinator: BaseConsumer<Coordination> = clients::consumer(&kafka.options, group, topic, coordination)?;
    let fetcher: BaseConsumer<Reports> = clients::consumer(&kafka.options, group, topic, kafka.reports.for_another())?;
    let name = kafka.options.topic(topic);
    let refused = |error| LogError::Halted(format!("cannot join group {group}: {error}"));
    coordinator.subscribe(&[&name]).map_err(refused)?;
    let session = Session { coordinator: Arc::new(coordinator), fetcher: Arc::new(fetcher), topic: name };
    let (told, events) = mpsc::unbounded_channel();
    let (stop, leases, session) = (Arc::new(AtomicBool::new(false)), Leases::default(), Arc::new(session));
    let handle = Arc::downgrade(&session);
    let membership = Membership {
        kafka: kafka.clone(),
        topic,
        session,
        told,
        stop: stop.clone(),
        leases: leases.clone(),
        unplaced: BTreeSet::new(),
        giving_up: None,
        settling: Settling::Waiting,
    };
    let thread = std::thread::Builder::new()
        .name(format!("group-{group}"))
        .spawn(move || membership.run())
        .map_err(|error| LogError::Unavailable(format!("cannot start a member's thread: {error}")))?;
    let mut threads = shared.threads.lock().unwrap_or_else(PoisonError::into_inner);
    threads.retain(|thread| !thread.is_finished());
    threads.push(thread);
    let settled = watch::channel(false).0;
    Ok(KafkaMember { shared: shared.clone(), events, settled, stop, leases, session: handle })
}

/// A member of a group; leaves it when dropped.
pub(super) struct KafkaMember {
    shared: Arc<Shared>,
    events: mpsc::UnboundedReceiver<Event>,
    settled: watch::Sender<bool>,
    stop: Arc<AtomicBool>,
    leases: Leases,
    session: Weak<Session>,
}

#[async_trait]
impl Member for KafkaMember {
    async fn next(&mut self) -> Result<Change, LogError> {
        let gone = || LogError::Halted("the thread of a group's member has ended".to_owned());
        loop {
            return match self.events.recv().await.ok_or_else(gone)? {
                Event::Assigned { lease, position } => {
                    Ok(Change::Assigned(Box::new(Reader::new(self.shared.kafka.clone(), lease, position))))
                }
                Event::Revoked(lease) => {
                    let partition = lease.partition;
                    Ok(Change::Revoked { partition, release: Release(Some(Box::new(move || lease.release()))) })
                }
                // Whoever asks for what comes next has taken all that came before.
                Event::Settled => {
                    self.settled.send_replace(true);
                    continue;
                }
                Event::Failed(error) => Err(error),
            };
        }
    }

    fn settled(&self) -> watch::Receiver<bool> {
        self.settled.subscribe()
    }
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        // Before the thread gets to it, so that no reader outlives its member.
        fence_all(&self.leases);
        self.stop.store(true, Ordering::Release);
        if let Some(session) = self.session.upgrade() {
            session.coordinator.context().leaving.store(true, Ordering::Release);
            // Takes the partitions back, which wakes the thread.
            session.coordinator.unsubscribe();
        }
    }
}

fn fence_all(leases: &Leases) {
    for (_, lease) in std::mem::take(&mut *leases.lock().unwrap_or_else(PoisonError::into_inner)) {
        lease.fence();
    }
}

/// Whether the group has decided on this member for the first time, and the member has been told of all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settling {
    Waiting,
    Decided,
    Told,
}

/// Partitions that are being given up.
struct GivingUp {
    leases: Vec<Arc<Lease>>,
    until: Instant,
}

/// What the member's thread knows.
struct Membership {
    kafka: Arc<Kafka>,
    topic: Topic,
    session: Arc<Session>,
    told: mpsc::UnboundedSender<Event>,
    stop: Arc<AtomicBool>,
    leases: Leases,
    /// Assigned, but where to begin is not known yet.
    unplaced: BTreeSet<u32>,
    giving_up: Option<GivingUp>,
    settling: Settling,
}

impl Membership {
    fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            let busy = self.giving_up.is_some() || !self.unplaced.is_empty();
            if let Some(Err(error)) = self.session.coordinator.poll(if busy { BUSY } else { IDLE }) {
                self.report(&error);
            }
            // Its partitions have queues of their own; this serves what librdkafka has to say.
            let _ = self.session.fetcher.poll(Duration::ZERO);
            self.session.remind(&self.kafka.options.brokers);
            while let Some(decision) = self.decision() {
                self.carry_out(&decision);
            }
            self.finish_giving_up();
            self.place();
            if self.settling == Settling::Decided && self.unplaced.is_empty() {
                self.settling = Settling::Told;
                self.tell(Event::Settled);
            }
        }
        self.leave();
    }

    fn decision(&self) -> Option<Decision> {
        let decisions = &self.session.coordinator.context().decisions;
        decisions.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn carry_out(&mut self, decision: &Decision) {
        match decision {
            Decision::Assigned(partitions) => {
                self.unplaced.extend(partitions);
                confirm(&self.session.coordinator, decision);
                self.leave_unknown();
                if self.settling == Settling::Waiting {
                    self.settling = Settling::Decided;
                }
            }
            Decision::Revoked { partitions, lost } => self.give_up(partitions, *lost),
        }
    }

    /// Partitions that somebody added while we run are nobody's: no record of ours goes there, for its lane is told by
    /// the number that was written down. All others go on, the log says so, and nothing starts any more.
    fn leave_unknown(&mut self) {
        let known = self.kafka.options.partitions(self.topic);
        let unknown = self.unplaced.split_off(&known);
        if let Some(partition) = unknown.first() {
            let text = super::topics::grown(self.topic, &self.session.topic, *partition as usize + 1, known as usize);
            self.kafka.reports.warn("grown", &text);
        }
    }

    fn give_up(&mut self, partitions: &[u32], lost: bool) {
        let mut giving_up = self.giving_up.take().map(|before| before.leases).unwrap_or_default();
        for partition in partitions {
            self.unplaced.remove(partition);
            let lease = self.leases.lock().unwrap_or_else(PoisonError::into_inner).remove(partition);
            let Some(lease) = lease else { continue };
            if lost {
                lease.fence();
            } else {
                giving_up.push(lease.clone());
            }
            self.tell(Event::Revoked(lease));
        }
        // Confirmed by `finish_giving_up`, also when there is nothing to wait for.
        let until = Instant::now() + self.kafka.options.release_grace;
        self.giving_up = Some(GivingUp { leases: giving_up, until });
    }

    /// Confirms a revocation once the work on every partition has ended, or the grace is over.
    fn finish_giving_up(&mut self) {
        let Some(GivingUp { leases, until }) = &self.giving_up else { return };
        let late = Instant::now() >= *until;
        if !late && !leases.iter().all(|lease| lease.is_released()) {
            return;
        }
        for lease in leases.iter().filter(|lease| !lease.is_released()) {
            tracing::warn!(topic = self.session.topic, lease.partition, "the work on a revoked partition did not end");
            lease.fence();
        }
        self.giving_up = None;
        confirm(&self.session.coordinator, &Decision::Revoked { partitions: Vec::new(), lost: false });
    }

    /// Finds out where new partitions begin, and hands them out.
    fn place(&mut self) {
        if self.unplaced.is_empty() {
            return;
        }
        let positions = match self.positions() {
            Ok(positions) => positions,
            Err(error) => {
                self.kafka.reports.warn("place", &format!("new partitions cannot be read yet: {error}"));
                return;
            }
        };
        for (partition, position) in positions {
            self.unplaced.remove(&partition);
            let lease = Lease::new(self.topic, partition, self.session.clone());
            self.leases.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, lease.clone());
            self.tell(Event::Assigned { lease, position });
        }
    }

    /// The committed offset of each new partition, or else its low watermark, which is committed then: tools that show lag
    /// know none of a partition that nobody has committed.
    fn positions(&self) -> Result<Vec<(u32, i64)>, LogError> {
        let partitions: Vec<u32> = self.unplaced.iter().copied().collect();
        let known = committed(&self.session.coordinator, &self.session.topic, &partitions)?;
        let mut begun = TopicPartitionList::new();
        let mut position = |partition: u32| -> Result<i64, LogError> {
            if let Some(offset) = known.get(&partition) {
                return Ok(*offset);
            }
            let low = self.kafka.watermarks(self.topic, partition)?.low;
            // Only offsets that librdkafka knows are set, which it cannot refuse.
            let _ = begun.add_partition(&self.session.topic, native(partition)).set_offset(Offset::Offset(low));
            Ok(low)
        };
        let places = partitions.into_iter().map(|partition| Ok((partition, position(partition)?)));
        let places = places.collect::<Result<Vec<_>, LogError>>()?;
        if begun.count() > 0 {
            // Nothing rests on it: whoever comes next finds the same.
            let _ = self.session.coordinator.commit(&begun, CommitMode::Async);
        }
        Ok(places)
    }

    fn report(&self, error: &KafkaError) {
        use RDKafkaErrorCode::{GroupAuthorizationFailed, TopicAuthorizationFailed, UnknownTopicOrPartition};
        match (error, error.rdkafka_error_code()) {
            (KafkaError::MessageConsumptionFatal(code), _) => {
                self.tell(Event::Failed(LogError::Halted(format!("the group's coordinator refuses us: {code}"))));
            }
            (_, Some(GroupAuthorizationFailed | TopicAuthorizationFailed | UnknownTopicOrPartition)) => {
                let error = super::errors::unavailable(&format!("be a member for {}", self.session.topic), error);
                self.kafka.reports.warn("member", &error.to_string());
            }
            // Told by the client's own report.
            _ => {}
        }
    }

    /// A member that is gone needs to be told nothing; the thread ends soon.
    fn tell(&self, event: Event) {
        let _ = self.told.send(event);
    }

    /// Leaves the group; the last handle to the clients does so, here or in a commit that is under way.
    fn leave(self) {
        let context = self.session.coordinator.context();
        context.leaving.store(true, Ordering::Release);
        fence_all(&self.leases);
        if let Some(GivingUp { leases, .. }) = &self.giving_up {
            leases.iter().for_each(|lease| lease.fence());
            confirm(&self.session.coordinator, &Decision::Revoked { partitions: Vec::new(), lost: false });
        }
        while let Some(decision) = self.decision() {
            confirm(&self.session.coordinator, &decision);
        }
    }
}
