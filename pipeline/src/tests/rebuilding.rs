//! Lanes on real CQL tables, while others drop their index and fill it again.

use super::{
    mortal::Fate,
    small_world::{Rec, SmallWorld, quick},
};
use crate::{Config, rebuild_index};
use std::{sync::Arc, time::Duration};
use tributary_backends::{
    log::Topic,
    tables::{
        Tables,
        cql::{self, Options, drop_keyspaces},
    },
    world::{SystemWorld, World},
};
use tributary_schemas::identity::Lanes;

fn rec(who: u8, content: u8) -> Rec {
    Rec { workspace: 0, who, content }
}

fn options() -> Options {
    let node = std::env::var("TRIBUTARY_TEST_CQL");
    Options {
        nodes: vec![node.expect("TRIBUTARY_TEST_CQL names no server: tests/services/cassandra.sh start")],
        keyspace: format!("t{}", SystemWorld.uuid_v7().simple()),
        replication: Some(1),
        request_timeout: Duration::from_secs(60),
        start_timeout: Duration::from_secs(60),
        ..Options::default()
    }
}

/// Drops the index and fills it again whenever the lane has committed offsets.
async fn rebuild_again_and_again(world: &SmallWorld, tables: Arc<dyn Tables>) -> ! {
    let committed = || world.stored.committed(Topic::Records, 0);
    loop {
        let before = committed();
        rebuild_index(&world.lake, &*tables, None).await.unwrap();
        world.stored.until(|| committed() != before).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_goes_on_while_two_processes_rebuild_its_index() {
    goes_on(u64::MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_reads_its_index_beside_the_work_goes_on_just_so() {
    goes_on(0).await;
}

/// Every record overwrites: one that were not found would be a second row.
async fn goes_on(read_first: u64) {
    let options = options();
    let config = |chunk| Config { read_first, ..quick(chunk) };
    let open = async || cql::open(options.clone()).await.unwrap();
    let mut world = SmallWorld::new(Lanes { partitions: 1, spread: 1 });
    world.tables = open().await;
    for batch in 0..12 {
        let records: Vec<_> = (0..10).map(|who| rec(who * 3 % 17, batch)).collect();
        world.send(&format!("b{batch}"), &records);
    }
    let fate = Fate::immortal();
    let process = world.process(config(7), &fate);
    let (one, other) = (open().await, open().await);
    tokio::select! {
        landed = world.run(&process, &fate) => landed.unwrap(),
        never = rebuild_again_and_again(&world, one) => never,
        never = rebuild_again_and_again(&world, other) => never,
    }
    // The last of them was cut off: the next owner fills what it has left.
    world.send("last", &[rec(1, 77), rec(100, 1)]);
    world.run(&world.process(config(50), &fate), &fate).await.unwrap();
    world.assert_exact().await;
    drop_keyspaces(&options, false).await.unwrap();
}
