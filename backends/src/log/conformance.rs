//! What every `RecordLog` must do, as one suite that takes a factory of logs.
//!
//! Written against the port alone. Each property gets a fresh log, so that they can run in any order; what fails
//! panics. The topic `records` must have at least 2 partitions in the logs that the factory makes.

#![expect(clippy::unwrap_used, reason = "a suite of tests: what fails panics")]

use super::{Append, Change, FetchLimit, LogError, Member, Message, PartitionReader, RecordLog, Release, Topic};
use async_trait::async_trait;
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

mod onlookers;
mod waiting;
pub use onlookers::{
    onlookers_see_what_is_there_and_no_group_notices, progress_is_what_was_committed_of_what_is_there,
};
pub use waiting::{
    a_dropped_fetch_loses_nothing, a_waiting_fetch_wakes_when_something_comes,
    an_empty_fetch_waits_no_longer_than_told, waiting_ends_when_something_comes_and_takes_nothing,
};

/// Longer than anything here takes; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
const TOPIC: Topic = Topic::Records;

/// Makes logs.
#[async_trait]
pub trait Factory: Send + Sync {
    /// A log with empty topics and without groups.
    async fn fresh(&self) -> Arc<dyn RecordLog>;
    /// The same topics and groups once more, after everything of `log` was closed.
    async fn reopen(&self, log: Arc<dyn RecordLog>) -> Arc<dyn RecordLog>;
}

/// Holds the factory's logs to every property.
pub async fn run_all(factory: &dyn Factory) {
    a_log_keeps_its_id_and_no_other_has_it(factory).await;
    acknowledged_messages_survive_reopening(factory).await;
    reading_starts_again_at_the_committed_offset(factory).await;
    order_holds_within_a_partition(factory).await;
    callers_at_once_keep_their_own_order(factory).await;
    watermarks_follow_what_is_appended(factory).await;
    what_comes_after_its_time_is_not_appended(factory).await;
    an_empty_fetch_waits_no_longer_than_told(factory).await;
    a_waiting_fetch_wakes_when_something_comes(factory).await;
    waiting_ends_when_something_comes_and_takes_nothing(factory).await;
    a_dropped_fetch_loses_nothing(factory).await;
    a_fetch_keeps_to_its_limits(factory).await;
    seeking_goes_back_and_forth(factory).await;
    groups_do_not_touch_each_other(factory).await;
    progress_is_what_was_committed_of_what_is_there(factory).await;
    onlookers_see_what_is_there_and_no_group_notices(factory).await;
    two_members_share_and_a_lonely_one_gets_all(factory).await;
    a_former_owner_is_fenced(factory).await;
    calls_that_can_never_work_say_so(factory).await;
}

/// Offsets of one log must never be taken for those of another.
pub async fn a_log_keeps_its_id_and_no_other_has_it(factory: &dyn Factory) {
    let log = factory.fresh().await;
    let id = log.id().to_owned();
    assert_eq!(factory.reopen(log).await.id(), id);
    assert_ne!(factory.fresh().await.id(), id);
}

/// Nothing acknowledged is lost, changed, repeated or reordered by closing and opening.
pub async fn acknowledged_messages_survive_reopening(factory: &dyn Factory) {
    let mut log = factory.fresh().await;
    let mut sent = Vec::new();
    for round in 0..3u8 {
        let values: Vec<Bytes> = (0..50u8).map(|n| Bytes::from(vec![n ^ round; usize::from(n) * 40])).collect();
        log.append(values.iter().map(|value| message(0, value.clone())).collect()).await.unwrap();
        sent.extend(values);
        log = factory.reopen(log).await;
        let (_member, mut readers) = join(&log, "g").await;
        let got = read(readers.get_mut(&0).unwrap(), sent.len()).await;
        assert_eq!(got.iter().map(|m| m.value.clone()).collect::<Vec<_>>(), sent);
        assert!(got.iter().enumerate().all(|(n, m)| m.offset == n as i64 && m.key == "key"), "offsets have no gaps");
    }
}

