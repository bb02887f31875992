//! Bad messages, backends that are away, and an index that does not agree with its table.

use super::{
    mortal::Fate,
    small_world::{Rec, SmallWorld, quick},
};
use crate::{Trouble, consumer::consume, context::Context};
use futures::future::{BoxFuture, FutureExt};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    log::{PartitionReader, Topic},
    tables::IndexPart,
};
use tributary_schemas::{
    frame::{DeadLetter, Frame},
    identity::Lanes,
};

const ONE_LANE: Lanes = Lanes { partitions: 1, spread: 1 };

fn rec(who: u8, content: u8) -> Rec {
    Rec { workspace: 0, who, content }
}

#[tokio::test]
async fn what_is_no_record_goes_to_dead_letters_and_the_lane_goes_on() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send_garbage(0, b"");
    world.send("a", &[rec(1, 1), rec(2, 1)]);
    world.send_garbage(0, b"\xc3\x01not a frame");
    world.send("b", &[rec(1, 2)]);
    let fate = Fate::immortal();
    let process = world.process(quick(100), &fate);
    world.run(&process, &fate).await.unwrap();
    world.assert_exact().await;
    let letters = world.stored.all(Topic::DeadLetters, 0);
    let letters: Vec<_> = letters.iter().map(|letter| DeadLetter::decode(&letter.value).unwrap()).collect();
    let offsets: Vec<_> = letters.iter().map(|letter| letter.offset).collect();
    assert_eq!(offsets, [0, 3]);
    assert_eq!(letters[1].payload, b"\xc3\x01not a frame");
    assert_eq!((letters[1].topic.as_str(), letters[1].stage.as_str()), ("records", "decode"));
    assert!(letters.iter().all(|letter| !letter.reason.is_empty()));
    let counted = |outcome| process.metrics.records(outcome);
    assert_eq!(counted("landed") + counted("overwritten") + counted("unchanged") + counted("dead_lettered"), 5);
    assert_eq!(counted("dead_lettered"), 2);
}

#[tokio::test]
async fn a_backend_that_is_away_is_waited_for() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1), rec(2, 1), rec(1, 2)]);
    let fate = Fate::immortal();
    fate.go_away_for(25);
    let process = world.process(quick(2), &fate);
    world.run(&process, &fate).await.unwrap();
    assert_eq!(fate.faults(), 25);
    world.assert_exact().await;
    assert_eq!(process.health.check(), Ok(()));
}

/// An index that lost entries, or points at rows that are gone, would make second rows: it is found out when its part
/// is taken over, and built anew.
#[tokio::test]
async fn an_index_that_does_not_agree_is_rebuilt_from_the_lake() {
    let mut world = SmallWorld::new(ONE_LANE);
    let part = IndexPart { workspace: "w0".into(), lane: 0 };
    let fate = Fate::immortal();
    world.send("a", &[rec(1, 1), rec(2, 1), rec(3, 1)]);
    world.run(&world.process(quick(10), &fate), &fate).await.unwrap();
    let mut entries = Vec::new();
    world.tables.scan(&part, &mut |slice| entries.extend_from_slice(slice)).await.unwrap();
    assert_eq!(entries.len(), 3);

    // Lost entries under a watermark that says otherwise.
    world.tables.clear(&part).await.unwrap();
    world.tables.upsert(&part, &entries[..1]).await.unwrap();
    world.tables.set_watermark(&part, world.lake.existing("w0").await.unwrap().unwrap().version()).await.unwrap();
    let report = crate::check::run(&world.lake, &*world.tables, None).await.unwrap();
    assert_eq!(report.tables[0].finding_count, 2, "{report:#?}");
    world.send("b", &[rec(1, 2), rec(2, 2), rec(3, 2)]);
    let process = world.process(quick(10), &fate);
    world.run(&process, &fate).await.unwrap();
    assert_eq!(process.metrics.index_rebuilds.get(), 1);
    world.assert_exact().await;

    // Entries that point at the rows of before, which are gone.
    let version = world.lake.existing("w0").await.unwrap().unwrap().version();
    let stale: Vec<_> = entries
        .iter()
        .map(|(key, at)| (*key, tributary_backends::tables::Location { table_version: version, ..*at }))
        .collect();
    world.tables.clear(&part).await.unwrap();
    world.tables.upsert(&part, &stale).await.unwrap();
    world.tables.set_watermark(&part, version).await.unwrap();
    assert!(!crate::check::run(&world.lake, &*world.tables, None).await.unwrap().is_sound());
    world.send("c", &[rec(1, 3), rec(4, 1)]);
    let process = world.process(quick(10), &fate);
    world.run(&process, &fate).await.unwrap();
    assert_eq!(process.metrics.index_rebuilds.get(), 1);
    world.assert_exact().await;
}

/// The keys are read while a rebuilding is half done, and by the time of the answer the watermark is what it was before: what
/// was not found then is not new.
#[tokio::test]
async fn what_is_looked_up_amid_a_rebuilding_makes_no_second_rows() {
    let mut world = SmallWorld::new(ONE_LANE);
    let records = |content| (0..20).map(|who| rec(who, content)).collect::<Vec<_>>();
    let fate = Fate::immortal();
    world.send("a", &records(1));
    world.run(&world.process(quick(100), &fate), &fate).await.unwrap();
    world.send("b", &records(2));
    fate.rebuild_at_the_next_lookup();
    let process = world.process(quick(100), &fate);
    world.run(&process, &fate).await.unwrap();
    world.assert_exact().await;
    assert_eq!(process.metrics.records("overwritten"), 20);
    assert_eq!(process.metrics.index_rebuilds.get(), 0, "there was nothing to repair");
}

/// The chunk in hand lands, and its offsets are committed, although what is behind it cannot be read.
#[tokio::test]
async fn what_fails_behind_a_chunk_does_not_keep_it_from_landing() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1), rec(2, 1)]);
    world.send("b", &[rec(3, 1), rec(4, 1)]);
    world.stored.damage_from(Topic::Records, 0, 2);
    let fate = Fate::immortal();
    fate.hold(Some("w0"));
    let process = world.process(quick(2), &fate);
    let meanwhile = async {
        world.stored.until(|| world.stored.refused() > 0).await;
        fate.hold(None);
    };
    let (landed, ()) = tokio::join!(world.run_lane(&process, &fate, 0), meanwhile);
    assert_eq!(landed, Err(Trouble::Halt("damaged".to_owned())));
    assert_eq!(world.stored.committed(Topic::Records, 0), 2);
    assert_eq!(process.metrics.records("landed"), 2);
}

fn panics(
    _: Arc<Context>,
    _: Box<dyn PartitionReader>,
    _: CancellationToken,
) -> BoxFuture<'static, Result<(), Trouble>> {
    async { panic!("out of order") }.boxed()
}

#[tokio::test]
async fn a_panic_is_reported_as_a_halt() {
    let world = SmallWorld::new(ONE_LANE);
    let context = world.process(quick(10), &Fate::immortal());
    let stop = CancellationToken::new();
    let consuming = consume(context.clone(), ("g", Topic::Records), stop.clone(), panics);
    let halted = async {
        while context.health.check().is_ok() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(consuming, halted) };
    timeout(Duration::from_secs(30), both).await.expect("it halts");
    assert_eq!(context.health.check(), Err("partition 0 of records has halted: a bug: out of order".to_owned()));
}
