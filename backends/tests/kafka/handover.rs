//! What librdkafka is given is what is there, whoever waits for it.

use crate::support::{LIMIT, PATIENCE, append, join, number, numbered, open, options};
use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers as _,
};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tributary_backends::log::{Append, Topic};

/// Sooner than any append is given up by itself.
const SOON: Duration = Duration::from_secs(4);

/// The first message goes by our own clock, which may be off; from then on the broker's is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_key_value_and_until_when_it_may_be_appended() {
    let options = options(1);
    let log = open(&options).await;
    append(&log, 0, 7..8).await;
    log.append_by(vec![numbered(0, 8)], Instant::now() + SOON).await.unwrap();
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).set("group.id", "raw").create().unwrap();
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(&format!("{}records", options.prefix), 0, Offset::Beginning).unwrap();
    consumer.assign(&place).unwrap();
    let given = [options.append_timeout + Duration::from_secs(60), SOON];
    for (number, given) in (7_i64..).zip(given) {
        let message = consumer.poll(PATIENCE).unwrap().unwrap();
        assert_eq!((message.key(), message.payload()), (Some(&b"key"[..]), Some(&number.to_le_bytes()[..])));
        let headers = message.headers().unwrap();
        assert_eq!((headers.count(), headers.get(0).key), (1, "not-after"));
        let not_after = i64::from_be_bytes(headers.get(0).value.unwrap().try_into().unwrap());
        let left = not_after - message.timestamp().to_millis().unwrap();
        assert!((0..=i64::try_from(given.as_millis()).unwrap()).contains(&left), "{left} ms");
    }
}

/// librdkafka reads the values where they are, after the callers have gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_whole_although_nobody_waits_for_them() {
    let options = options(1);
    let log = open(&options).await;
    append(&log, 0, 0..1).await;
    // Some of them so large that librdkafka sends them from where they are.
    let value = |n: u8| Bytes::from(vec![n; if n.is_multiple_of(8) { 200_000 } else { 3_000 }]);
    for n in 1..=200 {
        let message = Append { topic: Topic::Records, partition: 0, key: Bytes::from(vec![n; 16]), value: value(n) };
        let mut waiting = log.append(vec![message]);
        tokio::select! {
            biased;
            early = &mut waiting => panic!("{early:?} before the messages were sent"),
            () = std::future::ready(()) => {}
        }
        drop(waiting);
        // Takes memory that was freed, had it been.
        std::hint::black_box([vec![0_u8; 200_000], vec![0_u8; 3_000]]);
    }
    log.append(vec![numbered(0, -1)]).await.unwrap();
    let (_member, mut readers) = join(&log, 1).await;
    let mut read = Vec::new();
    while read.len() < 202 {
        read.extend(timeout(PATIENCE, readers.get_mut(&0).unwrap().fetch(LIMIT)).await.unwrap().unwrap());
    }
    assert_eq!((number(&read[0]), number(&read[201])), (0, -1));
    for (n, message) in (1_u8..=200).zip(&read[1..201]) {
        assert!(message.key.iter().all(|byte| *byte == n), "the key of {n}");
        assert!(message.value == value(n), "the value of {n}");
    }
}
