//! Letters of a small world: listed, refused, replayed once, and what a kill between two steps leaves.

use super::*;
use crate::{
    Trouble,
    context::encode,
    tests::{
        mortal::Fate as Luck,
        small_world::{Rec, SmallWorld, quick},
    },
};
use bytes::Bytes;
use tributary_backends::{
    log::{RecordLog, Topic},
    tables::IndexPart,
    world::SystemWorld,
};
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
    act_on(world, log, &[], how).await
}

async fn act_on(world: &SmallWorld, log: &dyn RecordLog, ids: &[&str], how: &Handling) -> Result<Vec<Fate>, Trouble> {
    let ids: Vec<LetterId> = ids.iter().map(|id| id.parse().unwrap()).collect();
    let mut fates = Vec::new();
    let mut tell = |_: &Letter, fate| fates.push(fate);
    let missing = handle((log, &*world.tables, &SystemWorld), &ids, &|_| true, how, &mut tell).await?;
    assert_eq!(missing, None);
    Ok(fates)
}

async fn listed(log: &dyn RecordLog, limit: usize, before: Option<Cursor>) -> Listing {
    list(log, &Bounds { handled: true, limit, before }, &|_| true).await.unwrap()
}

/// All there are, in the order in which they were put aside.
async fn all(log: &dyn RecordLog) -> Vec<Shown> {
    let mut letters = listed(log, 1_000, None).await.letters;
    letters.reverse();
    letters
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
    let Shown { letter, .. } = all(&*log).await.remove(0);
    assert_eq!((letter.id.to_string(), letter.state), ("records/0/0".to_owned(), None));
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
    assert_eq!(act(&world, &*log, &replaying()).await.unwrap(), []);
    let again = act_on(&world, &*log, &["records/0/0"], &replaying()).await.unwrap();
    assert_eq!(again, [Fate::Already(action.clone())]);
    assert_eq!(all(&*log).await[0].actions, std::slice::from_ref(action));
}

/// What the lanes of a process have counted: all outcomes, and what came again.
#[tokio::test]
async fn outcomes_are_what_was_sent_and_what_was_replayed() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1)]);
    world.send("b", &[rec(2, 1)]);
    put_aside(&world, 0);
    put_aside(&world, 1);
    let luck = Luck::immortal();
    let process = world.process(quick(10), &luck);
    let doomed = world.process(quick(10), &Luck::dies_at(1, true)).log.clone();
    act(&world, &*doomed, &replaying()).await.unwrap_err();
    act(&world, &*process.log, &replaying()).await.unwrap();
    world.send("c", &[rec(3, 1)]);
    world.run(&process, &luck).await.unwrap();
    let of = |outcome| process.metrics.records(outcome);
    assert_eq!((of("landed"), of("overwritten"), of("unchanged")), (3, 0, 2));
    // Twice each, for the first time died before anybody knew of it.
    assert_eq!(process.metrics.again.get(), 4);
    // Whoever takes the lane over counts on.
    let next = world.process(quick(10), &luck);
    world.send("d", &[rec(4, 1)]);
    world.run(&next, &luck).await.unwrap();
    assert_eq!((next.metrics.again.get(), next.metrics.records("landed")), (0, 1));
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
    let batches: Vec<_> = all(&*log).await.into_iter().map(|shown| shown.letter.contents.batch_id).collect();
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

/// What the lake has: the version of the one row, and whether it says what the letter says.
async fn row(world: &SmallWorld, log: &dyn RecordLog, id: &str) -> (i64, bool) {
    let (shown, _) = show(log, &id.parse().unwrap()).await.unwrap().expect("it is there");
    let record = shown.letter.contents.record.expect("a record");
    let part = IndexPart { workspace: "w0".to_owned(), lane: 0 };
    let found = world.tables.lookup(&part, &[record.identity]).await.unwrap().locations[0].expect("a row");
    (found.version, found.digest == record.digest)
}

#[tokio::test]
async fn an_older_version_does_not_come_back() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1)]);
    put_aside(&world, 0);
    world.send("b", &[rec(1, 2)]);
    land(&world).await;
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    let fates = act(&world, &*log, &replaying()).await.unwrap();
    let [Fate::Refused(why)] = &fates[..] else { panic!("{fates:?}") };
    assert!(why.contains("has landed (offset 1)"), "{why}");
    let insist = Handling { overwrite: true, ..replaying() };
    let fates = act(&world, &*log, &Handling { dry_run: true, ..insist.clone() }).await.unwrap();
    assert_eq!(fates, [Fate::Would]);
    assert_eq!(world.stored.all(Topic::DeadLetters, 0).len(), 1, "a dry run writes nothing");
    // Who insists gets a new version of it.
    act(&world, &*log, &insist).await.unwrap();
    land(&world).await;
    assert_eq!((rows(&world).await, row(&world, &*log, "records/0/0").await), (1, (2, true)));
}

/// However long a replay takes: what is sent between its look and its append stays.
#[tokio::test]
async fn a_version_that_comes_in_between_stays() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1)]);
    put_aside(&world, 0);
    world.send("b", &[rec(1, 2)]);
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    // It is not in the lake yet, so nothing is known against the replay.
    let fates = act(&world, &*log, &replaying()).await.unwrap();
    assert!(matches!(&fates[..], [Fate::Done(_)]), "{fates:?}");
    land(&world).await;
    assert_eq!((rows(&world).await, row(&world, &*log, "records/0/0").await), (1, (1, false)));
    // The same in two chunks.
    let copy = world.stored.all(Topic::Records, 0).remove(2);
    world.stored.put(Topic::Records, 0, copy.key, copy.value);
    land(&world).await;
    assert_eq!((rows(&world).await, row(&world, &*log, "records/0/0").await), (1, (1, false)));
}

