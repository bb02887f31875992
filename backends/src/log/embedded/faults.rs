//! Damage, full disks and failing syncs: what was acknowledged is there, or the error names where it is not.

use super::*;
use crate::{
    log::{Change, FetchLimit, Message},
    world::TestWorld,
};
use bytes::Bytes;
use proptest::prelude::*;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const LIMIT: FetchLimit = FetchLimit { max_bytes: 1 << 20, max_messages: 1_000, max_wait: Duration::from_secs(10) };
const SEGMENT: &str = "records-0/00000000000000000000.log";

fn records(values: &[Vec<u8>]) -> Vec<Append> {
    let record = |value: &Vec<u8>| Append {
        topic: Topic::Records,
        partition: 0,
        key: Bytes::from_static(b"key"),
        value: Bytes::copy_from_slice(value),
    };
    values.iter().map(record).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// All messages of partition 0 of `records`, or the error on the way to them.
async fn read_all(log: &dyn RecordLog) -> Result<Vec<Message>, LogError> {
    let high = log.watermarks(Topic::Records, 0).await?.high;
    let mut member = log.join("g", Topic::Records).await?;
    let mut reader = loop {
        match member.next().await? {
            Change::Assigned(reader) if reader.partition() == 0 => break reader,
            _ => {}
        }
    };
    let mut messages = Vec::new();
    while reader.position() < high {
        messages.extend(reader.fetch(LIMIT).await?);
    }
    Ok(messages)
}

fn open_at(dir: &Path, segment_bytes: u64) -> Result<Arc<dyn RecordLog>, LogError> {
    open(dir, Options { segment_bytes, ..Options::default() }, Arc::new(TestWorld::new(3)))
}

/// What is done to the newest segment.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Flip(usize, u8),
    Cut(usize),
    Zero(usize),
    Garbage(usize),
}

