//! The Confluent wire format, with a schema registry.

use crate::{fake_registry::Registry, support::*};
use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;
use tributary_backends::log::{
    Append, LogError, Topic,
    kafka::{self, Options},
};
use tributary_schemas::frame::{Frame, Meaning, Reject, schema_fingerprint, single_object_datum};

fn with(registry: &str, options: Options) -> Options {
    Options { schema_registry: Some(registry.parse().unwrap()), ..options }
}

fn reject(index: u32) -> Reject {
    Reject {
        workspace: "w".into(),
        batch_id: "b".into(),
        record_index: index,
        line: None,
        received_at: 1,
        errors: Vec::new(),
        payload: "{".into(),
        payload_cut: false,
    }
}

fn message(value: Vec<u8>) -> Append {
    Append { topic: Topic::Rejects, partition: 0, key: Bytes::from_static(b"key"), value: value.into() }
}

fn encoded(index: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    reject(index).encode(&mut frame);
    frame
}

/// The values in the topic, without our log in between.
fn raw(options: &Options, topic: Topic, count: usize) -> Vec<Vec<u8>> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).set("group.id", "raw").create().unwrap();
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(&format!("{}{}", options.prefix, topic.name()), 0, Offset::Beginning).unwrap();
    consumer.assign(&place).unwrap();
    let next = || consumer.poll(PATIENCE).unwrap().unwrap().payload().unwrap().to_vec();
    std::iter::repeat_with(next).take(count).collect()
}

