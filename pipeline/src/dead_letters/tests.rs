//! Letters of a small world: listed, refused, replayed once, and what a kill between two steps leaves.

use super::*;
use crate::{
    context::encode,
    tests::{
        mortal::Fate as Luck,
        small_world::{Rec, SmallWorld, quick},
    },
};
use bytes::Bytes;
use tributary_backends::world::SystemWorld;
use tributary_schemas::{
    batch::Fact,
    frame::{BatchEvent, Reject},
    identity::Lanes,
};

const ONE_LANE: Lanes = Lanes { partitions: 1, spread: 1 };

fn rec(who: u8, content: u8) -> Rec {
    Rec { workspace: 0, who, content }
}

fn replaying() -> Handling {
    handling(Deed::Replayed)
}

fn handling(deed: Deed) -> Handling {
    Handling { deed, by: "ann".to_owned(), reason: "mended".to_owned(), dry_run: false, overwrite: false }
}

/// A letter about what is in the lane at `offset`, as a lane would write it that could not read it; and the lane goes on
/// behind it.
fn put_aside(world: &SmallWorld, offset: i64) {
    let letter = letter(world, offset);
    world.stored.put(Topic::DeadLetters, 0, letter.key.clone().into(), encode(&letter));
    world.stored.skip(Topic::Records, 0, offset + 1);
}

fn letter(world: &SmallWorld, offset: i64) -> DeadLetter {
    let message = &world.stored.all(Topic::Records, 0)[offset as usize];
    DeadLetter {
        topic: "records".to_owned(),
        partition: 0,
        offset,
        stage: "decode".to_owned(),
        reason: "unknown schema".to_owned(),
        at: 1,
        key: message.key.to_vec(),
        payload: message.value.to_vec(),
    }
}

async fn act(world: &SmallWorld, log: &dyn RecordLog, how: &Handling) -> Result<Vec<Fate>, Trouble> {
    let all = read(log).await?;
    let mut fates = Vec::new();
    handle((log, &*world.tables, &SystemWorld), &all, &all, how, &mut |_, fate| fates.push(fate)).await?;
    Ok(fates)
}

async fn land(world: &SmallWorld) {
    let luck = Luck::immortal();
    world.run(&world.process(quick(10), &luck), &luck).await.unwrap();
}

async fn rows(world: &SmallWorld) -> u64 {
    let report = crate::check::run(&world.lake, &*world.tables, None).await.unwrap();
    assert!(report.tables.iter().all(|table| table.finding_count == 0), "{report:?}");
    report.tables.iter().map(|table| table.live_rows).sum()
}

async fn open(log: &dyn RecordLog) -> u64 {
    let mut ledger = Ledger::default();
    ledger.catch_up(log).await.unwrap();
    ledger.open().values().sum()
}

#[tokio::test]
async fn a_replayed_record_lands_once_also_when_the_replay_dies_before_its_entry() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1)]);
    put_aside(&world, 0);
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    let letter = &read(&*log).await.unwrap()[0];
    assert_eq!(letter.id.to_string(), "records/0/0");
    let contents = &letter.contents;
    assert_eq!((contents.workspace.as_deref(), contents.batch_id.as_deref()), (Some("w0"), Some("a-0")));
    assert_eq!((contents.record_index, contents.fault.as_deref()), (Some(0), None));

    // Dead with the append, which nobody was told of, and dead between it and the entry: the letter stays open.
    for (round, luck) in [(1, Luck::dies_at(1, true)), (2, Luck::dies_at(2, false))] {
        let doomed = world.process(quick(10), &luck).log.clone();
        act(&world, &*doomed, &replaying()).await.unwrap_err();
        assert_eq!(world.stored.all(Topic::Records, 0).len(), 1 + round);
        assert_eq!(open(&*log).await, 1);
        land(&world).await;
        assert_eq!(rows(&world).await, 1);
    }

    let fates = act(&world, &*log, &replaying()).await.unwrap();
    let [Fate::Done(action)] = &fates[..] else { panic!("{fates:?}") };
    assert_eq!((action.by.as_str(), action.reason.as_str(), action.offset), ("ann", "mended", Some(3)));
    land(&world).await;
    assert_eq!((rows(&world).await, open(&*log).await), (1, 0));
    assert_eq!(act(&world, &*log, &replaying()).await.unwrap(), [Fate::Already(action.clone())]);
    assert_eq!(read(&*log).await.unwrap()[0].actions, std::slice::from_ref(action));
}