/// Two versions, both put aside: whichever is replayed first, and wherever a replay dies, the second one stays.
#[tokio::test]
async fn versions_keep_their_order() {
    for order in [["records/0/0", "records/0/1"], ["records/0/1", "records/0/0"]] {
        for kill in [None, Some(1), Some(2)] {
            for together in [true, false] {
                let mut world = SmallWorld::new(ONE_LANE);
                world.send("a", &[rec(1, 1)]);
                world.send("b", &[rec(1, 2)]);
                put_aside(&world, 0);
                put_aside(&world, 1);
                let log = world.process(quick(10), &Luck::immortal()).log.clone();
                if let Some(call) = kill {
                    // Dead with the append, or before the entry about it.
                    let doomed = world.process(quick(10), &Luck::dies_at(call, call == 1)).log.clone();
                    act_on(&world, &*doomed, &order[..1], &replaying()).await.unwrap_err();
                    if !together {
                        land(&world).await;
                    }
                }
                for id in order {
                    let fates = act_on(&world, &*log, &[id], &replaying()).await.unwrap();
                    let refused = order[0] == "records/0/1" && id == order[1] && !together;
                    match &fates[..] {
                        [Fate::Refused(why)] if refused => assert!(why.contains("has landed (offset 1)"), "{why}"),
                        fates => assert!(!refused && matches!(fates, [Fate::Done(_)]), "{fates:?}"),
                    }
                    if !together {
                        land(&world).await;
                    }
                }
                land(&world).await;
                let case = (order, kill, together);
                assert_eq!(rows(&world).await, 1, "{case:?}");
                assert_eq!(row(&world, &*log, "records/0/1").await, (1, true), "{case:?}");
                // The index says so from its table alone, too.
                world.tables.clear(&IndexPart { workspace: "w0".to_owned(), lane: 0 }).await.unwrap();
                crate::rebuild_index(&world.lake, &*world.tables, None).await.unwrap();
                assert_eq!(row(&world, &*log, "records/0/1").await, (1, true), "{case:?}");
            }
        }
    }
}

/// Twenty pages of letters, some with texts without end, are listed, replayed and counted in bounded pieces.
#[tokio::test]
async fn twenty_thousand_letters_are_dealt_with_in_pages() {
    const MANY: i64 = 20_000;
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1)]);
    let message = world.stored.all(Topic::Records, 0).remove(0);
    for offset in 0..MANY {
        let reason = if offset % 1_000 == 7 { "x".repeat(100_000) } else { "unknown schema".to_owned() };
        let letter = DeadLetter { offset, reason, at: offset / 2, ..letter(&world, 0) };
        world.stored.put(Topic::DeadLetters, 0, message.key.clone(), encode(&letter));
    }
    let log = world.process(quick(10), &Luck::immortal()).log.clone();
    let first = listed(&*log, 50, None).await;
    let offsets = |listing: &Listing| listing.letters.iter().map(|shown| shown.letter.id.offset).collect::<Vec<_>>();
    assert_eq!((offsets(&first), first.more), ((MANY - 50..MANY).rev().collect(), true));
    let second = listed(&*log, 50, first.letters.last().map(|shown| shown.cursor)).await;
    assert_eq!(offsets(&second), (MANY - 100..MANY - 50).rev().collect::<Vec<_>>());
    let kinds: Vec<_> = first.summary.reasons.iter().map(|kind| (kind.letters, kind.reason.chars().count())).collect();
    assert_eq!((first.summary.open, kinds), (20_000, vec![(19_980, 14), (20, 201)]));
    let long = listed(&*log, 1_000, None).await;
    assert!(long.letters.iter().all(|shown| shown.letter.reason.chars().count() <= TEXT + 1));

    let before = world.stored.appends();
    let fates = act(&world, &*log, &replaying()).await.unwrap();
    assert_eq!(fates.iter().filter(|fate| matches!(fate, Fate::Done(_))).count(), 20_000);
    assert!(world.stored.appends() - before <= 60, "a call for each letter would take hours on Kafka");
    let after = listed(&*log, 50, None).await.summary;
    assert_eq!((after.open, after.replayed, after.discarded, after.reasons), (0, 20_000, 0, Vec::new()));
    assert_eq!(world.stored.all(Topic::Records, 0).len(), 20_001);
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
    assert_eq!((open(&*log).await, all(&*log).await[0].actions.len()), (0, 1));
    let fates = act_on(&world, &*log, &["records/0/0"], &replaying()).await.unwrap();
    assert!(matches!(&fates[..], [Fate::Refused(why)] if why.contains("discarded by ann")), "{fates:?}");
}

#[test]
fn ids_are_read_back() {
    let id: LetterId = "a/b/2/17".parse().unwrap();
    assert_eq!((id.topic.as_str(), id.partition, id.offset, id.to_string().as_str()), ("a/b", 2, 17, "a/b/2/17"));
    for bad in ["", "records", "records/1", "records/x/1", "records/-1/1", "records/1/y"] {
        assert!(bad.parse::<LetterId>().is_err(), "{bad}");
    }
    let cursor: Cursor = "7/0/-3".parse().unwrap();
    assert_eq!(cursor.to_string(), "7/0/-3");
    for bad in ["", "7", "7/0", "7/0/3/1", "x/0/3"] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad}");
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
