//! What can be chosen about the log on Kafka.

use super::{RegistryUrl, void::MARGIN};
use crate::{
    log::{LogError, Topic},
    world::{SystemWorld, World},
};
use std::{fmt, str::FromStr, sync::Arc, time::Duration};
use tributary_schemas::identity::Lanes;

/// Choices for the log on Kafka; `..Options::default()` for the rest.
#[derive(Debug, Clone)]
pub struct Options {
    /// The brokers to ask first: `host:port`, separated by commas.
    pub brokers: String,
    /// What the names of topics and of consumer groups begin with, so that several logs can share a cluster, and one
    /// prefixed access rule covers all of a log. Default: nothing.
    pub prefix: String,
    /// Partitions of the topic `records`; of `rejects`, `batch-events` and `attachments` too, up to 16 of them, and
    /// `dead-letters` has one. Default: 4 partitions, spread 1. Topics that are there with another number are refused.
    pub lanes: Lanes,
    /// Copies of each partition. Default: the cluster's own default, unchecked. With 3, any one broker may be lost.
    pub replication: Option<u16>,
    /// Copies that must have a message before it is acknowledged. Default: the cluster's own default, unchecked. With
    /// 2 of 3, nothing acknowledged is lost with any one broker, and one may be down without stopping appends.
    pub min_insync_replicas: Option<u16>,
    /// How long messages are kept. Default 7 days. Kafka drops what is older whether or not it was consumed, so this
    /// must exceed the longest time that the pipeline may stand still.
    pub retention_age: Duration,
    /// Bytes kept of each partition. Default: no bound. Beyond it the oldest are dropped, consumed or not. Dead letters
    /// have no such bound.
    pub retention_bytes: Option<u64>,
    /// How long dead letters are kept, replayed or not. Default: for ever, for one that is dropped while it is open is a
    /// record that nobody can replay any more.
    pub dead_letter_retention_age: Option<Duration>,
    /// The largest message, with key and framing, in bytes. Default 8 MiB, which a record of the largest body fits.
    pub max_message_bytes: usize,
    /// How messages are compressed on the wire and on the brokers' disks. Default LZ4: little CPU here.
    pub compression: Compression,
    /// How long a message waits for others to share a request with. Default 50 ms: a seventh cheaper than 20 ms where
    /// there is much to do. Shorter: a quicker answer to a lonely sender.
    pub linger: Duration,
    /// Bytes of messages, counted with 256 bytes each for bookkeeping, that may wait for the brokers' acknowledgement.
    /// Default 32 MiB. Beyond it an append fails with [`LogError::Unavailable`] after [`Self::queue_wait`].
    pub queue_bytes: usize,
    /// How long an append waits for room in the queue, of the time that it has. Default 500 ms, which evens out bursts.
    pub queue_wait: Duration,
    /// How long an append is tried before it is void, after which it fails with [`LogError::Unavailable`]. Default 10 s,
    /// which outlives most changes of a partition's leader; a sender whose request took part in it is told soon after.
    pub append_timeout: Duration,
    /// Bytes that are fetched ahead of a reader, for each partition of `records`, and for all partitions together of each
    /// other topic. Default 4 MiB. Larger: fewer waits when catching up; this much memory may be held.
    pub prefetch_bytes: usize,
    /// After this long without a sign of life a member's partitions go to others. Default 6 s, Kafka's least.
    /// Shorter: a quicker recovery from a crash; longer: fewer false alarms.
    pub session_timeout: Duration,
    /// How long a member may hold on to a partition that was revoked. Default 30 s. Then it is taken away, and what
    /// was being done with it is done again by the next owner.
    pub release_grace: Duration,
    /// How long opening waits for the brokers to answer. Default 30 s.
    pub start_timeout: Duration,
    /// Further properties of librdkafka: TLS, SASL, and what else there is.
    pub properties: Properties,
    /// Time, until a broker has told its own.
    pub world: Arc<dyn World>,
    /// The registry that has the topics' schemas. Messages are then in the Confluent wire format, which other tools
    /// read, and no process can start without it. Default: none, and single-object encoding, which needs nobody else.
    /// Messages of both are read in any case.
    pub schema_registry: Option<RegistryUrl>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            prefix: String::new(),
            lanes: Lanes { partitions: 4, spread: 1 },
            replication: None,
            min_insync_replicas: None,
            retention_age: Duration::from_secs(7 * 24 * 3_600),
            retention_bytes: None,
            dead_letter_retention_age: None,
            max_message_bytes: 8 << 20,
            compression: Compression::Lz4,
            linger: Duration::from_millis(50),
            queue_bytes: 32 << 20,
            queue_wait: Duration::from_millis(500),
            append_timeout: Duration::from_secs(10),
            prefetch_bytes: 4 << 20,
            session_timeout: Duration::from_secs(6),
            release_grace: Duration::from_secs(30),
            start_timeout: Duration::from_secs(30),
            properties: Properties::default(),
            world: Arc::new(SystemWorld),
            schema_registry: None,
        }
    }
}

