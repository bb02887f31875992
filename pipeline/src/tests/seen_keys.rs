//! Tables so large that lanes do not wait until their index is read.

use super::{
    memory_log::MemoryLog,
    mortal::Fate,
    small_world::{Rec, SmallWorld, quick},
};
use crate::{
    Config,
    context::{Context, READINGS},
    index,
    lake::LiveFile,
    lane::Lane,
    seen_keys::{Ended, SeenKeys},
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    log::Topic,
    tables::{IndexPart, Location},
};
use tributary_schemas::identity::{Identity, Lanes};
use uuid::Uuid;

fn recs(whos: impl IntoIterator<Item = u8>, content: u8) -> Vec<Rec> {
    whos.into_iter().map(|who| Rec { workspace: 0, who, content }).collect()
}

fn part() -> IndexPart {
    IndexPart { workspace: "w0".into(), lane: 0 }
}

/// A world with 20 rows, in which every table is large.
async fn world() -> (SmallWorld, Fate) {
    let mut world = SmallWorld::new(Lanes { partitions: 1, spread: 1 });
    let fate = Fate::immortal();
    world.send("a", &recs(0..20, 1));
    world.run(&process(&world, &fate), &fate).await.unwrap();
    (world, fate)
}

fn process(world: &SmallWorld, fate: &Fate) -> Arc<Context> {
    world.process(Config { read_first: 0, ..quick(7) }, fate)
}

/// Keys of the part as an open table knows them, and the table.
async fn reading(world: &SmallWorld, process: &Arc<Context>) -> (SeenKeys, crate::lake::Table) {
    let mut table = world.lake.existing("w0").await.unwrap().unwrap();
    (index::open(process, &mut table, &part()).await.unwrap(), table)
}

async fn until_read(seen: &SeenKeys) {
    while !seen.is_to_be_judged() {
        tokio::task::yield_now().await;
    }
}

/// Chunk after chunk lands while not one scan has ended, and nothing twice.
#[tokio::test]
async fn a_lane_does_not_wait_until_its_index_is_read() {
    let (mut world, fate) = world().await;
    world.send("b", &recs(10..30, 2));
    world.send("c", &recs(25..35, 3));
    fate.hold_scans(true);
    let process = process(&world, &fate);
    world.run(&process, &fate).await.unwrap();
    assert_eq!(process.metrics.records("overwritten"), 15);
    fate.hold_scans(false);
    world.assert_exact().await;
}

/// What is not read yet may have been written; what is read, or has come meanwhile, is known, and nothing else.
#[tokio::test]
async fn a_filter_is_asked_once_it_is_whole() {
    let (world, fate) = world().await;
    let process = process(&world, &fate);
    fate.hold_scans(true);
    let (mut seen, table) = reading(&world, &process).await;
    let mut keys = Vec::new();
    table.keys_since(0, None, &mut |rows| keys.extend(rows.iter().map(|row| row.identity))).await.unwrap();
    let (come, never) = (Identity([7; 16]), Identity([8; 16]));
    seen.insert(&come);
    assert!(seen.may_contain(&never), "nobody knows");
    let files = table.files();
    assert_eq!(seen.judge(&files).await.unwrap(), Ended::Well, "nothing to judge yet");
    assert!(seen.may_contain(&never));
    fate.hold_scans(false);
    until_read(&seen).await;
    assert!(seen.may_contain(&never), "not before it is judged");
    assert_eq!(seen.judge(&files).await.unwrap(), Ended::Well);
    assert!(keys.iter().chain([&come]).all(|key| seen.may_contain(key)));
    assert!(!seen.may_contain(&never));
}

