//! Messages that came to the broker after their append had failed: nobody reads them, and nobody waits for them.

use crate::support::{LIMIT, PATIENCE, append, join, number, open, options};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use std::{sync::Arc, time::Duration};
use tributary_backends::{
    log::{FetchLimit, Topic, kafka::Options},
    world::TestWorld,
};

/// As another process sends one that may be appended until the millisecond `not_after`.
async fn send(options: &Options, value: i64, not_after: i64) {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    let headers = OwnedHeaders::new().insert(Header { key: "not-after", value: Some(&not_after.to_be_bytes()) });
    let (topic, value) = (format!("{}records", options.prefix), value.to_le_bytes());
    let record = FutureRecord::to(&topic).partition(0).headers(headers).key("key").payload(&value[..]);
    producer.send(record, PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_too_late_is_passed_over_and_holds_nothing_up() {
    let options = options(1);
    let log = open(&options).await;
    append(&log, 0, 0..2).await;
    send(&options, -1, 1_000).await;
    send(&options, 2, i64::MAX).await;
    for late in -4..-1 {
        send(&options, late, 1_000).await;
    }
    let (_member, mut readers) = join(&log, 1).await;
    let reader = readers.get_mut(&0).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(reader.fetch(LIMIT).await.unwrap().iter().map(|message| (message.offset, number(message))));
    }
    assert_eq!(seen, [(0, 0), (1, 1), (3, 2)]);
    // What was read is done, and with it what has to be passed over.
    let brief = FetchLimit { max_wait: Duration::from_millis(50), ..LIMIT };
    while reader.position() < 7 {
        assert!(reader.fetch(brief).await.unwrap().is_empty());
    }
    reader.commit(4).await.unwrap();
    assert_eq!(log.committed("g", Topic::Records, 0).await.unwrap(), Some(7));
    // Nobody commits after those that come alone.
    send(&options, -5, 1_000).await;
    while log.committed("g", Topic::Records, 0).await.unwrap() != Some(8) {
        assert!(reader.fetch(brief).await.unwrap().is_empty());
    }
    let progress = log.progress("g", Topic::Records).await.unwrap();
    assert_eq!((progress[0].done, progress[0].high), (8, 8));
    // And what is appended in time is read again.
    append(&log, 0, 9..10).await;
    assert_eq!(reader.fetch(LIMIT).await.unwrap().iter().map(number).collect::<Vec<_>>(), [9]);
}

/// Whoever writes to a topic names its headers as he likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_whose_name_is_no_text_stops_nobody() {
    let options = options(1);
    let log = open(&options).await;
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    #[expect(unsafe_code, reason = "there is no other way to a name that is no text")]
    // SAFETY: only its bytes are looked at, by librdkafka.
    let name = unsafe { std::str::from_utf8_unchecked(std::hint::black_box(&[0xff, 0xfe])) };
    let headers = OwnedHeaders::new().insert(Header { key: name, value: Some("x") });
    let (topic, value) = (format!("{}records", options.prefix), 7_i64.to_le_bytes());
    let record = FutureRecord::to(&topic).partition(0).headers(headers).key("key").payload(&value[..]);
    producer.send(record, PATIENCE).await.unwrap();
    let looked = log.look(Topic::Records, &[(0, 0)], LIMIT).await.unwrap();
    assert_eq!(looked[0].iter().map(number).collect::<Vec<_>>(), [7]);
    let (_member, mut readers) = join(&log, 1).await;
    let read = readers.get_mut(&0).unwrap().fetch(LIMIT).await.unwrap();
    assert_eq!(read.iter().map(number).collect::<Vec<_>>(), [7]);
}

/// A process whose clock is wrong learns the brokers' before anybody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_months_behind_or_ahead_makes_nothing_late() {
    let world = TestWorld::new(1);
    for micros in [TestWorld::START_MICROS, 4 * TestWorld::START_MICROS] {
        world.set_micros(micros);
        let options = Options { world: Arc::new(world.clone()), ..options(2) };
        let log = open(&options).await;
        for partition in [0, 1, 0, 1] {
            append(&log, partition, 0..3).await;
        }
        let (_member, mut readers) = join(&log, 2).await;
        for reader in readers.values_mut() {
            let mut seen = Vec::new();
            while seen.len() < 6 {
                seen.extend(reader.fetch(LIMIT).await.unwrap().iter().map(number));
            }
            assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
        }
    }
}
