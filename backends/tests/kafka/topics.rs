//! Topics: made, found again, refused.

use crate::support::*;
use bytes::Bytes;
use rdkafka::admin::{AdminOptions, NewPartitions};
use std::time::Duration;
use tokio::time::timeout;
use tributary_backends::log::{
    Append, LogError, Topic, Watermarks,
    kafka::{self, Compression, Options, Properties},
};
use tributary_schemas::identity::Lanes;

async fn delete_topics(options: &Options) {
    let names = Topic::ALL.map(|topic| format!("{}{}", options.prefix, topic.name()));
    let deleted =
        admin(options).delete_topics(&names.each_ref().map(String::as_str), &AdminOptions::new()).await.unwrap();
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
    let kept = refusal(|o| o.dead_letter_retention_age = Some(o.retention_age)).await;
    assert!(kept.contains("dead-letters has retention.ms=-1, 604800000 is configured"), "{kept}");
    assert_eq!(kept.matches("is configured").count(), 1, "of the others nothing has changed: {kept}");
    drop(open(&made).await);
}

async fn add_partitions(options: &Options, topic: Topic, count: usize) {
    let name = format!("{}{}", options.prefix, topic.name());
    let added =
        admin(options).create_partitions(&[NewPartitions::new(&name, count)], &AdminOptions::new()).await.unwrap();
    assert!(added.iter().all(Result::is_ok), "{added:?}");
}

/// Topics of an older version, in which all but `records` had one partition, are refused with what to do; what they hold stays.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_added_to_topics_that_have_fewer() {
    let old = options(1);
    let log = open(&old).await;
    let fact = Append { topic: Topic::BatchEvents, ..numbered(0, 7) };
    log.append(vec![fact.clone()]).await.unwrap();
    drop(log);
    add_partitions(&old, Topic::Records, 3).await;
    let options = Options { lanes: Lanes { partitions: 3, spread: 1 }, ..old };
    let Err(LogError::Halted(reason)) = kafka::open(options.clone()).await else { panic!("not refused") };
    for topic in [Topic::Rejects, Topic::BatchEvents, Topic::Attachments] {
        let (prefix, name) = (&options.prefix, topic.name());
        assert!(reason.contains(&format!("kafka-topics.sh --alter --topic {prefix}{name} --partitions 3")), "{reason}");
        add_partitions(&options, topic, 3).await;
    }
    let log = open(&options).await;
    assert_eq!(log.append(vec![Append { partition: 2, ..fact.clone() }, fact]).await.unwrap(), [0, 1]);
    assert_eq!(log.watermarks(Topic::BatchEvents, 0).await.unwrap(), Watermarks { low: 0, high: 2 });
    assert_eq!(log.progress("g", Topic::BatchEvents).await.unwrap().len(), 3);
    assert_eq!(log.partitions(Topic::DeadLetters), 1);
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