/// Partitions of a topic that is read into the tables, at most: more processes than these are seldom, and each costs a
/// reader.
const MOST_SMALL: u32 = 16;

impl Options {
    /// How long after it has begun nothing of an append comes to pass any more: until it is void by the clock of any broker.
    pub fn settles_within(&self) -> Duration {
        self.append_timeout + MARGIN
    }

    /// Number of partitions of `topic`.
    pub(super) fn partitions(&self, topic: Topic) -> u32 {
        match topic {
            Topic::Records => self.lanes.partitions,
            // So that all processes that have lanes share in what their lanes say.
            Topic::Rejects | Topic::BatchEvents | Topic::Attachments => self.lanes.partitions.min(MOST_SMALL),
            // They are few, and one reader has them in the order in which they came.
            Topic::DeadLetters => 1,
        }
    }

    /// Bytes that are fetched ahead of the reader of a partition of `topic`.
    pub(super) fn prefetch(&self, topic: Topic) -> usize {
        if topic == Topic::Records {
            self.prefetch_bytes
        } else {
            self.prefetch_bytes / self.partitions(topic) as usize
        }
    }

    /// The topic's name on the cluster.
    pub(super) fn topic(&self, topic: Topic) -> String {
        format!("{}{}", self.prefix, topic.name())
    }

    /// The group's name on the cluster.
    pub(super) fn group(&self, group: &str) -> String {
        format!("{}{group}", self.prefix)
    }

    /// Refuses what could never work, before any broker is asked.
    pub(super) fn check(&self) -> Result<(), LogError> {
        let halted = |reason: String| Err(LogError::Halted(reason));
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.brokers.trim().is_empty() {
            return halted("no Kafka broker is named".to_owned());
        }
        if !self.prefix.chars().all(legal) || self.prefix.len() > 200 {
            let prefix = &self.prefix;
            return halted(format!(
                "Kafka does not take {prefix:?} as the beginning of a name: up to 200 of [A-Za-z0-9._-]"
            ));
        }
        if self.lanes.partitions == 0 || self.queue_bytes == 0 || self.prefetch_bytes == 0 {
            return halted("partitions, queue size and prefetch size must be at least 1".to_owned());
        }
        if self.max_message_bytes < 1_024 || self.max_message_bytes > 256 << 20 {
            return halted(format!(
                "a largest message of {} bytes: from 1 KiB to 256 MiB are possible",
                self.max_message_bytes
            ));
        }
        if let (Some(least), Some(copies)) = (self.min_insync_replicas, self.replication)
            && (least > copies || least == 0)
        {
            return halted(format!("{least} of {copies} copies can never be in sync"));
        }
        Ok(())
    }
}

/// How messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: cheap.
    Lz4,
    /// Zstandard: smaller, for about a third more CPU here.
    Zstd,
}