/// However many letters there are, and whatever they say of their topics.
#[tokio::test]
async fn letters_beyond_those_that_are_told_apart_count_as_open_until_the_log_drops_others() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1), rec(2, 1), rec(3, 1)]);
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    let mut ledger = Ledger::with_room(2);
    for offset in 0..3 {
        put_aside(&world, offset);
        // The same letter once more, as after a kill.
        put_aside(&world, 0);
    }
    let strange = DeadLetter { topic: "x".repeat(5_000), ..letter(&world, 0) };
    world.stored.put(Topic::DeadLetters, 0, Bytes::new(), encode(&strange));
    ledger.catch_up(&*log).await.unwrap();
    assert_eq!((ledger.open()["records"], ledger.open()["other"]), (3, 1));
    // One that is told apart is dealt with, then one that is not.
    act(&world, &*log, &handling(Deed::Discarded)).await.unwrap();
    ledger.catch_up(&*log).await.unwrap();
    assert_eq!((ledger.open()["records"], ledger.open()["other"]), (1, 1));
    world.stored.drop_below(Topic::DeadLetters, 0, world.stored.all(Topic::DeadLetters, 0).len() as i64);
    for _ in 0..2 {
        ledger.catch_up(&*log).await.unwrap();
    }
    assert_eq!(ledger.open().values().sum::<u64>(), 0);
}

/// What small topics hold has no versions: its bytes go the same way again, and reading them twice changes nothing.
#[tokio::test]
async fn letters_of_the_small_topics_are_replayed_into_them() {
    let world = SmallWorld::new(ONE_LANE);
    let fact = Fact::Landed { lane: 0, lanes_in_batch: 1 };
    let event = BatchEvent { workspace: "w0".to_owned(), batch_id: "a-0".to_owned(), at: 7, fact };
    let reject = Reject {
        workspace: "w0".to_owned(),
        batch_id: "b-0".to_owned(),
        record_index: 0,
        line: None,
        received_at: 7,
        errors: Vec::new(),
        payload: "{".to_owned(),
        payload_cut: false,
    };
    let small = [(Topic::BatchEvents, encode(&event)), (Topic::Rejects, encode(&reject))];
    for (topic, payload) in &small {
        let letter = DeadLetter {
            topic: topic.name().to_owned(),
            partition: 0,
            offset: 0,
            stage: "decode".to_owned(),
            reason: "unknown schema".to_owned(),
            at: 1,
            key: b"key".to_vec(),
            payload: payload.to_vec(),
        };
        world.stored.put(Topic::DeadLetters, 0, bytes::Bytes::from_static(b"key"), encode(&letter));
    }
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    let batches: Vec<_> = read(&*log).await.unwrap().into_iter().map(|letter| letter.contents.batch_id).collect();
    assert_eq!(batches, [Some("a-0".to_owned()), Some("b-0".to_owned())]);
    let fates = act(&world, &*log, &replaying()).await.unwrap();
    assert!(matches!(&fates[..], [Fate::Done(_), Fate::Done(_)]), "{fates:?}");
    for (topic, payload) in small {
        let messages = world.stored.all(topic, 0);
        let [message] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!((&message.key[..], &message.value), (&b"key"[..], &payload));
    }
    assert_eq!(open(&*log).await, 0);
}

