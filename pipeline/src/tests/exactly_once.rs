//! Order of batches, kills, repeats and the size of chunks never change the final table.

use super::{
    mortal::Fate,
    small_world::{Rec, SmallWorld, quick},
};
use crate::{
    Config,
    context::Context,
    lake::tests::{data_files, with_one_unclear_commit},
    metrics::Rival,
};
use proptest::prelude::*;
use tributary_backends::log::Topic;
use tributary_schemas::identity::Lanes;

const ONE_LANE: Lanes = Lanes { partitions: 1, spread: 1 };

fn rec(who: u8, content: u8) -> Rec {
    Rec { workspace: 0, who, content }
}

/// One process after another: each lives for a number of calls and may see its last one take effect.
#[derive(Debug, Clone)]
struct Plan {
    lanes: Lanes,
    batches: Vec<Vec<Rec>>,
    lives: Vec<(u64, bool, usize)>,
    chunk: usize,
    /// As [`Config::read_first`]: from no row at all on, or for all there are.
    read_first: u64,
}

fn plan() -> impl Strategy<Value = Plan> {
    let rec = (0u8..2, 0u8..8, 0u8..3).prop_map(|(workspace, who, content)| Rec { workspace, who, content });
    let batches = prop::collection::vec(prop::collection::vec(rec, 1..12), 1..5);
    let lives = prop::collection::vec((1u64..30, any::<bool>(), 1usize..9), 0..5);
    let lanes = (1u32..3).prop_flat_map(|partitions| (Just(partitions), 1..=partitions));
    let read_first = prop_oneof![Just(0), Just(u64::MAX)];
    (lanes, batches, lives, 1usize..20, read_first).prop_map(
        |((partitions, spread), batches, lives, chunk, read_first)| Plan {
            lanes: Lanes { partitions, spread },
            batches,
            lives,
            chunk,
            read_first,
        },
    )
}

async fn live_through(plan: Plan) {
    let mut world = SmallWorld::new(plan.lanes);
    let mut lives = plan.lives.into_iter();
    let config = |chunk| Config { read_first: plan.read_first, ..quick(chunk) };
    for (number, batch) in plan.batches.iter().enumerate() {
        world.send(&format!("b{number}"), batch);
        if let Some((calls, takes_effect, chunk)) = lives.next() {
            let fate = Fate::dies_at(calls, takes_effect);
            let process = world.process(config(chunk), &fate);
            // It may die or get through; both is fine.
            let _ = world.run(&process, &fate).await;
        }
    }
    let fate = Fate::immortal();
    let process = world.process(config(plan.chunk), &fate);
    world.run(&process, &fate).await.unwrap();
    world.assert_exact().await;
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn kills_and_chunk_sizes_change_nothing(plan in plan()) {
        block_on(live_through(plan));
    }
}

/// Every call of a life that overwrites, lands and repeats is once the last one, before and after its effect.
#[test]
fn a_kill_at_every_single_call_is_survived() {
    block_on(async {
        for takes_effect in [false, true] {
            for calls in 1..18 {
                let mut world = SmallWorld::new(ONE_LANE);
                world.send("a", &[rec(1, 1), rec(2, 1), rec(3, 1)]);
                let first = Fate::immortal();
                world.run(&world.process(quick(10), &first), &first).await.unwrap();
                world.send("b", &[rec(1, 2), rec(2, 1), rec(4, 1), rec(4, 2)]);
                let doomed = Fate::dies_at(calls, takes_effect);
                let _ = world.run(&world.process(quick(10), &doomed), &doomed).await;
                let last = Fate::immortal();
                world.run(&world.process(quick(10), &last), &last).await.unwrap();
                world.assert_exact().await;
            }
        }
    });
}

/// All offsets lost: every chunk comes again, in other sizes, and nothing changes.
#[tokio::test]
async fn a_complete_replay_is_skipped_and_its_facts_and_attachments_said_again() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1), rec(1, 2), rec(2, 1)]);
    let fate = Fate::immortal();
    world.run(&world.process(quick(2), &fate), &fate).await.unwrap();
    let version = world.lake.existing("w0").await.unwrap().unwrap().version();
    world.stored.rewind(Topic::Records, 0);
    let again = world.process(quick(10), &fate);
    world.run(&again, &fate).await.unwrap();
    world.assert_exact().await;
    assert_eq!(world.lake.existing("w0").await.unwrap().unwrap().version(), version, "nothing was committed");
    assert_eq!(again.metrics.replayed.get(), 3);
    assert_eq!(world.stored.all(Topic::BatchEvents, 0).len(), 2, "the fact was said twice");
    let said: Vec<_> = world.stored.all(Topic::Attachments, 0).into_iter().map(|message| message.value).collect();
    assert_eq!(said.len(), 8, "four attachments, said twice");
    assert_eq!(said[..4], said[4..], "the very same messages");
}

