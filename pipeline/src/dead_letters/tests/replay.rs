//! A letter is replayed once, whatever dies meanwhile, or refused.

use super::*;
use bytes::Bytes;
use tributary_schemas::{
    batch::Fact,
    frame::{BatchEvent, Reject},
};

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
        world.stored.put(Topic::DeadLetters, 0, Bytes::from_static(b"key"), encode(&letter));
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
