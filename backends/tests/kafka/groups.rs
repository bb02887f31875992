//! Members and readers, beyond what every log must do.

use crate::support::*;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminOptions, NewPartitions},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tributary_backends::log::{
    Change, FetchLimit, LogError, Member, Topic,
    kafka::{self, Options, Properties},
};

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
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&format!("{}records", options.prefix), 0, Offset::Offset(4)).unwrap();
    admin(&options).delete_records(&list, &AdminOptions::new()).await.unwrap();
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

/// The lanes go on with the partitions that were written down, whoever added others to the topic.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_while_it_runs_are_told_of_and_left_alone() {
    let properties = Properties::parse(["topic.metadata.refresh.interval.ms=500"]).unwrap();
    let options = Options { properties, ..options(2) };
    let log = open(&options).await;
    let (member, mut readers) = join(&log, 2).await;
    let name = format!("{}records", options.prefix);
    let grown = admin(&options).create_partitions(&[NewPartitions::new(&name, 3)], &AdminOptions::new()).await.unwrap();
    assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    assert_eq!(log.append(Vec::new()).await.unwrap(), [0_i64; 0], "it can do all that it could");

    // Another member makes the group divide the partitions anew, the unknown one with them.
    let mut members = [member, log.join("g", Topic::Records).await.unwrap()];
    for partition in [0, 1] {
        append(&log, partition, 0..10).await;
    }
    let mut seen = BTreeMap::<u32, BTreeSet<i64>>::new();
    let reading = async {
        while seen.len() < 2 || seen.values().any(|numbers| numbers.len() < 10) {
            for member in &mut members {
                match timeout(Duration::from_millis(20), member.next()).await {
                    Ok(Ok(Change::Assigned(reader))) => drop(readers.insert(reader.partition(), reader)),
                    Ok(Ok(Change::Revoked { partition, release })) => drop((readers.remove(&partition), release)),
                    Ok(Err(error)) => panic!("{error:?}"),
                    Err(_) => {}
                }
            }
            for (partition, reader) in &mut readers {
                let limit = FetchLimit { max_wait: Duration::from_millis(20), ..LIMIT };
                match reader.fetch(limit).await {
                    Ok(messages) => seen.entry(*partition).or_default().extend(messages.iter().map(number)),
                    Err(LogError::Fenced { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    };
    timeout(PATIENCE, reading).await.unwrap();
    assert_eq!(readers.keys().copied().max(), Some(1), "the third is nobody's");
    let refused = kafka::open(options).await;
    assert!(matches!(&refused, Err(LogError::Halted(why)) if why.contains("cannot take back")), "{refused:?}");
}

/// A member knows when its part is all there, also when it is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_settled_once_it_has_its_part() {
    let log = open(&options(1)).await;
    let mut first = log.join("g", Topic::Records).await.unwrap();
    let mut settled = first.settled();
    assert!(!*settled.borrow());
    let _reader = assigned(first.as_mut(), 1).await;
    until_settled(first.as_mut(), &mut settled).await;
    let mut second = log.join("g", Topic::Records).await.unwrap();
    let mut settled = second.settled();
    until_settled(second.as_mut(), &mut settled).await;
}

async fn until_settled(member: &mut dyn Member, settled: &mut watch::Receiver<bool>) {
    let waiting = async {
        tokio::select! {
            _ = member.next() => panic!("there is nothing more for it"),
            is = settled.wait_for(|is| *is) => assert!(is.is_ok()),
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
}
