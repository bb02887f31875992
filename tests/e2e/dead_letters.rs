//! A record that its lane could not read, and bytes that nobody can: listed, replayed and discarded through kills, landed
//! once.

use crate::{
    harness::{Finished, Home, Up, World, finish},
    model::{Table, record},
};
use bytes::Bytes;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tributary_backends::{
    log::{Append, Change, FetchLimit, Message, RecordLog, Topic, embedded},
    world::SystemWorld,
};
use tributary_schemas::{
    frame::{DeadLetter, Frame},
    identity::Lanes,
};

const LANES: Lanes = Lanes { partitions: 4, spread: 1 };
const ALL_THERE_IS: FetchLimit =
    FetchLimit { max_bytes: 1 << 20, max_messages: 100, max_wait: Duration::from_millis(1) };

/// The log of a system that does not run.
async fn log_of(home: &Home) -> Arc<dyn RecordLog> {
    if World::of_this_run() == World::Embedded {
        let options = embedded::Options { lanes: LANES, ..Default::default() };
        return embedded::open(&home.data().join("log"), options, Arc::new(SystemWorld)).expect("the log");
    }
    log_on_kafka(home).await
}

#[cfg(feature = "cluster")]
async fn log_on_kafka(home: &Home) -> Arc<dyn RecordLog> {
    use tributary_backends::log::kafka::{Options, open};
    let command = home.tool(&[]);
    let get = |name: &str| {
        let found = command.get_envs().find(|(known, _)| *known == name).and_then(|(_, value)| value);
        found.and_then(|value| value.to_str()).expect(name).to_owned()
    };
    let (brokers, prefix) = (get("TRIBUTARY_KAFKA"), get("TRIBUTARY_KAFKA_PREFIX"));
    let session_timeout = Duration::from_secs(2);
    let options =
        Options { brokers, prefix, lanes: LANES, replication: Some(1), session_timeout, ..Options::default() };
    open(options).await.expect("the log")
}

#[cfg(not(feature = "cluster"))]
#[expect(clippy::unused_async, reason = "the signature of the one that can")]
async fn log_on_kafka(_: &Home) -> Arc<dyn RecordLog> {
    unreachable!("there is no cluster")
}

/// What a lane of a program that does not know the schema of the `nth` record that waits would have done; the others land
/// as they are. Beside it, a letter of bytes that are no record.
async fn put_aside(home: &Home, nth: usize) {
    let log = log_of(home).await;
    let mut member = log.join("lanes", Topic::Records).await.expect("joined");
    let mut letters = vec![letter(0, 1_000_000, b"no key", b"no record")];
    let (mut waiting, mut sound) = (0, Vec::new());
    for _ in 0..LANES.partitions {
        let Change::Assigned(mut reader) = member.next().await.expect("assigned") else { panic!("revoked") };
        let end = reader.watermarks().await.expect("watermarks").high;
        while reader.position() < end {
            for Message { offset, key, value, .. } in reader.fetch(ALL_THERE_IS).await.expect("fetched") {
                let partition = reader.partition();
                match waiting == nth {
                    true => letters.push(letter(partition, offset, &key, &value)),
                    false => sound.push(Append { topic: Topic::Records, partition, key, value }),
                }
                waiting += 1;
            }
        }
        reader.commit(end).await.expect("committed");
    }
    let append = |letter: &DeadLetter| {
        let mut value = Vec::new();
        letter.encode(&mut value);
        Append { topic: Topic::DeadLetters, partition: 0, key: Bytes::from(letter.key.clone()), value: value.into() }
    };
    assert_eq!(letters.len(), 2, "it waited");
    log.append(letters.iter().map(append).chain(sound).collect()).await.expect("appended");
}

fn letter(partition: u32, offset: i64, key: &[u8], payload: &[u8]) -> DeadLetter {
    DeadLetter {
        topic: "records".to_owned(),
        partition,
        offset,
        stage: "decode".to_owned(),
        reason: "unknown \u{1b}[2J schema".to_owned(),
        at: 1_700_000_000_000_000,
        key: key.to_vec(),
        payload: payload.to_vec(),
    }
}

impl Home {
    pub async fn letters(&self, args: &[&str]) -> Finished {
        self.letters_dying_at("", args).await
    }

    async fn letters_dying_at(&self, point: &str, args: &[&str]) -> Finished {
        let data = self.data().display().to_string();
        let mut command = self.tool(&[&["dead-letters"], args, &["--data", &data]].concat());
        if !point.is_empty() {
            command.env("TRIBUTARY_CRASH_AT", point);
        }
        finish(command).await
    }

