//! A broker that dies, a member that wakes up too late.

use crate::support::*;
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;
use tributary_backends::log::{Change, LogError, Member, PartitionReader, RecordLog, Topic, kafka::Options};

/// Appends until told to stop; what was acknowledged, with its offset, and how often it was not.
async fn append_all_the_time(
    log: Arc<dyn RecordLog>,
    caller: i64,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> (Vec<(i64, i64)>, usize) {
    let (mut told, mut failures) = (Vec::new(), 0);
    for call in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let numbers = [caller * 1_000_000 + 2 * call, caller * 1_000_000 + 2 * call + 1];
        match log.append(numbers.map(|n| numbered(0, n)).to_vec()).await {
            Ok(offsets) => {
                told.extend(offsets.into_iter().zip(numbers));
                acknowledged.fetch_add(2, Ordering::Relaxed);
            }
            Err(LogError::Unavailable(_)) => failures += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    (told, failures)
}

async fn until(acknowledged: &AtomicUsize, count: usize) {
    let reached = async {
        while acknowledged.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE * 2, reached).await.unwrap();
}

/// The reader of partition 0 that a member gets after it had lost it, at `position`.
async fn again(member: &mut dyn Member, position: i64) -> Box<dyn PartitionReader> {
    loop {
        match timeout(PATIENCE, member.next()).await.unwrap().unwrap() {
            Change::Assigned(mut reader) if reader.partition() == 0 => {
                reader.seek(position);
                return reader;
            }
            Change::Assigned(_) | Change::Revoked { .. } => {}
        }
    }
}

/// What was acknowledged is there, at the offset that was told and nowhere else; readers and commits go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_is_killed_and_started_again_loses_nothing() {
    let broker = tokio::task::spawn_blocking(Broker::start).await.unwrap();
    let log = open(&Options { brokers: broker.address.clone(), ..options(2) }).await;
    let (mut member, mut readers) = join(&log, 2).await;
    let (acknowledged, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..4)
        .map(|caller| tokio::spawn(append_all_the_time(log.clone(), caller, acknowledged.clone(), stop.clone())))
        .collect();
    let mut goal = 500;
    for _ in 0..2 {
        until(&acknowledged, goal).await;
        broker.script("kill");
        broker.script("start");
        goal = acknowledged.load(Ordering::Relaxed) + 500;
    }
    until(&acknowledged, goal).await;
    stop.store(true, Ordering::Relaxed);
    let mut told = Vec::new();
    for caller in callers {
        let (of_caller, _) = timeout(PATIENCE, caller).await.unwrap().unwrap();
        assert!(of_caller.is_sorted(), "the order of one caller holds");
        told.extend(of_caller);
    }
    told.sort_unstable();
    // Away for longer than the session, a member may have lost its partitions and got them again.
    let reader = readers.get_mut(&0).unwrap();
    let high = log.watermarks(Topic::Records, 0).await.unwrap().high;
    let mut found = Vec::new();
    while (found.len() as i64) < high {
        match timeout(PATIENCE, reader.fetch(LIMIT)).await.unwrap() {
            Ok(messages) => found.extend(messages.iter().map(|m| (m.offset, number(m)))),
            Err(LogError::Fenced { .. }) => *reader = again(member.as_mut(), found.len() as i64).await,
            Err(error) => assert!(matches!(error, LogError::Unavailable(_)), "{error:?}"),
        }
    }
    assert!(found.iter().enumerate().all(|(n, (offset, _))| n as i64 == *offset), "offsets have no gaps");
    assert!(told.iter().all(|(offset, number)| found[*offset as usize].1 == *number), "all that was acknowledged");
    let mut numbers: Vec<_> = told.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let twice = found.len() - found.iter().map(|(_, number)| number).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!((numbers.len(), twice), (told.len(), 0), "the idempotent producer repeats nothing");
    while let Err(LogError::Fenced { .. }) = reader.commit(high).await {
        *reader = again(member.as_mut(), high).await;
    }
    assert_eq!(log.committed("g", Topic::Records, 0).await.unwrap(), Some(high));
    tokio::task::spawn_blocking(move || drop((member, readers, log, broker))).await.unwrap();
}

/// Nothing waits for ever for a broker that neither answers nor hangs up, and all goes on when it does again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_hangs_is_unavailable_in_bounded_time() {
    let broker = tokio::task::spawn_blocking(Broker::start).await.unwrap();
    let options = Options { brokers: broker.address.clone(), append_timeout: Duration::from_secs(2), ..options(2) };
    let log = open(&options).await;
    let (mut member, mut readers) = join(&log, 2).await;
    append(&log, 0, 0..10).await;
    let reader = readers.get_mut(&0).unwrap();
    assert_eq!(read(reader, 10).await.len(), 10);
    broker.signal("-STOP");
    let bound = PATIENCE;
    let (appended, marks, committed) = tokio::join!(
        timeout(bound, log.append(vec![numbered(0, 10)])),
        timeout(bound, log.watermarks(Topic::Records, 0)),
        timeout(bound, reader.commit(10)),
    );
    assert!(matches!(appended.unwrap(), Err(LogError::Unavailable(_))));
    assert!(matches!(marks.unwrap(), Err(LogError::Unavailable(_))));
    assert!(matches!(committed.unwrap(), Err(LogError::Unavailable(_) | LogError::Fenced { .. })));
    broker.signal("-CONT");
    while timeout(bound, log.append(vec![numbered(0, 11)])).await.unwrap().is_err() {}
    while let Err(error) = timeout(PATIENCE, reader.commit(10)).await.unwrap() {
        match error {
            LogError::Fenced { .. } => *reader = again(member.as_mut(), 10).await,
            error => assert!(matches!(error, LogError::Unavailable(_)), "{error:?}"),
        }
    }
    // The append that failed either has not happened, or had before its failure was told: never behind a later one.
    let mut found = Vec::new();
    while found.last() != Some(&11) {
        found.extend(timeout(PATIENCE, reader.fetch(LIMIT)).await.unwrap().unwrap().iter().map(number));
    }
    assert!(matches!(found[..], [11] | [10, 11]), "{found:?}");
    tokio::task::spawn_blocking(move || drop((member, readers, log, broker))).await.unwrap();
}

