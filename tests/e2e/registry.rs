//! `--schema-registry`: topics that any Avro tool can read.

use crate::{
    fake_registry::Registry,
    harness::{Home, World},
    model::{Table, record},
};
use apache_avro::{Schema, reader::datum::GenericDatumReader};
use std::time::Duration;
use tokio::time::timeout;
use tributary_backends::log::{Change, FetchLimit, Topic, kafka};
use tributary_schemas::identity::Lanes;

const PATIENCE: Duration = Duration::from_secs(60);

fn brokers() -> String {
    std::env::var("TRIBUTARY_TEST_KAFKA").expect("TRIBUTARY_TEST_KAFKA is not set: see tests/cluster.sh")
}

/// A data directory with its log on Kafka, under topics of its own, and their prefix.
fn home(registry: Option<&str>) -> (Home, String) {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_micros();
    let prefix = format!("registry{}-{since}.", std::process::id());
    (flags(Home::new(), &prefix, registry), prefix)
}

fn flags(home: Home, prefix: &str, registry: Option<&str>) -> Home {
    let home = home.flags(&[
        "--kafka",
        &brokers(),
        "--kafka-prefix",
        prefix,
        "--lanes",
        "1",
        "--kafka-replication",
        "1",
        "--kafka-session-timeout",
        "2s",
    ]);
    match registry {
        Some(url) => home.flags(&["--schema-registry", url]),
        None => home,
    }
}

/// What a tool that knows nothing of us sees of a record: its name is that in the schema.
#[derive(serde::Deserialize)]
#[serde(rename = "Record")]
struct Seen {
    workspace: String,
    data: String,
}

/// As Confluent's deserializers do it: a zero, the id, and the datum of the schema that the registry has for the id.
fn decoded(registry: &Registry, message: &[u8]) -> Seen {
    let (0, id, mut datum) = (message[0], &message[1..5], &message[5..]) else { panic!("no wire format: {message:?}") };
    let id = u32::from_be_bytes(id.try_into().expect("four bytes"));
    let schema = Schema::parse_str(&registry.schema(id).expect("a registered id")).expect("a schema");
    let reader = GenericDatumReader::builder(&schema).human_readable(false).build().expect("a reader");
    let seen = reader.read_deser(&mut datum).expect("a datum of that schema");
    assert!(datum.is_empty(), "{} bytes are left over", datum.len());
    seen
}

/// Everything in the topic, as it lies there.
async fn raw(prefix: &str, count: usize) -> Vec<Vec<u8>> {
    let lanes = Lanes { partitions: 1, spread: 1 };
    let options = kafka::Options { brokers: brokers(), prefix: prefix.to_owned(), lanes, ..kafka::Options::default() };
    let log = kafka::open(options).await.expect("the log");
    let mut member = log.join("another-tool", Topic::Records).await.expect("a member");
    let Change::Assigned(mut reader) = timeout(PATIENCE, member.next()).await.expect("in time").expect("a change")
    else {
        panic!("nothing was assigned")
    };
    let (mut values, limit) = (Vec::new(), FetchLimit { max_bytes: 1 << 20, max_messages: 1_000, max_wait: PATIENCE });
    while values.len() < count {
        let messages = timeout(PATIENCE, reader.fetch(limit)).await.expect("in time").expect("messages");
        values.extend(messages.into_iter().map(|message| message.value.to_vec()));
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn records_land_and_any_avro_tool_reads_the_topic() {
    if !World::has_embedded("the tables are beside the point here") {
        return;
    }
    let registry = Registry::start().await;
    registry.want_login();
    let url = format!("http://me:pass%20word@{}", registry.address);
    let (mut home, prefix) = home(None);
    let lines: Vec<_> = (0..30).map(|n| record(&format!("r{n}"), 86_400 * n, &format!("{{\"n\":{n}}}"))).collect();

    // Ten before there is a registry, ten with it, ten when it has gone: one log holds both encodings.
    let mut up = home.start();
    up.http.land(lines[..10].join("\n")).await;
    up.kill();
    let mut command = home.command();
    command.env("TRIBUTARY_SCHEMA_REGISTRY", &url);
    let mut up = home.spawn(command).unwrap_or_else(|failed| panic!("up does not start: {failed:?}"));
    up.http.land(lines[10..20].join("\n")).await;
    up.kill();
    let up = home.start();
    up.http.land(lines[20..].join("\n")).await;
    up.table().assert_is(&Table::of(&lines.join("\n")));
    assert!(!home.log().contains("pass"), "the password is not shown");

    let values = raw(&prefix, 30).await;
    assert!(values.iter().enumerate().all(|(n, value)| (value[0] == 0) == (10..20).contains(&n)), "ten of them");
    for (n, value) in values.iter().enumerate().take(20).skip(10) {
        let seen = decoded(&registry, value);
        assert_eq!((seen.workspace.as_str(), seen.data), ("default", format!("{{\"n\":{n}}}")));
    }
    let subjects: Vec<_> = registry.subjects().into_keys().collect();
    assert_eq!(
        subjects,
        ["attachments", "batch-events", "dead-letters", "records", "rejects"]
            .map(|topic| format!("{prefix}{topic}-value"))
    );
}

/// The registry loses its schemas, so what waits in the log means nothing; it gets them back, and all of it lands.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_had_lost_is_replayed_once_it_has_it_again() {
    if !World::has_embedded("the tables are beside the point here") {
        return;
    }
    let registry = Registry::start().await;
    let (mut home, _) = home(Some(&registry.url()));
    let late = record("late", 1_600_000_000, "{\"a\":1}");
    let mut doomed = home.try_start(&[("TRIBUTARY_CRASH_AT", "lane.after_resolve")]).expect("it starts");
    let _ = doomed.http.try_post("application/x-ndjson", late.clone().into_bytes(), None).await;
    doomed.ended().await;
    registry.lose_all();
    let up = home.start();
    up.until("tributary_dead_letters_open", "topic=\"records\"", 1).await;

    let replay = ["replay", "--matching", "registry", "--reason", "the registry is back"];
    let refused = home.letters(&replay).await;
    assert!(refused.code == 1 && refused.out.contains("has no Avro schema with the id 10"), "{refused:?}");
    registry.find_again();
    let letters = home.listed(&[]).await;
    assert!(letters.len() == 1 && letters[0]["fault"].is_null(), "{letters:?}");
    let replayed = home.letters(&replay).await.ok();
    assert!(replayed.out.contains("replayed as offset"), "{replayed:?}");
    up.http.complete(letters[0]["batchId"].as_str().expect("batchId")).await;
    up.table().assert_is(&Table::of(&late));
    up.until("tributary_dead_letters_open", "topic=\"records\"", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_refuses_ends_the_start_with_what_to_do() {
    let registry = Registry::start().await;
    let (mut home, prefix) = home(Some(&registry.url()));
    registry.add(&format!("{prefix}records-value"), r#""string""#);
    let refused = home.try_start(&[]).err().expect("it is refused");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("incompatible") && refused.err.contains("--kafka-prefix"), "{refused:?}");

    let mut elsewhere = Home::new().flags(&["--schema-registry", "registry:8081", "--kafka", &brokers()]);
    let refused = elsewhere.try_start(&[]).err().expect("it is refused");
    assert!(refused.err.contains("--schema-registry") && refused.err.contains("http://"), "{refused:?}");
}
