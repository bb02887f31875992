//! More letters than are held at once.

use super::*;
use bytes::Bytes;

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