/// A part that is dropped while it is read says nothing, nor does one with fewer or more entries than rows.
#[tokio::test]
async fn what_was_read_in_vain_is_not_taken() {
    let (world, fate) = world().await;
    let process = process(&world, &fate);
    let never = Identity([8; 16]);
    for live in [19, 20] {
        let (mut seen, table) = reading(&world, &process).await;
        until_read(&seen).await;
        let mut files: Vec<_> = table.files().into_iter().cloned().collect();
        files[0].deleted += 20 - live;
        let wrong = seen.judge(&files.iter().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(matches!(wrong, Ended::Wrong(_)), live < 20, "{wrong:?}");
        assert_eq!(seen.may_contain(&never), live < 20);
        // Entries without a watermark, as while somebody fills it.
        let mut entries = Vec::new();
        world.tables.scan(&part(), &mut |slice| entries.extend_from_slice(slice)).await.unwrap();
        world.tables.clear(&part()).await.unwrap();
        world.tables.upsert(&part(), &entries).await.unwrap();
        let mut seen = SeenKeys::read(&process, &table, &part());
        until_read(&seen).await;
        for _ in 0..2 {
            assert_eq!(seen.judge(&table.files()).await.unwrap(), Ended::InVain);
            assert!(seen.may_contain(&never) && seen.is_to_be_judged());
        }
        world.tables.set_watermark(&part(), table.version()).await.unwrap();
    }
}

/// One entry is lost before the reading begins, or none, and a row comes before any is read: a new one, or another version.
#[tokio::test]
async fn a_new_key_does_not_stand_in_for_a_lost_one() {
    let (world, fate) = world().await;
    let process = process(&world, &fate);
    for (lost, is_new) in [(0, true), (0, false), (1, true)] {
        let (_, table) = reading(&world, &process).await;
        let mut entries = Vec::new();
        world.tables.scan(&part(), &mut |slice| entries.extend_from_slice(slice)).await.unwrap();
        world.tables.clear(&part()).await.unwrap();
        world.tables.upsert(&part(), &entries[lost..]).await.unwrap();
        world.tables.set_watermark(&part(), table.version()).await.unwrap();
        let turns = process.readings.acquire_many(READINGS as u32).await.unwrap();
        let mut seen = SeenKeys::read(&process, &table, &part());
        let mut files: Vec<_> = table.files().into_iter().cloned().collect();
        let come = LiveFile { id: Uuid::from_u128(1), rows: 1, deleted: 0, ..files[0].clone() };
        files[0].deleted += u64::from(!is_new);
        files.push(come);
        let key = if is_new { Identity([7; 16]) } else { entries[19].0 };
        let newer = Location { table_version: table.version() + 1, ..entries[19].1 };
        world.tables.upsert(&part(), &[(key, newer)]).await.unwrap();
        drop(turns);
        until_read(&seen).await;
        let ended = seen.judge(&files.iter().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(matches!(ended, Ended::Wrong(_)), lost > 0, "{ended:?}");
        assert_eq!(ended == Ended::Well, lost == 0, "{ended:?}");
        // As it was before.
        world.tables.clear(&part()).await.unwrap();
        world.tables.upsert(&part(), &entries).await.unwrap();
        world.tables.set_watermark(&part(), table.version()).await.unwrap();
    }
}

/// Entries that the index has lost under its watermark are found missing once all is read, and written again.
#[tokio::test]
async fn an_index_that_lies_is_repaired_once_it_is_read() {
    let (mut world, fate) = world().await;
    let version = world.tables.watermark(&part()).await.unwrap().unwrap();
    world.tables.clear(&part()).await.unwrap();
    world.tables.set_watermark(&part(), version).await.unwrap();
    let (process, stop) = (process(&world, &fate), CancellationToken::new());
    let log = MemoryLog { stored: world.stored.clone(), lanes: 1, fate: fate.clone() };
    let lane = Lane::new(process.clone(), 0).run(Box::new(log.reader(Topic::Records, 0)), stop.clone());
    let lane = tokio::spawn(lane);
    // New ones, one by one, until what was read has been judged.
    for who in 100.. {
        world.send(&format!("n{who}"), &recs([who], 1));
        world.stored.drained(Topic::Records, 0).await;
        if process.metrics.index_rebuilds.get() > 0 {
            break;
        }
    }
    world.send("z", &recs(0..20, 2));
    world.stored.drained(Topic::Records, 0).await;
    stop.cancel();
    lane.await.unwrap().unwrap();
    assert_eq!(process.metrics.index_rebuilds.get(), 1);
    assert_eq!(process.metrics.records("overwritten"), 20);
    world.assert_exact().await;
}