    pub async fn listed(&self, args: &[&str]) -> Vec<Value> {
        let listed = self.letters(&[&["list", "--json"], args].concat()).await.ok();
        listed.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// How many are open, replayed and discarded.
    async fn counted(&self, args: &[&str]) -> [u64; 3] {
        let counted = self.letters(&[&["list", "--summary", "--json"], args].concat()).await.ok().json();
        ["open", "replayed", "discarded"].map(|state| counted[state].as_u64().expect("a number"))
    }

    /// Gives a command that dies at a point: in `up`, which does it for embedded backends, else by itself. Then `up` runs.
    async fn killed_at(&mut self, up: Up, point: &str, args: &[&str]) -> Up {
        drop(up);
        let mut up = self.try_start(&[("TRIBUTARY_CRASH_AT", point)]).expect("it starts");
        let killed = self.letters_dying_at(point, args).await;
        assert_ne!(killed.code, 0, "{killed:?}");
        if World::of_this_run() == World::Embedded {
            assert!(killed.err.contains("did not answer"), "{killed:?}");
            assert!(up.ended().await.code().is_none(), "killed, not ended");
        } else {
            assert_eq!(killed.code, -1, "killed, not ended: {killed:?}");
            up.kill();
        }
        self.start()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_replayed_through_kills_and_lands_once() {
    let mut home = Home::new();
    let late = record("late", 1_600_000_000, "{\"a\":1}");
    let mut doomed = home.try_start(&[("TRIBUTARY_CRASH_AT", "lane.after_resolve")]).expect("it starts");
    let _ = doomed.http.try_post("application/x-ndjson", late.clone().into_bytes(), None).await;
    doomed.ended().await;
    put_aside(&home, 0).await;

    // Whether or not anything runs.
    let offline = home.listed(&[]).await;
    let up = home.start();
    assert_eq!(home.listed(&[]).await, offline);
    let sound = offline.iter().find(|letter| letter["fault"].is_null()).expect("one can be replayed");
    let broken = offline.iter().find(|letter| !letter["fault"].is_null()).expect("one cannot");
    assert_eq!((offline.len(), &sound["workspace"], &sound["state"]), (2, &"default".into(), &"open".into()));
    let (id, batch) = (sound["id"].as_str().expect("id"), sound["batchId"].as_str().expect("batchId"));
    assert_eq!(home.listed(&["--workspace", "default", "--matching", "SCHEMA", "--since", "876000h"]).await.len(), 1);
    assert_eq!(home.listed(&["--until", "2001-01-01T00:00:00Z"]).await.len(), 0);
    let shown = home.letters(&["list"]).await.ok().out + &home.letters(&["show", id]).await.ok().out;
    assert!(shown.contains("unknown \u{fffd}[2J schema") && !shown.contains('\u{1b}'), "{shown}");
    up.until("tributary_dead_letters_open", "topic=\"records\"", 2).await;

    let refused = home.letters(&["replay", "--reason", "mended"]).await;
    assert!(refused.code == 1 && refused.err.contains("which letters"), "{refused:?}");
    let replay = ["replay", "--every", "--reason", "mended", "--by", "ann"];
    let dry = home.letters(&[&replay[..], &["--dry-run"]].concat()).await;
    assert!(dry.code == 1 && dry.out.contains(&format!("{id}: would be replayed")), "{dry:?}");
    assert!(dry.out.contains("mend the cause first"), "{dry:?}");
    assert_eq!(home.listed(&[]).await, offline, "a dry run changes nothing");

    // Its bytes are in the log again and nobody has noted it: the letter stays open, the record lands.
    let up = home.killed_at(up, "dead-letters.after_replay", &replay).await;
    assert_eq!(home.listed(&["--workspace", "default"]).await.len(), 1);
    up.http.complete(batch).await;
    up.table().assert_is(&Table::of(&late));
    // Again: noted now, and nothing lands a second time.
    let again = home.letters(&replay).await;
    assert!(again.out.contains(&format!("{id}: replayed as offset")), "{again:?}");
    up.until("tributary_records_total", "outcome=\"unchanged\"", 1).await;
    up.table().assert_is(&Table::of(&late));
    up.until("tributary_dead_letters_open", "topic=\"records\"", 1).await;
    let counted = up.http.get(&format!("/batches/{batch}")).await;
    assert_eq!((&counted.json["status"], &counted.json["acceptedCount"]), (&"COMPLETE".into(), &1.into()));
    let once_more = home.letters(&["replay", id, "--reason", "mended"]).await.ok();
    assert!(once_more.out.contains("was replayed before by ann"), "{once_more:?}");

    // The noted action of a command that dies before its answer stands.
    let other = broken["id"].as_str().expect("id");
    let up = home
        .killed_at(up, "dead-letters.after_entry", &["discard", other, "--reason", "not ours", "--by", "bob"])
        .await;
    assert_eq!(home.listed(&[]).await.len(), 0);
    up.until("tributary_dead_letters_open", "", 0).await;
    let all = home.listed(&["--all"]).await;
    let signed = |id: &str| {
        let letter = all.iter().find(|letter| letter["id"] == id).expect("it is kept");
        let action = &letter["actions"][0];
        assert!(action["at"].as_i64() > Some(1_700_000_000_000), "{letter}");
        (letter["state"].clone(), action["by"].clone(), action["reason"].clone())
    };
    assert_eq!(signed(id), ("replayed".into(), "ann".into(), "mended".into()));
    assert_eq!(signed(other), ("discarded".into(), "bob".into(), "not ours".into()));
    let check = home.lake(&["check"]).await;
    assert_eq!(check.code, 0, "{check:?}");
}

/// The batch is COMPLETE, for nothing of it is on its way any more; which of its records cannot be found in the lake, and why,
/// the letters say, and this follows what is done about them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_with_a_dead_letter_in_its_middle_becomes_whole_by_a_replay() {
    let mut home = Home::new();
    let lines = ["one", "two", "three"].map(|id| record(id, 1_600_000_000, "{\"a\":1}"));
    let mut doomed = home.try_start(&[("TRIBUTARY_CRASH_AT", "lane.after_resolve")]).expect("it starts");
    let _ = doomed.http.try_post("application/x-ndjson", lines.join("\n").into_bytes(), None).await;
    doomed.ended().await;
    put_aside(&home, 1).await;

    let up = home.start();
    let letter = home.listed(&["--workspace", "default"]).await.remove(0);
    let (id, batch) = (letter["id"].as_str().expect("id"), letter["batchId"].as_str().expect("batchId"));
    assert_eq!(letter["recordIndex"], 1);
    up.http.complete(batch).await;
    let accepted = async || up.http.get(&format!("/batches/{batch}")).await.json["acceptedCount"].clone();
    assert_eq!(accepted().await, 3);
    up.table().assert_is(&Table::of(&[&*lines[0], &*lines[2]].join("\n")));
    assert_eq!(home.counted(&["--batch-id", batch]).await, [1, 0, 0]);
    assert_eq!(home.counted(&["--batch-id", "another"]).await, [0, 0, 0]);
    let text = home.letters(&["list", "--batch-id", batch, "--summary"]).await.ok().out;
    assert!(text.starts_with("1 open, 0 replayed, 0 discarded\n") && text.contains("records  decode"), "{text}");

    let replayed = home.letters(&["replay", "--batch-id", batch, "--reason", "mended", "--json"]).await.ok();
    let answer: Vec<Value> = replayed.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&answer[0]["id"], &answer[0]["state"]), (&id.into(), &"replayed".into()));
    assert_eq!(answer[1], serde_json::json!({"done": 1, "already": 0, "would": 0, "refused": 0}));
    let outcomes = async || up.metric("tributary_records_total", "").await;
    up.until("tributary_dead_letters_replayed_total", "", 1).await;
    up.table().assert_is(&Table::of(&lines.join("\n")));
    assert_eq!(home.counted(&["--batch-id", batch]).await, [0, 1, 0]);
    assert_eq!(accepted().await, 3);
    // Three that were accepted and lie in the log, of which the test put one aside, and the one that came again.
    assert_eq!(outcomes().await, 3);
    home.lake(&["check"]).await.ok();
}