/// What was committed is not read again, what was not committed is.
pub async fn reading_starts_again_at_the_committed_offset(factory: &dyn Factory) {
    let mut log = factory.fresh().await;
    append(&log, 0, 0..10).await;
    assert_eq!(log.committed("g", TOPIC, 0).await.unwrap(), None);
    for from in [0, 3, 7] {
        let (member, mut readers) = join(&log, "g").await;
        let reader = readers.get_mut(&0).unwrap();
        assert_eq!(reader.position(), from);
        assert_eq!(numbers(&read(reader, 10 - from as usize).await), (from..10).collect::<Vec<_>>());
        reader.commit(if from == 0 { 3 } else { 7 }).await.unwrap();
        drop((member, readers));
        if from == 3 {
            log = factory.reopen(log).await;
        }
    }
    assert_eq!(log.committed("g", TOPIC, 0).await.unwrap(), Some(7));
}

/// Messages are read in the order in which they were appended, partition by partition.
pub async fn order_holds_within_a_partition(factory: &dyn Factory) {
    let log = factory.fresh().await;
    for n in 0..100 {
        let offsets = log.append(vec![numbered(1, 2 * n), numbered(0, n), numbered(1, 2 * n + 1)]).await.unwrap();
        assert_eq!(offsets, [2 * n, n, 2 * n + 1]);
    }
    let (_member, mut readers) = join(&log, "g").await;
    assert_eq!(numbers(&read(readers.get_mut(&0).unwrap(), 100).await), (0..100).collect::<Vec<_>>());
    let read = read(readers.get_mut(&1).unwrap(), 200).await;
    assert_eq!(numbers(&read), (0..200).collect::<Vec<_>>());
    assert!(read.is_sorted_by_key(|m| m.appended_at), "time does not go back");
}

/// Of many callers at once each finds its messages in its own order, at the offsets that it was told.
pub async fn callers_at_once_keep_their_own_order(factory: &dyn Factory) {
    const CALLERS: i64 = 8;
    const CALLS: i64 = 25;
    let log = factory.fresh().await;
    let caller = |caller: i64| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut told = Vec::new();
            for call in 0..CALLS {
                let numbers = [caller * 1_000 + 2 * call, caller * 1_000 + 2 * call + 1];
                let offsets = log.append(numbers.map(|n| numbered(0, n)).to_vec()).await.unwrap();
                told.extend(offsets.into_iter().zip(numbers));
            }
            told
        })
    };
    let mut told = BTreeMap::new();
    for task in (0..CALLERS).map(caller).collect::<Vec<_>>() {
        let of_caller = task.await.unwrap();
        assert!(of_caller.is_sorted(), "the order of one caller holds");
        told.extend(of_caller);
    }
    let (_member, mut readers) = join(&log, "g").await;
    let read = read(readers.get_mut(&0).unwrap(), (CALLERS * CALLS * 2) as usize).await;
    assert_eq!(read.iter().map(|m| (m.offset, number(m))).collect::<BTreeMap<_, _>>(), told);
}

/// `low..high` is what can be read, of each partition by itself.
pub async fn watermarks_follow_what_is_appended(factory: &dyn Factory) {
    let log = factory.fresh().await;
    let marks = async |log: &Arc<dyn RecordLog>, partition| {
        let marks = log.watermarks(TOPIC, partition).await.unwrap();
        (marks.low, marks.high)
    };
    assert_eq!(marks(&log, 0).await, (0, 0));
    append(&log, 0, 0..7).await;
    assert_eq!((marks(&log, 0).await, marks(&log, 1).await), ((0, 7), (0, 0)));
    let log = factory.reopen(log).await;
    assert_eq!((marks(&log, 0).await, marks(&log, 1).await), ((0, 7), (0, 0)));
    let (_member, readers) = join(&log, "g").await;
    let of_reader = readers[&0].watermarks().await.unwrap();
    assert_eq!((of_reader.low, of_reader.high), (0, 7));
}

/// Neither more messages nor more bytes than asked, but one message whatever its size.
pub async fn a_fetch_keeps_to_its_limits(factory: &dyn Factory) {
    let log = factory.fresh().await;
    let big = Bytes::from(vec![7; 300_000]);
    log.append((0..6).map(|_| message(0, big.clone())).collect()).await.unwrap();
    let (_member, mut readers) = join(&log, "g").await;
    let reader = readers.get_mut(&0).unwrap();
    for (max_bytes, max_messages, most) in [(1, 10, 1), (700_000, 10, 2), (usize::MAX, 3, 3)] {
        let limit = FetchLimit { max_bytes, max_messages, max_wait: PATIENCE };
        let read = timeout(PATIENCE, reader.fetch(limit)).await.unwrap().unwrap();
        assert!((1..=most).contains(&read.len()), "{} messages for {max_bytes} bytes", read.len());
        assert!(read.iter().all(|m| m.value == big));
    }
}

