//! Batches that do not land in time: found, failed once, and healed by their records.

use super::{
    mortal::Fate,
    small_world::{Rec, SmallWorld, quick},
    whole::{TWO_LANES, batch_row, facts_when},
};
use crate::{Config, Pipeline};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tributary_backends::log::Topic;
use tributary_schemas::batch::{BatchStatus, Fact, status};

fn sweeping() -> Config {
    Config { sweep_interval: Duration::from_millis(10), ..quick(10) }
}

fn is_failed(fact: &Fact) -> bool {
    matches!(fact, Fact::Failed { .. })
}

/// Two processes that both think that sweeping is theirs.
#[tokio::test]
async fn a_stuck_batch_fails_once_and_heals_when_its_records_come() {
    let mut world = SmallWorld::new(TWO_LANES);
    world.tables.put_batch(batch_row("late-0")).await.unwrap();
    let stop = CancellationToken::new();
    let pipelines = [(), ()].map(|()| Pipeline { context: world.process(sweeping(), &Fate::immortal()) });
    let metrics = pipelines.each_ref().map(Pipeline::metrics);
    let running = pipelines.map(|pipeline| tokio::spawn(pipeline.run(stop.clone())));

    let facts = facts_when(&world, "late-0", |facts| facts.iter().any(is_failed)).await;
    assert_eq!(status(&facts, &[]), BatchStatus::Failed);
    assert!(matches!(&facts[..], [Fact::Failed { reason }] if reason.contains("never reached the log")), "{facts:?}");
    assert!(metrics.iter().map(|metrics| metrics.overdue_batches.get()).sum::<u64>() >= 1);

    world.send("late", &[Rec { workspace: 0, who: 1, content: 1 }, Rec { workspace: 0, who: 2, content: 1 }]);
    let healed = |facts: &[Fact]| status(facts, &[]) == BatchStatus::Complete;
    let facts = facts_when(&world, "late-0", healed).await;
    assert_eq!(facts.iter().filter(|fact| is_failed(fact)).count(), 1, "the same fact, however often it is said");
    stop.cancel();
    for running in running {
        timeout(Duration::from_secs(10), running).await.expect("it ends in time").unwrap().unwrap();
    }
    world.assert_rows().await;
}

/// A pipeline that was away for an hour finds batches long past their deadline whose records are in the log.
#[tokio::test]
async fn what_only_waits_its_turn_is_not_failed() {
    let mut world = SmallWorld::new(TWO_LANES);
    let batches: Vec<String> = (0..40).map(|n| format!("old{n}")).collect();
    for batch in &batches {
        world.tables.put_batch(batch_row(&format!("{batch}-0"))).await.unwrap();
        world.send(batch, &[Rec { workspace: 0, who: 1, content: 1 }, Rec { workspace: 0, who: 2, content: 2 }]);
    }
    let config = Config { sweep_interval: Duration::from_millis(1), ..quick(1) };
    let (pipeline, stop) = (Pipeline { context: world.process(config, &Fate::immortal()) }, CancellationToken::new());
    let metrics = pipeline.metrics();
    let running = tokio::spawn(pipeline.run(stop.clone()));
    for (topic, partition) in [(Topic::Records, 0), (Topic::Records, 1), (Topic::BatchEvents, 0)] {
        timeout(Duration::from_secs(60), world.stored.drained(topic, partition)).await.expect("all is done");
    }
    for batch in &batches {
        let facts = facts_when(&world, &format!("{batch}-0"), |facts| !facts.is_empty()).await;
        assert_eq!(status(&facts, &[]), BatchStatus::Complete);
        assert!(!facts.iter().any(is_failed), "{batch}: {facts:?}");
    }
    assert_eq!(metrics.overdue_batches.get(), 0);
    stop.cancel();
    timeout(Duration::from_secs(10), running).await.expect("it ends in time").unwrap().unwrap();
}
