//! Records that have more than one version, of which letters are some.

use super::*;
use tributary_backends::tables::IndexPart;

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