/// The position can be put anywhere.
pub async fn seeking_goes_back_and_forth(factory: &dyn Factory) {
    let log = factory.fresh().await;
    append(&log, 0, 0..1_000).await;
    let (_member, mut readers) = join(&log, "g").await;
    let reader = readers.get_mut(&0).unwrap();
    for offset in [900, 0, 999, 500, 501, 1] {
        reader.seek(offset);
        assert_eq!(reader.position(), offset);
        let read = read(reader, 1).await;
        assert_eq!((read[0].offset, number(&read[0])), (offset, offset));
    }
    reader.seek(-5);
    assert_eq!(read(reader, 1).await[0].offset, 0, "below the low watermark reading starts at it");
}

/// Each group reads everything, and has committed offsets of its own.
pub async fn groups_do_not_touch_each_other(factory: &dyn Factory) {
    let log = factory.fresh().await;
    append(&log, 0, 0..5).await;
    for group in ["a", "b"] {
        let (_member, mut readers) = join(&log, group).await;
        let reader = readers.get_mut(&0).unwrap();
        assert_eq!(numbers(&read(reader, 5).await), [0, 1, 2, 3, 4]);
        reader.commit(if group == "a" { 5 } else { 2 }).await.unwrap();
    }
    assert_eq!(log.committed("a", TOPIC, 0).await.unwrap(), Some(5));
    assert_eq!(log.committed("b", TOPIC, 0).await.unwrap(), Some(2));
    assert_eq!(log.committed("c", TOPIC, 0).await.unwrap(), None);
}

/// Partitions are divided; a joining member gets its share after the release, a lonely one everything.
pub async fn two_members_share_and_a_lonely_one_gets_all(factory: &dyn Factory) {
    let log = factory.fresh().await;
    let all = log.partitions(TOPIC) as usize;
    append(&log, 0, 0..10).await;
    let (mut first, mut readers) = join(&log, "g").await;
    assert_eq!(readers.len(), all);
    for reader in readers.values_mut() {
        if reader.watermarks().await.unwrap().high > 0 {
            read(reader, 10).await;
        }
    }
    let mut second = log.join("g", TOPIC).await.unwrap();
    let mut others = BTreeMap::new();
    while others.len() < all / 2 {
        let (partition, release) = revoked(first.as_mut()).await;
        let mut old = readers.remove(&partition).unwrap();
        // The old owner may finish its work before it lets go.
        old.commit(old.position()).await.unwrap();
        let position = old.position();
        drop(release);
        let new = assigned(second.as_mut()).await;
        assert_eq!((new.partition(), new.position()), (partition, position));
        others.insert(partition, new);
    }
    assert!(readers.len().abs_diff(others.len()) <= 1, "{} and {}", readers.len(), others.len());
    drop((first, readers));
    while others.len() < all {
        let new = assigned(second.as_mut()).await;
        assert!(others.insert(new.partition(), new).is_none(), "a partition has one owner");
    }
}

/// Who gave a partition up, or has left, can neither read it nor commit.
pub async fn a_former_owner_is_fenced(factory: &dyn Factory) {
    let log = factory.fresh().await;
    append(&log, 0, 0..10).await;
    append(&log, 1, 0..10).await;
    let (mut first, mut readers) = join(&log, "g").await;
    let mut second = log.join("g", TOPIC).await.unwrap();
    let (partition, release) = revoked(first.as_mut()).await;
    let mut old = readers.remove(&partition).unwrap();
    drop(release);
    let mut new = assigned(second.as_mut()).await;
    assert_eq!(new.partition(), partition);
    let waits = FetchLimit { max_wait: PATIENCE * 10, ..LIMIT };
    old.seek(10);
    let (fetched, waited) =
        (timeout(PATIENCE, old.fetch(waits)).await.unwrap(), timeout(PATIENCE, old.filled()).await.unwrap());
    for outcome in [fetched.map(drop), waited, old.commit(5).await] {
        assert!(matches!(outcome, Err(LogError::Fenced { topic: TOPIC, partition: p }) if p == partition));
    }
    drop(second);
    assert!(matches!(new.commit(5).await, Err(LogError::Fenced { .. })), "who left the group is fenced too");
    let committed = log.committed("g", TOPIC, partition).await.unwrap();
    assert!(matches!(committed, None | Some(0)), "at most where it began: {committed:?}");
    // What else the first was to give up it may get back too.
    drop(readers);
    loop {
        match timeout(PATIENCE, first.next()).await.unwrap().unwrap() {
            Change::Assigned(again) if again.partition() == partition => {
                assert_eq!(again.position(), 0, "nothing was committed");
                break;
            }
            Change::Assigned(_) | Change::Revoked { .. } => {}
        }
    }
}

