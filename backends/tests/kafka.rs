//! The log on a real Kafka broker, whose address is in `TRIBUTARY_TEST_KAFKA`.
//!
//! `tests/services/kafka.sh start` starts one; `just test-cluster` does both. Without a broker these tests fail: they
//! are only built with the feature `kafka`, so whoever builds them wants them run.

#![expect(clippy::unwrap_used, reason = "tests: what fails panics")]

use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tributary_backends::log::{
    Append, Change, FetchLimit, LogError, Member, PartitionReader, RecordLog, Release, Topic,
    conformance::{self, Factory},
    kafka::{self, Compression, Options, Properties},
};
use tributary_schemas::identity::Lanes;

const PATIENCE: Duration = Duration::from_secs(30);
const LIMIT: FetchLimit = FetchLimit { max_bytes: 1 << 20, max_messages: 1_000, max_wait: PATIENCE };

fn brokers() -> String {
    let set = std::env::var("TRIBUTARY_TEST_KAFKA");
    set.expect("TRIBUTARY_TEST_KAFKA names no broker: tests/services/kafka.sh start")
}

/// Names that no other log on the broker has, neither of this run nor of another.
fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
    format!("t{}-{since}-{}.", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn options(partitions: u32) -> Options {
    Options {
        brokers: brokers(),
        prefix: prefix(),
        lanes: Lanes { partitions, spread: 1 },
        replication: Some(1),
        min_insync_replicas: Some(1),
        ..Options::default()
    }
}

async fn open(options: &Options) -> Arc<dyn RecordLog> {
    kafka::open(options.clone()).await.unwrap()
}

fn numbered(partition: u32, number: i64) -> Append {
    let value = Bytes::from(number.to_le_bytes().to_vec());
    Append { topic: Topic::Records, partition, key: Bytes::from_static(b"key"), value }
}

async fn append(log: &Arc<dyn RecordLog>, partition: u32, numbers: std::ops::Range<i64>) -> Vec<i64> {
    log.append(numbers.map(|n| numbered(partition, n)).collect()).await.unwrap()
}

type Readers = BTreeMap<u32, Box<dyn PartitionReader>>;

/// A member, once it has `count` partitions.
async fn join(log: &Arc<dyn RecordLog>, count: usize) -> (Box<dyn Member>, Readers) {
    let mut member = log.join("g", Topic::Records).await.unwrap();
    let readers = assigned(member.as_mut(), count).await;
    (member, readers)
}

async fn assigned(member: &mut dyn Member, count: usize) -> Readers {
    let mut readers = Readers::new();
    while readers.len() < count {
        match timeout(PATIENCE, member.next()).await.unwrap().unwrap() {
            Change::Assigned(reader) => assert!(readers.insert(reader.partition(), reader).is_none()),
            Change::Revoked { partition, .. } => panic!("partition {partition} is revoked, not assigned"),
        }
    }
    readers
}

async fn revoked(member: &mut dyn Member) -> (u32, Release) {
    match timeout(PATIENCE, member.next()).await.unwrap().unwrap() {
        Change::Revoked { partition, release } => (partition, release),
        Change::Assigned(reader) => panic!("partition {} is assigned, not revoked", reader.partition()),
    }
}

async fn read(reader: &mut Box<dyn PartitionReader>, count: usize) -> Vec<i64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let messages = timeout(PATIENCE, reader.fetch(LIMIT)).await.unwrap().unwrap();
        numbers.extend(messages.iter().map(|m| i64::from_le_bytes(m.value.as_ref().try_into().unwrap())));
    }
    numbers
}

/// Makes logs on one broker.
#[derive(Default)]
struct Logs {
    /// By the log's address.
    options: Mutex<BTreeMap<usize, Options>>,
}

impl Logs {
    async fn open(&self, options: Options) -> Arc<dyn RecordLog> {
        let log = open(&options).await;
        self.options.lock().unwrap().insert(address(&log), options);
        log
    }
}

fn address(log: &Arc<dyn RecordLog>) -> usize {
    Arc::as_ptr(log).cast::<()>() as usize
}