impl Compression {
    /// As librdkafka calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::None, Self::Lz4, Self::Zstd].into_iter().find(|known| known.name() == text);
        known.ok_or_else(|| format!("{text:?} is none of none, lz4, zstd"))
    }
}

/// Properties of librdkafka, passed through. Their values may be secrets and are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, String)>);

/// What the log's promises rest on.
const OURS: [&str; 20] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "check.crcs",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "max.poll.interval.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "request.required.acks",
    "session.timeout.ms",
    "transactional.id",
    "message.max.bytes",
];

impl Properties {
    /// Adds one.
    ///
    /// # Errors
    /// In words, when the property is one that the log sets by itself.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        if OURS.contains(&name) {
            return Err(format!("the Kafka property {name} cannot be chosen: what the log promises rests on it"));
        }
        self.0.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Adds each of `list`, written `name=value`.
    ///
    /// # Errors
    /// In words, when there is no `=`, or as [`Self::add`] does.
    pub fn parse<'t>(list: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        let mut properties = Self::default();
        for text in list {
            let (name, value) = text.split_once('=').ok_or("a Kafka property is written name=value")?;
            properties.add(name.trim(), value)?;
        }
        Ok(properties)
    }

    /// Name and value of each, in the order in which they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_name_and_value_and_are_shown_without_values() {
        let properties = Properties::parse(["sasl.password=a=b", "security.protocol=SASL_SSL"]).unwrap();
        assert_eq!(
            properties.iter().collect::<Vec<_>>(),
            [("sasl.password", "a=b"), ("security.protocol", "SASL_SSL")]
        );
        assert_eq!(format!("{properties:?}"), r#"{"sasl.password", "security.protocol"}"#);
        assert!(Properties::parse(["sasl.password"]).is_err());
    }

    #[test]
    fn what_the_promises_rest_on_cannot_be_chosen() {
        for name in OURS {
            let refused = Properties::parse([format!("{name}=x").as_str()]).unwrap_err();
            assert!(refused.contains(name), "{refused}");
        }
    }

    #[test]
    fn what_can_never_work_is_refused() {
        let check = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            options.check()
        };
        assert!(check(|_| ()).is_ok());
        let wrong: [fn(&mut Options); 7] = [
            |o| o.brokers = " ".to_owned(),
            |o| o.prefix = "a/b".to_owned(),
            |o| o.lanes.partitions = 0,
            |o| o.queue_bytes = 0,
            |o| o.max_message_bytes = 10,
            |o| (o.replication, o.min_insync_replicas) = (Some(1), Some(2)),
            |o| o.prefetch_bytes = 0,
        ];
        for (n, change) in wrong.into_iter().enumerate() {
            assert!(matches!(check(change), Err(LogError::Halted(_))), "number {n}");
        }
    }

    #[test]
    fn small_topics_have_a_partition_for_each_lane_up_to_sixteen() {
        let of = |partitions, topic| {
            let options = Options { lanes: Lanes { partitions, spread: 1 }, ..Options::default() };
            (options.partitions(topic), options.prefetch(topic))
        };
        assert_eq!(of(1_000, Topic::Records), (1_000, 4 << 20));
        for topic in [Topic::Rejects, Topic::BatchEvents, Topic::Attachments] {
            assert_eq!([1, 4, 1_000].map(|lanes| of(lanes, topic)), [(1, 4 << 20), (4, 1 << 20), (16, 256 << 10)]);
        }
        assert_eq!(of(1_000, Topic::DeadLetters), (1, 4 << 20));
    }

    #[test]
    fn names_carry_the_prefix() {
        let options = Options { prefix: "eu.".to_owned(), ..Options::default() };
        assert_eq!(options.topic(Topic::DeadLetters), "eu.dead-letters");
        assert_eq!(options.group("lanes"), "eu.lanes");
    }
}