#[tokio::test]
async fn an_older_version_does_not_come_back() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1)]);
    put_aside(&world, 0);
    world.send("b", &[rec(1, 2)]);
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    let refused = async |what: &str| {
        let fates = act(&world, &*log, &replaying()).await.unwrap();
        let [Fate::Refused(why)] = &fates[..] else { panic!("{fates:?}") };
        assert!(why.contains(what), "{why}");
    };
    refused("is on its way").await;
    land(&world).await;
    refused("has landed").await;
    let fates = act(&world, &*log, &Handling { overwrite: true, dry_run: true, ..replaying() }).await.unwrap();
    assert_eq!(fates, [Fate::Would]);
    assert_eq!(world.stored.all(Topic::DeadLetters, 0).len(), 1, "a dry run writes nothing");
}

/// Two versions, both put aside, replayed one after the other: the offset of the first replay is not taken for newer.
#[tokio::test]
async fn versions_are_replayed_in_their_order() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1)]);
    world.send("b", &[rec(1, 2)]);
    put_aside(&world, 0);
    put_aside(&world, 1);
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    let all = read(&*log).await.unwrap();
    let backends = (&*log, &*world.tables, &SystemWorld as _);
    let mut fates = Vec::new();
    handle(backends, &all, &all[..1], &replaying(), &mut |_, fate| fates.push(fate)).await.unwrap();
    land(&world).await;
    let all = read(&*log).await.unwrap();
    handle(backends, &all, &all[1..], &replaying(), &mut |_, fate| fates.push(fate)).await.unwrap();
    assert!(matches!(&fates[..], [Fate::Done(_), Fate::Done(_)]), "{fates:?}");
    land(&world).await;
    assert_eq!(rows(&world).await, 1);
    let before = &all[0];
    let newest = handle::newest(&*log, &*world.tables, before).await;
    assert_eq!(newest, Some((3, false)), "the lake has what the second letter says");
}

#[tokio::test]
async fn what_still_cannot_be_read_is_refused_and_can_be_discarded() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send_garbage(0, b"\xc3\x01not a frame");
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    land(&world).await;
    let fates = act(&world, &*log, &replaying()).await.unwrap();
    assert!(matches!(&fates[..], [Fate::Refused(why)] if why.contains("mend the cause")), "{fates:?}");
    assert_eq!(open(&*log).await, 1);
    let fates = act(&world, &*log, &handling(Deed::Discarded)).await.unwrap();
    assert!(matches!(&fates[..], [Fate::Done(_)]), "{fates:?}");
    assert_eq!(open(&*log).await, 0);
    // A copy, as a crashed lane puts it behind the entry, opens nothing.
    let first = world.stored.all(Topic::DeadLetters, 0).remove(0);
    world.stored.put(Topic::DeadLetters, 0, first.key, first.value);
    assert_eq!((open(&*log).await, read(&*log).await.unwrap()[0].actions.len()), (0, 1));
    let fates = act(&world, &*log, &replaying()).await.unwrap();
    assert!(matches!(&fates[..], [Fate::Refused(why)] if why.contains("discarded by ann")), "{fates:?}");
}

#[test]
fn ids_are_read_back() {
    let id: LetterId = "a/b/2/17".parse().unwrap();
    assert_eq!((id.topic.as_str(), id.partition, id.offset, id.to_string().as_str()), ("a/b", 2, 17, "a/b/2/17"));
    for bad in ["", "records", "records/1", "records/x/1", "records/-1/1", "records/1/y"] {
        assert!(bad.parse::<LetterId>().is_err(), "{bad}");
    }
}

/// A letter whose stage happens to be called so is no entry.
#[test]
fn only_what_is_signed_is_an_entry() {
    let letter = DeadLetter {
        topic: "records".to_owned(),
        partition: 0,
        offset: 0,
        stage: "replayed".to_owned(),
        reason: String::new(),
        at: 0,
        key: Vec::new(),
        payload: b"{}".to_vec(),
    };
    assert_eq!(Action::of(&letter), None);
    let action = Action { deed: Deed::Discarded, by: "é\"\u{1b}".into(), reason: "r".into(), at: 7, offset: None };
    assert_eq!(Action::of(&action.entry(&letter)), Some(action));
}
