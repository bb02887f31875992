//! A process that appends is killed with SIGKILL: every acknowledged message is there afterwards, once, in order.

#![expect(clippy::unwrap_used, reason = "a test: what fails panics")]

use bytes::Bytes;
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tributary_backends::{
    log::{Append, Change, FetchLimit, RecordLog, Topic, embedded},
    world::TestWorld,
};

const DIR: &str = "TRIBUTARY_TEST_LOG_DIR";
const TEST: &str = "no_acknowledged_message_is_lost_repeated_or_out_of_order";
const CALLERS: u64 = 4;
const ROUNDS: u64 = 12;

fn open(dir: &Path) -> Arc<dyn RecordLog> {
    let options = embedded::Options { segment_bytes: 64 << 10, ..embedded::Options::default() };
    embedded::open(dir, options, Arc::new(TestWorld::new(9))).unwrap()
}

fn message(caller: u64, number: u64) -> Append {
    let mut value = [caller.to_le_bytes(), number.to_le_bytes()].concat();
    value.resize(16 + (number * 37 % 900) as usize, caller as u8);
    Append { topic: Topic::Records, partition: 0, key: Bytes::new(), value: Bytes::from(value) }
}

/// What the killed process runs: the same test, told by its environment that it is the child. Appends until it is
/// killed and says which messages were acknowledged.
async fn child(dir: &Path) {
    let log = open(dir);
    let start: u64 = std::env::var("TRIBUTARY_TEST_START").unwrap().parse().unwrap();
    let callers = (0..CALLERS).map(|caller| {
        let log = log.clone();
        tokio::spawn(async move {
            for number in (start..).step_by(3) {
                let messages = (number..number + 3).map(|number| message(caller, number)).collect();
                log.append(messages).await.unwrap();
                let mut out = std::io::stdout();
                // One write, so that lines of several callers do not mix.
                out.write_all(format!("acknowledged {caller} {}\n", number + 3).as_bytes()).unwrap();
                out.flush().unwrap();
            }
        })
    });
    futures::future::join_all(callers).await;
}

fn spawn(dir: &Path, start: u64, crash_at: Option<String>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", TEST, "--nocapture"]).env(DIR, dir);
    command.env("TRIBUTARY_TEST_START", start.to_string()).stdout(Stdio::piped());
    command.envs(crash_at.map(|point| ("TRIBUTARY_CRASH_AT", point)));
    command.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_message_is_lost_repeated_or_out_of_order() {
    if let Some(dir) = std::env::var_os(DIR) {
        return child(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let world = TestWorld::new(20);
    let mut acknowledged = Vec::<[u64; CALLERS as usize]>::new();
    for round in 0..ROUNDS {
        // Every third round dies just before a sync, every third just after one, the others wherever they are.
        let nth = 2 + world.next_u64() % 20;
        let crash_at = match round % 3 {
            0 => Some(format!("log.append.before_sync:{nth}")),
            1 => Some(format!("log.append.after_sync:{nth}")),
            _ => None,
        };
        let lines = if crash_at.is_some() { u64::MAX } else { 1 + world.next_u64() % 60 };
        let mut child = spawn(dir.path(), round * 1_000_000, crash_at);
        let mut of_round = [round * 1_000_000; CALLERS as usize];
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((_, rest)) = line.split_once("acknowledged ") else { continue };
            let (caller, next) = rest.split_once(' ').unwrap();
            of_round[caller.parse::<usize>().unwrap()] = next.parse().unwrap();
            seen += 1;
            if seen == lines {
                child.kill().unwrap();
            }
        }
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9), "round {round}");
        acknowledged.push(of_round);
        check(dir.path(), &acknowledged).await;
    }
}

async fn check(dir: &Path, acknowledged: &[[u64; CALLERS as usize]]) {
    let log = open(dir);
    let high = log.watermarks(Topic::Records, 0).await.unwrap().high;
    let mut member = log.join("check", Topic::Records).await.unwrap();
    let mut reader = loop {
        match member.next().await.unwrap() {
            Change::Assigned(reader) if reader.partition() == 0 => break reader,
            _ => {}
        }
    };
    let mut next: Vec<_> = (0..acknowledged.len() as u64).map(|round| [round * 1_000_000; CALLERS as usize]).collect();
    let limit = FetchLimit { max_bytes: 1 << 20, max_messages: 1_000, max_wait: Duration::from_secs(10) };
    while reader.position() < high {
        for read in reader.fetch(limit).await.unwrap() {
            let word = |at: usize| u64::from_le_bytes(read.value[at..at + 8].try_into().unwrap());
            let (caller, number) = (word(0), word(8));
            let expected = &mut next[(number / 1_000_000) as usize][caller as usize];
            assert_eq!(number, *expected, "caller {caller}: nothing missing, repeated or out of order");
            assert_eq!(read.value, message(caller, number).value);
            *expected += 1;
        }
    }
    for (round, (there, told)) in next.iter().zip(acknowledged).enumerate() {
        assert!(there.iter().zip(told).all(|(there, told)| there >= told), "round {round}: {there:?} < {told:?}");
    }
}
