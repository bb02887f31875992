//! The log on Apache Kafka, through librdkafka: any number of processes.
//!
//! | what the port says | what Kafka does for it |
//! |---|---|
//! | [`RecordLog::id`] | the id of the topic `records`, which a topic made anew does not share [`topic_id`] |
//! | topics | made at the first start, checked at every start [`topics`] |
//! | durable | idempotent producer, `acks=all`; readers see no more than the high watermark [`producer`] |
//! | failed for good | what is appended later than its sender was ready to wait is passed over [`void`] |
//! | members | consumer groups with the cooperative-sticky assignor [`group`] |
//! | releases | the revocation is confirmed to the group once the work has ended, or a grace has passed [`lease`] |
//! | readers | one queue for each partition, with a bounded amount fetched ahead [`reader`] |
//! | fenced | by the lease here; by the group's generation on the broker |
//! | schema ids | those of a schema registry, when one is named [`registry`] |
//!
//! **A member is two clients.** The *coordinator* is in the group but reads nothing: it learns which partitions are
//! this member's, and commits. The *fetcher* is in no group and reads what the leases say. With one client for both,
//! librdkafka stops fetching *all* partitions from the moment a rebalance begins until a revocation is confirmed, so
//! that one lane which finishes its chunk would hold up those that stay. With two, lanes that stay do not notice.
//!
//! **Threads**: one of ours for each member ([`group`]), one for the producer's acknowledgements, one that listens to
//! what librdkafka has to say, and librdkafka's own. Calls of librdkafka that wait for a broker run on tokio's blocking threads.

mod call;
mod clients;
mod errors;
mod group;
mod header;
mod lease;
mod listener;
mod onlooker;
mod options;
mod producer;
mod progress;
mod reader;
mod registry;
mod reports;
mod send;
mod topic_id;
mod topics;
mod void;

pub use onlooker::observe;
pub use options::{Compression, Options, Properties};
pub use registry::RegistryUrl;

use super::{Append, FetchLimit, LogError, Member, Message, Progress, RecordLog, Topic, Watermarks};
use async_trait::async_trait;
use listener::{LISTENING, Listener};
use producer::Producer;
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    topic_partition_list::{Offset, TopicPartitionList},
};
use registry::Registry;
use reports::Reports;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};
use tokio::time::Instant;
use tributary_schemas::frame::{Meaning, SchemaIds, Unasked};

/// How long a question to the brokers may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest name of a group that Kafka keeps.
const MAX_GROUP: usize = 249;

/// Opens the log: makes its topics when they are not there, else checks them. The log is closed when the last handle
/// and member is dropped, which waits until the members have left their groups.
///
/// # Errors
/// [`LogError::Halted`] when the topics contradict `options`, a property is unknown, or the brokers or the schema
/// registry do not let us in; [`LogError::Unavailable`] when none of them answers within [`Options::start_timeout`].
pub async fn open(options: Options) -> Result<Arc<dyn RecordLog>, LogError> {
    options.check()?;
    let registry = match &options.schema_registry {
        Some(url) => Some(Registry::open(&options, url).await?),
        None => None,
    };
    let kafka = Kafka::connect(options, registry)?;
    let listener = kafka.listen()?;
    let id = topics::prepare(&kafka).await?;
    let headers = kafka.registry.as_ref().map(|registry| registry.headers);
    let producer = Producer::new(&kafka.options, &kafka.reports, headers)?;
    Ok(Arc::new(KafkaLog(Arc::new(Shared { id, producer, _listener: listener, kafka, threads: Mutex::default() }))))
}

/// What every part of the log needs.
struct Kafka {
    options: Options,
    reports: Reports,
    /// Where messages are in the Confluent wire format.
    registry: Option<Registry>,
    /// Belongs to no group.
    plain: BaseConsumer<Reports>,
    /// Ask for what groups have committed without being in them, by the group's name; see [`progress`].
    askers: Mutex<HashMap<String, Arc<BaseConsumer<Reports>>>>,
    /// Looks at messages for those who are in no group; see [`onlooker`].
    onlooker: Mutex<Option<BaseConsumer<Reports>>>,
}

impl Kafka {
    /// Sets up what every part needs; connections are made in the background.
    fn connect(options: Options, registry: Option<Registry>) -> Result<Arc<Self>, LogError> {
        let reports = Reports::default();
        let plain = clients::plain(&options, &reports)?;
        let (askers, onlooker) = (Mutex::default(), Mutex::default());
        Ok(Arc::new(Self { options, reports, registry, plain, askers, onlooker }))
    }

    /// Takes what librdkafka has to say about the plain client.
    fn listen(self: &Arc<Self>) -> Result<Listener, LogError> {
        let kafka = self.clone();
        let listen = move || {
            let _ = kafka.plain.poll(LISTENING);
            kafka.plain.context().remind(kafka.plain.client(), &kafka.options.brokers);
        };
        let listener = Listener::start("kafka-reports", listen);
        listener.map_err(|error| LogError::Unavailable(format!("cannot start a thread: {error}")))
    }

    /// What the partition holds now. Blocks, also while the partition changes its leader.
    fn watermarks(&self, topic: Topic, partition: u32) -> Result<Watermarks, LogError> {
        let (name, deadline) = (self.options.topic(topic), Instant::now() + PATIENCE);
        loop {
            match self.plain.fetch_watermarks(&name, native(partition), PATIENCE) {
                Ok((low, high)) => return Ok(Watermarks { low, high }),
                Err(error) if errors::is_leader_unclear(&error) && Instant::now() < deadline => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(errors::unavailable("ask for the watermarks", &error)),
            }
        }
    }
}

struct KafkaLog(Arc<Shared>);

