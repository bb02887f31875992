//! What the tests share.

use bytes::Bytes;
use rdkafka::{ClientConfig, admin::AdminClient, client::DefaultClientContext};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::timeout;
use tributary_backends::log::{
    Append, Change, FetchLimit, Member, Message, PartitionReader, RecordLog, Release, Topic,
    kafka::{self, Options},
};
use tributary_schemas::identity::Lanes;

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const LIMIT: FetchLimit = FetchLimit { max_bytes: 1 << 20, max_messages: 1_000, max_wait: PATIENCE };

pub fn brokers() -> String {
    let set = std::env::var("TRIBUTARY_TEST_KAFKA");
    set.expect("TRIBUTARY_TEST_KAFKA names no broker: tests/services/kafka.sh start")
}

/// Names that no other log on the broker has, neither of this run nor of another.
pub fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
    format!("t{}-{since}-{}.", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn options(partitions: u32) -> Options {
    Options {
        brokers: brokers(),
        prefix: prefix(),
        lanes: Lanes { partitions, spread: 1 },
        replication: Some(1),
        min_insync_replicas: Some(1),
        ..Options::default()
    }
}

pub async fn open(options: &Options) -> Arc<dyn RecordLog> {
    kafka::open(options.clone()).await.unwrap()
}

pub fn numbered(partition: u32, number: i64) -> Append {
    let value = Bytes::from(number.to_le_bytes().to_vec());
    Append { topic: Topic::Records, partition, key: Bytes::from_static(b"key"), value }
}

pub fn number(message: &Message) -> i64 {
    i64::from_le_bytes(message.value.as_ref().try_into().unwrap())
}

pub async fn append(log: &Arc<dyn RecordLog>, partition: u32, numbers: std::ops::Range<i64>) -> Vec<i64> {
    log.append(numbers.map(|n| numbered(partition, n)).collect()).await.unwrap()
}

pub type Readers = BTreeMap<u32, Box<dyn PartitionReader>>;

/// A member, once it has `count` partitions.
pub async fn join(log: &Arc<dyn RecordLog>, count: usize) -> (Box<dyn Member>, Readers) {
    let mut member = log.join("g", Topic::Records).await.unwrap();
    let readers = assigned(member.as_mut(), count).await;
    (member, readers)
}

pub async fn assigned(member: &mut dyn Member, count: usize) -> Readers {
    let mut readers = Readers::new();
    while readers.len() < count {
        match timeout(PATIENCE, member.next()).await.unwrap().unwrap() {
            Change::Assigned(reader) => assert!(readers.insert(reader.partition(), reader).is_none()),
            Change::Revoked { partition, .. } => panic!("partition {partition} is revoked, not assigned"),
        }
    }
    readers
}

pub async fn revoked(member: &mut dyn Member) -> (u32, Release) {
    match timeout(PATIENCE, member.next()).await.unwrap().unwrap() {
        Change::Revoked { partition, release } => (partition, release),
        Change::Assigned(reader) => panic!("partition {} is assigned, not revoked", reader.partition()),
    }
}

pub async fn read(reader: &mut Box<dyn PartitionReader>, count: usize) -> Vec<i64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let messages = timeout(PATIENCE, reader.fetch(LIMIT)).await.unwrap().unwrap();
        numbers.extend(messages.iter().map(number));
    }
    numbers
}

pub fn admin(options: &Options) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap()
}

/// A broker for one test, which may kill it.
pub struct Broker {
    dir: TempDir,
    /// What the script is told.
    environment: Vec<(&'static str, &'static str)>,
    pub address: String,
    /// Encrypted, with login.
    pub secured: String,
    pid: String,
    hangs: AtomicBool,
}

impl Broker {
    pub fn start() -> Self {
        let (dir, environment, hangs) = (tempfile::tempdir().unwrap(), Vec::new(), AtomicBool::new(false));
        let none = String::new;
        let mut broker = Self { dir, environment, address: none(), secured: none(), pid: none(), hangs };
        broker.again();
        broker
    }

    fn again(&mut self) {
        let printed = self.script("start");
        let value = |name: &str| printed.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        self.address = value("TRIBUTARY_TEST_KAFKA=");
        self.secured = value("TRIBUTARY_TEST_KAFKA_TLS=");
        self.pid = value("KAFKA_PID=");
    }

    /// Kills it and starts it with its data, as the script makes it of these variables.
    pub fn change(&mut self, environment: &[(&'static str, &'static str)]) {
        self.script("kill");
        self.environment = environment.to_vec();
        self.again();
    }

    /// A file that the script has made for it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("kafka").join(name)
    }

    pub fn script(&self, verb: &str) -> String {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/services/kafka.sh");
        let mut command = Command::new(script);
        command.arg(verb).env("TRIBUTARY_SERVICES", self.dir.path()).envs(self.environment.iter().copied());
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.pid]).status().unwrap().success());
        self.hangs.store(name == "-STOP", Ordering::Relaxed);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // A process that hangs would not see that it is to end.
        if self.hangs.load(Ordering::Relaxed) {
            self.signal("-CONT");
        }
        self.script("stop");
    }
}