/// 80 MB of text, more than fits into one answer of `up`, chosen by whoever wrote it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_letters_than_an_answer_holds_are_listed_and_discarded_while_up_runs() {
    let mut home = Home::new();
    drop(home.start());
    let log = log_of(&home).await;
    let append = |offset: i64| {
        let reason = format!("{} {}", ["too old", "too new"][usize::from(offset % 4 == 0)], "x".repeat(40_000));
        let letter = DeadLetter { reason, ..letter(0, offset, b"key", b"no record") };
        let mut value = Vec::new();
        letter.encode(&mut value);
        Append { topic: Topic::DeadLetters, partition: 0, key: Bytes::from_static(b"key"), value: value.into() }
    };
    for hundred in 0..20 {
        log.append((hundred * 100..(hundred + 1) * 100).map(append).collect()).await.expect("appended");
    }
    drop(log);
    let up = home.start();
    let page = home.letters(&["list", "--json", "--limit", "500"]).await.ok();
    assert_eq!(page.out.lines().count(), 500);
    let id = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["id"].clone();
    assert_eq!(page.out.lines().next().map(id), Some("records/0/1999".into()));
    assert!(page.err.contains("the newest 500 of 2,000 letters"), "{}", page.err);
    let next = page.err.split("--before ").nth(1).and_then(|rest| rest.split(';').next()).expect("a cursor");
    let behind = home.letters(&["list", "--json", "--limit", "1", "--before", next]).await.ok();
    assert_eq!(id(&behind.out), "records/0/1499");
    let kinds = home.letters(&["list", "--summary", "--json"]).await.ok().json()["reasons"].clone();
    assert_eq!((&kinds[0]["letters"], &kinds[1]["letters"]), (&1_500.into(), &500.into()), "{kinds}");

    let discard = ["discard", "--every", "--reason", "not ours", "--by", "ann"];
    let discarded = home.letters(&discard).await.ok();
    assert_eq!(discarded.out.lines().count(), 1_000, "of the others it is counted what became of them");
    assert!(discarded.err.contains("2000 discarded, 0 refused; the first 1000 are shown"), "{}", discarded.err);
    assert_eq!(home.counted(&[]).await, [0, 0, 2_000]);
    up.until("tributary_dead_letters_open", "topic=\"records\"", 0).await;
}