const ZOMBIE: &str = "TRIBUTARY_TEST_ZOMBIE";
/// Before each answer of the child process.
const ANSWER: &str = "zombie: ";
const ZOMBIE_TEST: &str = "faults::a_member_that_wakes_up_too_late_is_fenced";

/// What the child process runs: reads partition 0 to its end, and commits whenever it is told to.
async fn zombie(options: &Options) {
    let log = open(options).await;
    let (_member, mut readers) = join(&log, 2).await;
    let reader = readers.get_mut(&0).unwrap();
    assert_eq!(read(reader, 10).await.len(), 10);
    say("ready");
    for (line, offset) in std::io::stdin().lines().zip(3..) {
        line.unwrap();
        match reader.commit(offset).await {
            Ok(()) => say("committed"),
            Err(LogError::Fenced { .. }) => say("fenced"),
            Err(error) => say(&format!("failed {error:?}")),
        }
    }
}

fn say(answer: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{ANSWER}{answer}").unwrap();
    out.flush().unwrap();
}

struct Zombie {
    process: Child,
    told: ChildStdin,
    said: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Zombie {
    fn start(options: &Options) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", ZOMBIE_TEST, "--nocapture", "--test-threads=1"])
            .env(ZOMBIE, &options.prefix)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = process.stdin.take().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, told, said }
    }

    /// Its next answer, which may stand behind something of the test harness.
    fn answer(&mut self) -> String {
        let answer = |line: String| line.split_once(ANSWER).map(|(_, answer)| answer.to_owned());
        self.said.by_ref().map(Result::unwrap).find_map(answer).unwrap()
    }

    fn commit(&mut self) -> String {
        writeln!(self.told, "commit").unwrap();
        self.answer()
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

impl Drop for Zombie {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process that was paused for longer than its session wakes up and commits: the partition is another's by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_wakes_up_too_late_is_fenced() {
    let with = |prefix| Options { prefix, session_timeout: Duration::from_secs(2), ..options(2) };
    if let Ok(prefix) = std::env::var(ZOMBIE) {
        return zombie(&with(prefix)).await;
    }
    let options = with(prefix());
    let log = open(&options).await;
    append(&log, 0, 0..10).await;
    let mut child = Zombie::start(&options);
    assert_eq!(child.answer(), "ready");
    assert_eq!(child.commit(), "committed");
    child.signal("-STOP");
    let (_member, mut readers) = join(&log, 2).await;
    let reader = readers.get_mut(&0).unwrap();
    assert_eq!(reader.position(), 3);
    assert_eq!(read(reader, 7).await, (3..10).collect::<Vec<_>>());
    reader.commit(10).await.unwrap();
    child.signal("-CONT");
    assert_eq!(child.commit(), "fenced");
    assert_eq!(log.committed("g", Topic::Records, 0).await.unwrap(), Some(10));
}