#[async_trait]
impl Factory for Logs {
    async fn fresh(&self) -> Arc<dyn RecordLog> {
        self.open(options(2)).await
    }

    async fn reopen(&self, log: Arc<dyn RecordLog>) -> Arc<dyn RecordLog> {
        let options = self.options.lock().unwrap().remove(&address(&log)).unwrap();
        drop(log);
        self.open(options).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_on_kafka_does_what_every_log_must() {
    conformance::run_all(&Logs::default()).await;
}

async fn delete_topics(options: &Options) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    let names = Topic::ALL.map(|topic| format!("{}{}", options.prefix, topic.name()));
    let deleted = admin.delete_topics(&names.each_ref().map(String::as_str), &AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_were_made_anew_are_another_log() {
    let options = options(2);
    let log = open(&options).await;
    append(&log, 0, 0..10).await;
    let id = log.id().to_owned();
    drop(log);
    delete_topics(&options).await;
    let log = open(&options).await;
    assert_ne!(log.id(), id);
    assert_eq!(append(&log, 0, 0..1).await, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_share_what_one_of_them_made() {
    let options = options(4);
    let opening = (0..10).map(|_| {
        let options = options.clone();
        tokio::spawn(async move { open(&options).await })
    });
    let mut ids = Vec::new();
    for log in opening.collect::<Vec<_>>() {
        ids.push(log.await.unwrap().id().to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_contradict_what_is_configured_are_refused() {
    let made = options(2);
    drop(open(&made).await);
    let refusal = async |change: fn(&mut Options)| {
        let mut options = made.clone();
        change(&mut options);
        match kafka::open(options).await {
            Err(LogError::Halted(reason)) => reason,
            other => panic!("not refused: {other:?}"),
        }
    };
    assert!(refusal(|o| o.lanes.partitions = 3).await.contains("records has 2 partitions, 3 are configured"));
    assert!(refusal(|o| o.retention_age *= 2).await.contains("retention.ms=604800000, 1209600000 is configured"));
    assert!(refusal(|o| o.retention_bytes = Some(1 << 30)).await.contains("retention.bytes=-1"));
    assert!(refusal(|o| o.replication = Some(2)).await.contains("has 1 copies"));
    drop(open(&made).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_at_start_and_says_why() {
    let halted = async |change: fn(&mut Options)| {
        let mut options = options(2);
        change(&mut options);
        match kafka::open(options).await {
            Err(LogError::Halted(reason)) => reason,
            other => panic!("not refused: {other:?}"),
        }
    };
    let no_such = halted(|o| o.properties = Properties::parse(["no.such.property=1"]).unwrap()).await;
    assert!(no_such.contains("no.such.property"), "{no_such}");
    let copies = halted(|o| o.replication = Some(3)).await;
    assert!(copies.contains("are there 3 brokers?"), "{copies}");
    let nobody = Options { brokers: "127.0.0.1:1".to_owned(), start_timeout: Duration::from_millis(500), ..options(2) };
    let Err(LogError::Unavailable(reason)) = kafka::open(nobody).await else { panic!("there is no broker") };
    assert!(reason.contains("127.0.0.1:1"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_halted_and_the_largest_is_not() {
    let options = Options { max_message_bytes: 2 << 20, compression: Compression::None, ..options(2) };
    let log = open(&options).await;
    let of = |len: usize| vec![Append { value: Bytes::from(vec![7; len]), ..numbered(0, 0) }];
    assert_eq!(log.append(of((2 << 20) - 600)).await.unwrap(), [0]);
    assert!(matches!(log.append(of(2 << 20)).await, Err(LogError::Halted(_))));
    let (_member, mut readers) = join(&log, 2).await;
    let messages = timeout(PATIENCE, readers.get_mut(&0).unwrap().fetch(LIMIT)).await.unwrap().unwrap();
    assert_eq!(messages[0].value.len(), (2 << 20) - 600);
}

/// Untouched lanes are not held up by one that takes its time to finish, and all that move do so in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn partitions_that_stay_are_read_while_others_are_given_up() {
    let log = open(&options(6)).await;
    let (mut first, mut readers) = join(&log, 6).await;
    let mut second = log.join("g", Topic::Records).await.unwrap();
    let mut going = Vec::new();
    for _ in 0..3 {
        going.push(revoked(first.as_mut()).await);
    }
    let mut leaving: Readers = going.iter().map(|(gone, _)| (*gone, readers.remove(gone).unwrap())).collect();
    for round in 0..5i64 {
        for (partition, reader) in &mut readers {
            append(&log, *partition, round..round + 1).await;
            let began = Instant::now();
            assert_eq!(read(reader, 1).await, [round]);
            assert!(began.elapsed() < Duration::from_secs(1), "a partition that stays had to wait");
            reader.commit(round + 1).await.unwrap();
        }
    }
    // Those that go can be finished too, before they are let go.
    for (partition, reader) in &mut leaving {
        append(&log, *partition, 0..3).await;
        read(reader, 3).await;
        reader.commit(3).await.unwrap();
    }
    let began = Instant::now();
    drop(going);
    let moved = assigned(second.as_mut(), 3).await;
    assert!(began.elapsed() < Duration::from_secs(3), "moving took {:?}", began.elapsed());
    assert!(moved.keys().eq(leaving.keys()));
    assert!(moved.values().all(|reader| reader.position() == 3));
    for reader in leaving.values_mut() {
        assert!(matches!(reader.commit(3).await, Err(LogError::Fenced { .. })));
    }
}

/// A member that does not let go is not waited for for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_partition_that_is_held_on_to_is_taken_away() {
    let log = open(&Options { release_grace: Duration::from_secs(1), ..options(2) }).await;
    append(&log, 0, 0..5).await;
    append(&log, 1, 0..5).await;
    let (mut first, mut readers) = join(&log, 2).await;
    let mut second = log.join("g", Topic::Records).await.unwrap();
    let (partition, release) = revoked(first.as_mut()).await;
    let mut held = readers.remove(&partition).unwrap();
    let mut taken = assigned(second.as_mut(), 1).await;
    assert!(matches!(held.fetch(LIMIT).await, Err(LogError::Fenced { .. })));
    assert!(matches!(held.commit(5).await, Err(LogError::Fenced { .. })));
    drop(release);
    assert_eq!(read(taken.get_mut(&partition).unwrap(), 5).await, [0, 1, 2, 3, 4]);
}

/// What the retention dropped is passed over, and said to be.
#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_at_the_low_watermark() {
    let options = options(2);
    let log = open(&options).await;
    append(&log, 0, 0..10).await;
    let (_member, mut readers) = join(&log, 2).await;
    let reader = readers.get_mut(&0).unwrap();
    assert_eq!(read(reader, 10).await.len(), 10);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&format!("{}records", options.prefix), 0, Offset::Offset(4)).unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
    assert_eq!(log.watermarks(Topic::Records, 0).await.unwrap().low, 4);
    reader.seek(2);
    assert_eq!(read(reader, 6).await, [4, 5, 6, 7, 8, 9]);
    reader.seek(50);
    let beyond = timeout(PATIENCE, reader.fetch(LIMIT)).await.unwrap();
    assert!(matches!(beyond, Err(LogError::Halted(_))), "{beyond:?}");
    assert!(matches!(reader.commit(50).await, Err(LogError::Halted(_))));
    reader.seek(9);
    assert_eq!(read(reader, 1).await, [9]);
}

/// Nothing is lost or out of order when reading far behind, with less fetched ahead than there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_long_backlog_is_read_whole() {
    const MESSAGES: i64 = 200_000;
    let log = open(&Options { prefetch_bytes: 256 << 10, ..options(2) }).await;
    for from in (0..MESSAGES).step_by(10_000) {
        append(&log, 0, from..from + 10_000).await;
    }
    let (_member, mut readers) = join(&log, 2).await;
    let began = Instant::now();
    let numbers = read(readers.get_mut(&0).unwrap(), MESSAGES as usize).await;
    assert!(numbers.into_iter().eq(0..MESSAGES));
    println!("{MESSAGES} messages read in {:?}", began.elapsed());
}