impl Harm {
    fn apply(self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at % len] ^= 1 << (bit % 8),
            Self::Cut(at) => bytes.truncate(at % len),
            Self::Zero(at) => bytes[at % len..].fill(0),
            Self::Garbage(n) => bytes.extend((0..n % 200).map(|i| (i * 37 + n) as u8)),
        }
    }
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        any::<usize>().prop_map(Harm::Cut),
        any::<usize>().prop_map(Harm::Zero),
        (1usize..100_000).prop_map(Harm::Garbage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Everything here was acknowledged: it comes back as it was, or an error names the file and the place.
    #[test]
    fn no_harm_changes_or_drops_what_was_acknowledged(
        groups in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6), 1..6),
        harm in harm(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let outcome: Result<Vec<Message>, LogError> = runtime().block_on(async {
            let log = open_at(dir.path(), 1 << 20).unwrap();
            for group in &groups {
                log.append(records(group)).await.unwrap();
            }
            drop(log);
            let path = dir.path().join(SEGMENT);
            let mut bytes = std::fs::read(&path).unwrap();
            harm.apply(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            read_all(open_at(dir.path(), 1 << 20)?.as_ref()).await
        });
        match outcome {
            Ok(messages) => {
                let values: Vec<Vec<u8>> = messages.iter().map(|m| m.value.to_vec()).collect();
                prop_assert_eq!(values, groups.concat());
            }
            Err(LogError::Corrupt { file, .. }) => prop_assert!(file.ends_with(SEGMENT)),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    /// With the mark as old as a power loss may leave it, only the last group may go, from one place on.
    #[test]
    fn an_old_mark_lets_only_the_last_group_be_cut(
        groups in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6), 2..6),
        harm in harm(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let acknowledged: usize = groups[..groups.len() - 1].iter().map(Vec::len).sum();
        let outcome: Result<Vec<Message>, LogError> = runtime().block_on(async {
            let mut mark = Vec::new();
            let log = open_at(dir.path(), 1 << 20).unwrap();
            for group in &groups {
                mark = std::fs::read(dir.path().join("records-0/mark")).unwrap();
                log.append(records(group)).await.unwrap();
            }
            drop(log);
            std::fs::write(dir.path().join("records-0/mark"), mark).unwrap();
            let path = dir.path().join(SEGMENT);
            let mut bytes = std::fs::read(&path).unwrap();
            harm.apply(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            read_all(open_at(dir.path(), 1 << 20)?.as_ref()).await
        });
        match outcome {
            Ok(messages) => {
                let values: Vec<Vec<u8>> = messages.iter().map(|m| m.value.to_vec()).collect();
                prop_assert!(values.len() >= acknowledged);
                prop_assert_eq!(&values[..], &groups.concat()[..values.len()]);
            }
            Err(LogError::Corrupt { file, .. }) => prop_assert!(file.ends_with(SEGMENT)),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

#[tokio::test]
async fn a_flipped_byte_in_a_sealed_segment_is_found_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_at(dir.path(), 500).unwrap();
    for n in 0..10u8 {
        log.append(records(&[vec![n; 200]])).await.unwrap();
    }
    drop(log);
    let path = dir.path().join(SEGMENT);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[frame::FILE_HEADER + 150] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let log = open_at(dir.path(), 500).unwrap();
    let Err(LogError::Corrupt { file, at, .. }) = read_all(log.as_ref()).await else { panic!("corrupt") };
    assert_eq!((file, at), (path, frame::FILE_HEADER as u64));
}

#[tokio::test]
async fn a_missing_segment_is_noticed() {
    for missing in ["oldest", "newest"] {
        let dir = tempfile::tempdir().unwrap();
        let log = open_at(dir.path(), 500).unwrap();
        for n in 0..10u8 {
            log.append(records(&[vec![n; 200]])).await.unwrap();
        }
        drop(log);
        let mut segments: Vec<_> =
            std::fs::read_dir(dir.path().join("records-0")).unwrap().map(|e| e.unwrap().path()).collect();
        segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        segments.sort();
        let gone = if missing == "oldest" { segments.first() } else { segments.last() };
        std::fs::remove_file(gone.unwrap()).unwrap();
        assert!(matches!(open_at(dir.path(), 500), Err(LogError::Corrupt { .. })), "{missing}");
    }
}

/// A disk whose next write or sync fails.
#[derive(Debug, Default)]
struct FaultyDisk {
    write: AtomicBool,
    sync: AtomicBool,
    broken: AtomicBool,
}

impl FaultyDisk {
    fn fail(&self, which: &AtomicBool) -> io::Result<()> {
        let broken = self.broken.load(Ordering::SeqCst);
        let kind = if broken { io::ErrorKind::Other } else { io::ErrorKind::StorageFull };
        if which.swap(false, Ordering::SeqCst) { Err(kind.into()) } else { Ok(()) }
    }
}

impl Disk for FaultyDisk {
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.fail(&self.write) {
            // Part of it arrives, as on a disk that fills up.
            RealDisk.write(file, &bytes[..bytes.len() / 3])?;
            return Err(error);
        }
        RealDisk.write(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.fail(&self.sync)?;
        RealDisk.sync(file)
    }
}

fn open_on(dir: &Path, disk: &Arc<FaultyDisk>) -> EmbeddedLog {
    EmbeddedLog::open(dir, Options::default(), Arc::new(TestWorld::new(3)), disk.clone()).unwrap()
}

#[tokio::test]
async fn a_full_disk_fails_the_append_and_the_log_goes_on_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let log = open_on(dir.path(), &disk);
    assert_eq!(log.append(records(&[vec![1]])).await.unwrap(), [0]);
    for which in [&disk.write, &disk.sync] {
        which.store(true, Ordering::SeqCst);
        assert!(matches!(log.append(records(&[vec![9], vec![9]])).await, Err(LogError::Full(_))));
    }
    assert_eq!(log.append(records(&[vec![2]])).await.unwrap(), [1]);
    drop(log);
    let messages = read_all(&open_on(dir.path(), &disk)).await.unwrap();
    assert_eq!(messages.iter().map(|m| m.value[0]).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_failed_sync_halts_appends_and_keeps_what_was_durable() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let log = open_on(dir.path(), &disk);
    log.append(records(&[vec![1]])).await.unwrap();
    assert_eq!(log.append(Vec::new()).await.unwrap(), Vec::<i64>::new());
    disk.broken.store(true, Ordering::SeqCst);
    disk.sync.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(matches!(log.append(records(&[vec![9]])).await, Err(LogError::Halted(_))));
    }
    assert!(matches!(log.append(Vec::new()).await, Err(LogError::Halted(_))), "it says so before anything is lost");
    assert_eq!(read_all(&log).await.unwrap().len(), 1, "reading goes on");
    drop(log);
    let log = open_on(dir.path(), &disk);
    assert_eq!(log.append(records(&[vec![2]])).await.unwrap(), [1]);
    assert_eq!(read_all(&log).await.unwrap().iter().map(|m| m.value[0]).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn retention_drops_only_what_every_known_group_has_consumed() {
    let dir = tempfile::tempdir().unwrap();
    let world = TestWorld::new(3);
    let options = || Options {
        segment_bytes: 500,
        retention_bytes: 1_000,
        groups: vec![("g".to_owned(), Topic::Records)],
        ..Options::default()
    };
    let log = open(dir.path(), options(), Arc::new(world.clone())).unwrap();
    for n in 0..10u8 {
        // A clock that jumps back does not make messages older.
        world.step_back(Duration::from_secs(60));
        log.append(records(&[vec![n; 200]])).await.unwrap();
    }
    assert!(read_all(log.as_ref()).await.unwrap().is_sorted_by_key(|m| m.appended_at));
    assert_eq!(log.watermarks(Topic::Records, 0).await.unwrap().low, 0, "nothing is consumed yet");
    let mut member = log.join("g", Topic::Records).await.unwrap();
    let mut reader = loop {
        match member.next().await.unwrap() {
            Change::Assigned(reader) if reader.partition() == 0 => break reader,
            _ => {}
        }
    };
    reader.commit(5).await.unwrap();
    drop((reader, member, log));
    // Retention looks when the log is opened, before it takes its first append.
    let log = open(dir.path(), options(), Arc::new(world)).unwrap();
    log.append(records(&[vec![10; 200]])).await.unwrap();
    let low = log.watermarks(Topic::Records, 0).await.unwrap().low;
    assert!((1..=5).contains(&low), "low watermark {low}");
    assert_eq!(read_all(log.as_ref()).await.map(|m| m.len()).ok(), Some((11 - low.max(5)) as usize));
}