/// What the log and its members share; dropped with the last of them.
struct Shared {
    id: String,
    producer: Producer,
    _listener: Listener,
    kafka: Arc<Kafka>,
    /// Of the members; each ends after its member was dropped.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let threads = std::mem::take(self.threads.get_mut().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("the thread of a group's member had panicked");
            }
        }
    }
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog").field("id", &self.0.id).field("options", &self.0.kafka.options).finish()
    }
}

impl KafkaLog {
    fn check(&self, topic: Topic, partition: u32) -> Result<(), LogError> {
        if partition < self.partitions(topic) {
            return Ok(());
        }
        Err(LogError::Halted(format!("topic {} has no partition {partition}", topic.name())))
    }

    async fn append_within(&self, messages: Vec<Append>, by: Option<Instant>) -> Result<Vec<i64>, LogError> {
        for message in &messages {
            self.check(message.topic, message.partition)?;
        }
        if messages.is_empty() {
            let shared = self.0.clone();
            return blocking(move || shared.producer.check()).await.map(|()| Vec::new());
        }
        self.0.producer.append(messages, by).await
    }

    fn check_group(&self, group: &str) -> Result<(), LogError> {
        let name = self.0.kafka.options.group(group);
        if name.is_empty() || name.len() > MAX_GROUP {
            return Err(LogError::Halted(format!("a group's name has from 1 to {MAX_GROUP} bytes, {name:?} has not")));
        }
        Ok(())
    }
}

#[async_trait]
impl RecordLog for KafkaLog {
    fn id(&self) -> &str {
        &self.0.id
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.0.kafka.options.partitions(topic)
    }

    fn schema_ids(&self) -> Arc<dyn SchemaIds> {
        self.0.kafka.registry.as_ref().map_or_else(|| Arc::new(Unasked) as _, Registry::ids)
    }

    async fn learn_schemas(&self, ids: &[u32]) -> Result<bool, LogError> {
        let Some(registry) = &self.0.kafka.registry else { return Ok(false) };
        let known = registry.ids();
        let mean_nothing = |id: &&u32| known.meaning(**id) == Meaning::Nothing;
        for id in ids.iter().filter(mean_nothing) {
            registry.resolve(*id).await?;
        }
        Ok(!ids.iter().all(|id| mean_nothing(&id)))
    }

    async fn append(&self, messages: Vec<Append>) -> Result<Vec<i64>, LogError> {
        self.append_within(messages, None).await
    }

    async fn append_by(&self, messages: Vec<Append>, by: Instant) -> Result<Vec<i64>, LogError> {
        self.append_within(messages, Some(by)).await
    }

    fn settles_within(&self) -> Duration {
        self.0.kafka.options.settles_within()
    }

    async fn watermarks(&self, topic: Topic, partition: u32) -> Result<Watermarks, LogError> {
        self.check(topic, partition)?;
        let kafka = self.0.kafka.clone();
        blocking(move || kafka.watermarks(topic, partition)).await
    }

    async fn committed(&self, group: &str, topic: Topic, partition: u32) -> Result<Option<i64>, LogError> {
        self.check(topic, partition)?;
        self.check_group(group)?;
        let (kafka, group) = (self.0.kafka.clone(), group.to_owned());
        blocking(move || kafka.committed(&group, topic, &[partition]).map(|mut offsets| offsets.remove(&partition)))
            .await
    }

    async fn progress_of(&self, groups: &[(&str, Topic)]) -> Result<Vec<Vec<Progress>>, LogError> {
        groups.iter().try_for_each(|(group, _)| self.check_group(group))?;
        let groups: Vec<_> = groups.iter().map(|(group, topic)| ((*group).to_owned(), *topic)).collect();
        let kafka = self.0.kafka.clone();
        blocking(move || kafka.progress(&groups)).await
    }

    async fn look(
        &self,
        topic: Topic,
        places: &[(u32, i64)],
        limit: FetchLimit,
    ) -> Result<Vec<Vec<Message>>, LogError> {
        for (partition, _) in places {
            self.check(topic, *partition)?;
        }
        let (kafka, places) = (self.0.kafka.clone(), places.to_vec());
        blocking(move || kafka.look(topic, &places, limit)).await
    }

    async fn join(&self, group: &str, topic: Topic) -> Result<Box<dyn Member>, LogError> {
        self.check_group(group)?;
        let (shared, group) = (self.0.clone(), group.to_owned());
        // Setting a client up reads certificates and starts threads.
        let member = blocking(move || group::join(&shared, &group, topic)).await?;
        Ok(Box::new(member))
    }
}

/// What the group of `consumer` has committed of the partitions of `topic`; those without are left out. Blocks.
fn committed<C: rdkafka::consumer::ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: &[u32],
) -> Result<HashMap<u32, i64>, LogError> {
    let mut asked = TopicPartitionList::new();
    for partition in partitions {
        asked.add_partition(topic, native(*partition));
    }
    let failed = |error: KafkaError| errors::unavailable("ask for the committed offsets", &error);
    let answer = consumer.committed_offsets(asked, PATIENCE).and_then(|answer| offsets(&answer)).map_err(failed)?;
    Ok(answer.into_iter().map(|(_, partition, offset)| (partition, offset)).collect())
}

/// Topic, partition and offset of each place in what brokers answered; those without an offset are left out.
fn offsets(answer: &TopicPartitionList) -> Result<Vec<(String, u32, i64)>, KafkaError> {
    let mut offsets = Vec::new();
    for place in answer.elements() {
        place.error()?;
        if let (Offset::Offset(offset), Ok(partition)) = (place.offset(), u32::try_from(place.partition())) {
            offsets.push((place.topic().to_owned(), partition, offset));
        }
    }
    Ok(offsets)
}

/// A partition's number as Kafka has it.
fn native(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

/// Runs what waits for a broker off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
}