async fn decoded(options: &Options, count: usize) -> Vec<Result<u32, String>> {
    let log = open(options).await;
    let mut member = log.join("g", Topic::Rejects).await.unwrap();
    let mut readers = assigned(member.as_mut(), 1).await;
    let (reader, ids, mut all) = (readers.get_mut(&0).unwrap(), log.schema_ids(), Vec::new());
    while all.len() < count {
        let messages = timeout(PATIENCE, reader.fetch(LIMIT)).await.unwrap().unwrap();
        let one = |value: &[u8]| Reject::decode_as(value, &*ids).map(|one| one.record_index);
        all.extend(messages.iter().map(|message| one(&message.value).map_err(|error| error.reason)));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_hold_the_wire_format_and_both_encodings_are_read() {
    let registry = Registry::start().await;
    let plain = options(1);
    let framed = with(&registry.url(), plain.clone());
    open(&plain).await.append(vec![message(encoded(0))]).await.unwrap();
    open(&framed).await.append(vec![message(encoded(1)), message(b"neither".to_vec())]).await.unwrap();
    open(&plain).await.append(vec![message(encoded(2))]).await.unwrap();

    let subjects = registry.subjects();
    let wanted = Topic::ALL.map(|topic| format!("{}{}-value", plain.prefix, topic.name()));
    assert_eq!(subjects.keys().cloned().collect::<std::collections::BTreeSet<_>>(), wanted.clone().into());
    let id = subjects[&format!("{}rejects-value", plain.prefix)][0];
    assert_eq!(registry.schema(id).unwrap(), Reject::SCHEMA);
    let values = raw(&plain, Topic::Rejects, 4);
    let wire = [&[0][..], &id.to_be_bytes(), single_object_datum(&encoded(1)).unwrap()].concat();
    assert_eq!(values, [encoded(0), wire, b"neither".to_vec(), encoded(2)]);

    for reading in [&plain, &framed] {
        let read = decoded(reading, 4).await;
        assert_eq!([&read[0], &read[1], &read[3]], [&Ok(0), &Ok(1), &Ok(2)]);
        assert!(read[2].is_err());
    }
}

/// A schema that another version, another subject or another registry's user has registered has another id.
#[tokio::test(flavor = "multi_thread")]
async fn ids_are_looked_up_when_they_are_met_and_the_unknown_are_not_guessed() {
    let registry = Registry::start().await;
    let framed = with(&registry.url(), options(1));
    let log = open(&framed).await;
    let canonical: serde_json::Value = serde_json::from_str(Reject::SCHEMA).unwrap();
    let same = registry.add("elsewhere", &canonical.to_string());
    let other = registry.add("elsewhere", r#""string""#);
    let of =
        |id: u32, index| message([&[0][..], &id.to_be_bytes(), single_object_datum(&encoded(index)).unwrap()].concat());
    log.append(vec![of(same, 0), of(other, 1), of(77_777, 2), of(same, 3), of(77_777, 4)]).await.unwrap();
    drop(log);
    let read = decoded(&framed, 5).await;
    assert_eq!([&read[0], &read[3]], [&Ok(0), &Ok(3)]);
    assert!(read[1].as_ref().unwrap_err().contains("fingerprint"), "{read:?}");
    assert!(read[2].as_ref().unwrap_err().contains("77777"), "{read:?}");
    let mut asked = BTreeMap::new();
    for path in registry.asked().into_iter().filter(|path| path.starts_with("GET")) {
        *asked.entry(path).or_insert(0) += 1;
    }
    assert!(asked.values().all(|times| *times == 1) && asked.len() == 3, "each is asked for once: {asked:?}");
}

/// A registry that has lost its schemas gets them back while readers run.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_meant_nothing_is_asked_for_again() {
    let registry = Registry::start().await;
    let framed = with(&registry.url(), options(1));
    let canonical: serde_json::Value = serde_json::from_str(Reject::SCHEMA).unwrap();
    let lost = registry.add("elsewhere", &canonical.to_string());
    registry.lose_all();
    let log = open(&framed).await;
    let frame = [&[0][..], &lost.to_be_bytes(), single_object_datum(&encoded(7)).unwrap()].concat();
    let mut member = log.join("g", Topic::Rejects).await.unwrap();
    let mut readers = assigned(member.as_mut(), 1).await;
    let (reader, ids) = (readers.get_mut(&0).unwrap(), log.schema_ids());
    let mut next = async || {
        log.append(vec![message(frame.clone())]).await.unwrap();
        loop {
            let messages = timeout(PATIENCE, reader.fetch(LIMIT)).await.unwrap().unwrap();
            if let Some(message) = messages.first() {
                return Reject::decode_as(&message.value, &*ids).map(|one| one.record_index);
            }
        }
    };
    assert!(next().await.is_err());
    assert!(!log.learn_schemas(&[lost]).await.unwrap());
    registry.find_again();
    let found = async { while next().await.is_err() {} };
    timeout(PATIENCE, found).await.expect("it is asked for again");
    registry.lose_all();
    assert!(log.learn_schemas(&[77_777, lost]).await.unwrap(), "what is known stays known");
}

/// A reader that meets an id while the registry is away waits for it, and loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_waited_for() {
    let registry = Registry::start().await;
    let framed = with(&registry.url(), options(1));
    let log = open(&framed).await;
    let canonical: serde_json::Value = serde_json::from_str(Reject::SCHEMA).unwrap();
    let same = registry.add("elsewhere", &canonical.to_string());
    let new = [&[0][..], &same.to_be_bytes(), single_object_datum(&encoded(1)).unwrap()].concat();
    log.append(vec![message(encoded(0)), message(new), message(encoded(2))]).await.unwrap();
    let mut member = log.join("g", Topic::Rejects).await.unwrap();
    let mut readers = assigned(member.as_mut(), 1).await;
    let reader = readers.get_mut(&0).unwrap();
    registry.set_away(true);
    let mut offsets = Vec::new();
    let why = loop {
        match timeout(PATIENCE, reader.fetch(LIMIT)).await.unwrap() {
            Ok(messages) => offsets.extend(messages.iter().map(|message| message.offset)),
            Err(LogError::Unavailable(why)) => break why,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(why.contains(&same.to_string()) && why.contains("503"), "{why}");
    assert_eq!(offsets, [0]);
    registry.set_away(false);
    while offsets.len() < 3 {
        let messages = timeout(PATIENCE, reader.fetch(LIMIT)).await.unwrap().unwrap();
        offsets.extend(messages.iter().map(|message| message.offset));
    }
    assert_eq!(offsets, [0, 1, 2]);
    let meaning = log.schema_ids().meaning(same);
    assert_eq!(meaning, Meaning::Schema(schema_fingerprint(Reject::SCHEMA).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_refuses_is_said_at_start() {
    let registry = Registry::start().await;
    let refused = Options { start_timeout: Duration::from_secs(2), ..options(1) };
    let refusal = async |url: &str| timeout(PATIENCE, kafka::open(with(url, refused.clone()))).await.unwrap();
    let halted = async |url: &str| match refusal(url).await {
        Err(LogError::Halted(why)) => why,
        other => panic!("not refused: {other:?}"),
    };
    registry.add(&format!("{}rejects-value", refused.prefix), r#""string""#);
    let why = halted(&registry.url()).await;
    assert!(why.contains("incompatible") && why.contains("rejects-value") && why.contains("--kafka-prefix"), "{why}");

    registry.want_login();
    let at = registry.address;
    for url in [format!("http://{at}"), format!("http://me:wrong-one@{at}")] {
        let why = halted(&url).await;
        assert!(why.contains("USER:PASSWORD@HOST") && !why.contains("wrong-one"), "{why}");
    }
    let why = halted(&format!("http://me:pass%20word@{at}/elsewhere")).await;
    assert!(why.contains("is this URL that of a schema registry?"), "{why}");

    registry.set_away(true);
    let Err(LogError::Unavailable(why)) = refusal(&registry.url()).await else { panic!("it is away") };
    assert!(why.contains("503") && why.contains("no leader"), "{why}");
    let Err(LogError::Unavailable(why)) = refusal("http://me:secret@127.0.0.1:1").await else {
        panic!("nobody is there")
    };
    assert!(why.contains("127.0.0.1:1") && !why.contains("secret"), "{why}");
    registry.set_away(false);

    // With other topics nothing contradicts, and user and password of the URL are right.
    drop(open(&with(&format!("http://me:pass%20word@{at}"), options(1))).await);
}