/// Records by their outcome, as a process has counted them.
fn counted(process: &Context) -> u64 {
    ["landed", "overwritten", "unchanged", "dead_lettered"].map(|outcome| process.metrics.records(outcome)).iter().sum()
}

/// A commit that is in the table although nobody heard so counts once, for whoever put it.
#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_counted() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("a", &[rec(1, 1), rec(2, 1)]);
    let fate = Fate::immortal();
    world.run(&world.process(quick(10), &fate), &fate).await.unwrap();
    world.send("b", &[rec(1, 2), rec(2, 1), rec(3, 1)]);
    let sound = world.lake.clone();
    world.lake = with_one_unclear_commit(&sound);
    let process = world.process(quick(10), &fate);
    world.run(&process, &fate).await.unwrap();
    world.lake = sound;
    assert_eq!(process.metrics.conflicts(Rival::Other), 1, "it was unclear");
    let outcomes = ["landed", "overwritten", "unchanged"].map(|outcome| process.metrics.records(outcome));
    assert_eq!(outcomes, [1, 1, 1]);
    world.assert_exact().await;
}

/// Killed before any of its calls, and gone on by another: what no table counts is counted once.
#[test]
fn records_are_counted_once_however_often_they_are_read() {
    block_on(async {
        for calls in 1..18 {
            let mut world = SmallWorld::new(ONE_LANE);
            world.send("a", &[rec(1, 1), rec(2, 1), rec(1, 2)]);
            world.send_garbage(0, b"no frame");
            let (doomed, last) = (Fate::dies_at(calls, false), Fate::immortal());
            let (one, other) = (world.process(quick(10), &doomed), world.process(quick(10), &last));
            let _ = world.run(&one, &doomed).await;
            world.run(&other, &last).await.unwrap();
            world.assert_exact().await;
            assert_eq!(counted(&one) + counted(&other), 4, "killed at call {calls}");
        }
    });
}

/// A process that was taken for dead goes on beside its successor.
#[tokio::test]
async fn of_two_owners_each_record_is_landed_by_one() {
    let mut world = SmallWorld::new(ONE_LANE);
    for batch in 0..20 {
        let records: Vec<_> = (0..10).map(|who| rec(who * 3 % 17, batch)).collect();
        world.send(&format!("b{batch}"), &records);
    }
    let fate = Fate::immortal();
    let (one, other) = (world.process(quick(7), &fate), world.process(quick(11), &fate));
    let (a, b) = tokio::join!(world.run(&one, &fate), world.run(&other, &fate));
    a.unwrap();
    b.unwrap();
    assert_eq!(counted(&one) + counted(&other), 200, "each counts what it has landed, and nothing of the other's");
    // The slower one may have set the offset back: a third owner finds everything there.
    world.stored.rewind(Topic::Records, 0);
    world.run(&world.process(quick(50), &fate), &fate).await.unwrap();
    world.assert_exact().await;
}

/// Both lanes of a table at the same time, in chunks of so many records.
async fn race(world: &SmallWorld, chunk: usize) {
    let fate = Fate::immortal();
    let process = world.process(quick(chunk), &fate);
    let (a, b) = tokio::join!(world.run_lane(&process, &fate, 0), world.run_lane(&process, &fate, 1));
    a.unwrap();
    b.unwrap();
    world.assert_exact().await;
    assert!(process.metrics.conflicts(Rival::Lane) > 0, "they met");
}

/// What a lane has written when another lane of the table comes first is good for the next version too.
#[tokio::test]
async fn lanes_that_race_for_a_table_write_each_file_once() {
    let mut world = SmallWorld::new(Lanes { partitions: 2, spread: 2 });
    let records: Vec<_> = (0..120).map(|who| rec(who, 1)).collect();
    world.send("a", &records);
    race(&world, 3).await;
    let table = world.lake.existing("w0").await.unwrap().unwrap();
    let written = data_files(&world.lake, "w0").await;
    assert_eq!(written, table.files().len(), "nothing was overwritten, and nothing written in vain");
}

/// The same with rows that are overwritten: their files get deletion vectors while the other lane commits.
#[tokio::test]
async fn lanes_that_race_mark_the_rows_of_their_own_files() {
    let mut world = SmallWorld::new(Lanes { partitions: 2, spread: 2 });
    for content in 0..4 {
        let records: Vec<_> = (0..60).map(|who| rec(who, content)).collect();
        world.send(&format!("b{content}"), &records);
    }
    race(&world, 5).await;
}
