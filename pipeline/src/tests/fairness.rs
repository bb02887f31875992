//! A small tenant beside a large one in the same lane.

use super::{
    mortal::Fate,
    small_world::{Rec, SmallWorld, quick},
};
use crate::{Config, Pipeline};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tributary_backends::log::Topic;
use tributary_schemas::identity::Lanes;

const ONE_LANE: Lanes = Lanes { partitions: 1, spread: 1 };
const PATIENCE: Duration = Duration::from_secs(30);

/// So many records of a workspace.
fn records(workspace: u8, count: u8) -> Vec<Rec> {
    (0..count).map(|who| Rec { workspace, who, content: 1 }).collect()
}

fn batches(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A pipeline on what was sent, with the large tenant's commit held up for as long as `meanwhile` takes.
async fn while_the_large_one_is_held(world: &SmallWorld, config: Config, meanwhile: impl AsyncFnOnce()) {
    let (fate, stop) = (Fate::immortal(), CancellationToken::new());
    fate.hold(Some("w0"));
    let pipeline = Pipeline { context: world.process(config, &fate) };
    let running = tokio::spawn(pipeline.run(stop.clone()));
    timeout(PATIENCE, meanwhile()).await.expect("nobody waits for the large one");
    fate.hold(None);
    timeout(PATIENCE, world.stored.drained(Topic::Records, 0)).await.expect("all is done");
    stop.cancel();
    timeout(PATIENCE, running).await.expect("it ends in time").unwrap().unwrap();
    world.assert_exact().await;
}

async fn landed(world: &SmallWorld, wanted: &[&str]) {
    while world.landed_batches() != batches(wanted) {
        tokio::task::yield_now().await;
    }
}

/// One chunk has both: the small one is said to have landed before the large one has.
#[tokio::test]
async fn a_small_tenant_does_not_wait_for_a_large_one_in_its_chunk() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("large", &records(0, 60));
    world.send("small", &records(1, 2));
    world.send("small", &records(2, 2));
    while_the_large_one_is_held(&world, quick(1_000), async || {
        landed(&world, &["small-1", "small-2"]).await;
        assert_eq!(world.stored.committed(Topic::Records, 0), 0, "the chunk as a whole is not done");
    })
    .await;
}

/// Also when only one table of a chunk is worked on at a time, and the large one came first.
#[tokio::test]
async fn the_smallest_parts_of_a_chunk_go_first() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("large", &records(0, 60));
    world.send("middle", &records(1, 20));
    world.send("small", &records(2, 2));
    let config = Config { concurrent_tables: 1, ..quick(1_000) };
    while_the_large_one_is_held(&world, config, async || landed(&world, &["middle-1", "small-2"]).await).await;
}

/// However much the large one has sent: of a chunk it has no more than the chunk's size, so what is behind it in the lane
/// waits for that much and not for all of it.
#[tokio::test]
async fn what_is_behind_a_chunk_waits_for_that_chunk_only() {
    let mut world = SmallWorld::new(ONE_LANE);
    world.send("large", &records(0, 30));
    world.send("small", &records(1, 2));
    world.send("larger", &records(0, 200));
    let config = quick(10);
    let fate = Fate::immortal();
    let stop = CancellationToken::new();
    let pipeline = Pipeline { context: world.process(config, &fate) };
    let running = tokio::spawn(pipeline.run(stop.clone()));
    timeout(PATIENCE, async {
        while !world.landed_batches().contains("small-1") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it lands");
    assert!(world.stored.committed(Topic::Records, 0) <= 50, "three chunks before it, its own, and one on its way");
    timeout(PATIENCE, world.stored.drained(Topic::Records, 0)).await.expect("all is done");
    stop.cancel();
    timeout(PATIENCE, running).await.expect("it ends in time").unwrap().unwrap();
    world.assert_exact().await;
}