/// Whoever was held up before its append is told, and nothing of it is there; in time it is an append like any other.
pub async fn what_comes_after_its_time_is_not_appended(factory: &dyn Factory) {
    let log = factory.fresh().await;
    append(&log, 0, 0..1).await;
    let late = log.append_by(vec![numbered(0, 1)], Instant::now()).await;
    assert!(matches!(late, Err(LogError::Unavailable(_))), "{late:?}");
    let in_time = log.append_by(vec![numbered(0, 2), numbered(0, 3)], Instant::now() + PATIENCE).await.unwrap();
    assert_eq!(in_time.len(), 2);
    let (_member, mut readers) = join(&log, "g").await;
    assert_eq!(numbers(&read(readers.get_mut(&0).unwrap(), 3).await), [0, 2, 3]);
}

/// A partition that is not there, or nothing to append.
pub async fn calls_that_can_never_work_say_so(factory: &dyn Factory) {
    let log = factory.fresh().await;
    assert_eq!(log.append(Vec::new()).await.unwrap(), Vec::<i64>::new());
    let unknown = log.partitions(TOPIC);
    assert!(matches!(log.append(vec![numbered(unknown, 1)]).await, Err(LogError::Halted(_))));
    assert!(matches!(log.watermarks(TOPIC, unknown).await, Err(LogError::Halted(_))));
}

const LIMIT: FetchLimit = FetchLimit { max_bytes: 1 << 20, max_messages: 1_000, max_wait: PATIENCE };

fn message(partition: u32, value: Bytes) -> Append {
    Append { topic: TOPIC, partition, key: Bytes::from_static(b"key"), value }
}

fn numbered(partition: u32, number: i64) -> Append {
    message(partition, Bytes::from(number.to_le_bytes().to_vec()))
}

fn number(message: &Message) -> i64 {
    i64::from_le_bytes(message.value.as_ref().try_into().unwrap())
}

fn numbers(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(number).collect()
}

async fn append(log: &Arc<dyn RecordLog>, partition: u32, numbers: std::ops::Range<i64>) {
    log.append(numbers.map(|n| numbered(partition, n)).collect()).await.unwrap();
}

/// The only member of a group, with its readers by partition.
async fn join(log: &Arc<dyn RecordLog>, group: &str) -> (Box<dyn Member>, BTreeMap<u32, Box<dyn PartitionReader>>) {
    let mut member = log.join(group, TOPIC).await.unwrap();
    let mut readers = BTreeMap::new();
    while readers.len() < log.partitions(TOPIC) as usize {
        let reader = assigned(member.as_mut()).await;
        readers.insert(reader.partition(), reader);
    }
    (member, readers)
}

async fn assigned(member: &mut dyn Member) -> Box<dyn PartitionReader> {
    match timeout(PATIENCE, member.next()).await.unwrap().unwrap() {
        Change::Assigned(reader) => reader,
        Change::Revoked { partition, .. } => panic!("partition {partition} is revoked, not assigned"),
    }
}

async fn revoked(member: &mut dyn Member) -> (u32, Release) {
    match timeout(PATIENCE, member.next()).await.unwrap().unwrap() {
        Change::Revoked { partition, release } => (partition, release),
        Change::Assigned(reader) => panic!("partition {} is assigned, not revoked", reader.partition()),
    }
}

/// The next `count` messages or more, in as many fetches as it takes.
async fn read(reader: &mut Box<dyn PartitionReader>, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let more = timeout(PATIENCE, reader.fetch(LIMIT)).await.unwrap().unwrap();
        assert!(!more.is_empty(), "{} of {count} messages came", messages.len());
        messages.extend(more);
    }
    messages
}
