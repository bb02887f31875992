//! The whole pipeline: groups, small topics, the sweep, and its end.

use super::{
    mortal::Fate,
    small_world::{Rec, SmallWorld, quick},
};
use crate::{Config, Pipeline, PipelineError, drained};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    log::{Append, Message, Topic, embedded},
    tables::BatchRow,
    world::SystemWorld,
};
use tributary_schemas::{
    batch::Fact,
    frame::{Frame, Reject},
    identity::Lanes,
};

const TWO_LANES: Lanes = Lanes { partitions: 2, spread: 2 };

fn encoded(frame: &impl Frame) -> Bytes {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes.into()
}

fn batch_row(batch_id: &str) -> BatchRow {
    BatchRow {
        workspace: "w0".into(),
        batch_id: batch_id.into(),
        created_at: 0,
        accepted: 2,
        rejected: 1,
        total_errors: 1,
        errors: Vec::new(),
        source: "s".into(),
        kind: "email".into(),
        format: None,
        attachments: 0,
    }
}

/// Facts of a batch, once `is_there` says that they are all there.
async fn facts_when(world: &SmallWorld, batch: &str, is_there: impl Fn(&[Fact]) -> bool) -> Vec<Fact> {
    let look = async {
        loop {
            let found = world.tables.batch("w0", batch).await.unwrap().expect("its row is there");
            let facts: Vec<_> = found.facts.into_iter().map(|(fact, _)| fact).collect();
            if is_there(&facts) {
                return facts;
            }
            world.stored.drained(Topic::BatchEvents, 0).await;
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), look).await.expect("the facts come")
}

#[tokio::test]
async fn records_rejects_and_facts_reach_their_tables_and_the_pipeline_ends() {
    let mut world = SmallWorld::new(TWO_LANES);
    for batch in ["b-0", "never"] {
        world.tables.put_batch(batch_row(batch)).await.unwrap();
    }
    world.send("b", &[Rec { workspace: 0, who: 1, content: 1 }, Rec { workspace: 0, who: 2, content: 1 }]);
    let reject = Reject {
        workspace: "w0".into(),
        batch_id: "b-0".into(),
        record_index: 2,
        line: None,
        received_at: 0,
        errors: Vec::new(),
        payload: "{}".into(),
        payload_cut: false,
    };
    world.stored.put(Topic::Rejects, 0, Bytes::from_static(b"b-0"), encoded(&reject));
    world.stored.put(Topic::Rejects, 0, Bytes::from_static(b"b-0"), Bytes::from_static(b"no reject"));

    let (fate, stop) = (Fate::immortal(), CancellationToken::new());
    let config = Config { sweep_interval: Duration::from_millis(20), ..quick(10) };
    let pipeline = Pipeline { context: world.process(config, &fate) };
    let (metrics, log) = (pipeline.metrics(), pipeline.context.log.clone());
    let running = tokio::spawn(pipeline.run(stop.clone()));

    let facts = facts_when(&world, "b-0", |facts| facts.iter().any(|fact| matches!(fact, Fact::Landed { .. }))).await;
    assert!(!facts.is_empty());
    // Created long ago, and nothing of it in the log.
    let facts = facts_when(&world, "never", |facts| !facts.is_empty()).await;
    assert!(matches!(&facts[..], [Fact::Failed { reason }] if reason.contains("none of its records")), "{facts:?}");
    for (topic, partition) in [(Topic::Records, 0), (Topic::Records, 1), (Topic::Rejects, 0), (Topic::BatchEvents, 0)] {
        timeout(Duration::from_secs(30), world.stored.drained(topic, partition)).await.expect("all is done");
    }
    assert_eq!(world.tables.rejects("w0", "b-0", None, 10).await.unwrap(), [reject]);
    assert_eq!(metrics.records("rejected"), 1);
    assert_eq!(world.stored.all(Topic::DeadLetters, 0).len(), 1);
    stop.cancel();
    timeout(Duration::from_secs(10), running).await.expect("it ends in time").unwrap().unwrap();
    assert!(drained(&*log).await.unwrap());
    world.stored.put(Topic::Rejects, 0, Bytes::new(), Bytes::new());
    assert!(!drained(&*log).await.unwrap());
}

#[tokio::test]
async fn a_lane_that_halts_is_reported_and_the_rest_goes_on() {
    let mut world = SmallWorld::new(Lanes { partitions: 1, spread: 1 });
    world.tables.put_batch(batch_row("never")).await.unwrap();
    // The lake refuses to open a table whose log is not one.
    let log = world.lake.table_url("w0").join("_delta_log/").unwrap().to_file_path().unwrap();
    std::fs::create_dir_all(&log).unwrap();
    std::fs::write(log.join("00000000000000000000.json"), b"no commit").unwrap();
    world.send("b", &[Rec { workspace: 0, who: 1, content: 1 }]);

    let (fate, stop) = (Fate::immortal(), CancellationToken::new());
    let config = Config { sweep_interval: Duration::from_millis(20), ..quick(10) };
    let pipeline = Pipeline { context: world.process(config, &fate) };
    let (health, context) = (pipeline.health(), Arc::clone(&pipeline.context));
    let running = tokio::spawn(pipeline.run(stop.clone()));
    facts_when(&world, "never", |facts| !facts.is_empty()).await;
    let halted = async {
        while health.check().is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), halted).await.expect("the lane halts");
    assert!(health.check().unwrap_err().contains("partition 0 of records"), "{:?}", health.check());
    stop.cancel();
    let ended = timeout(Duration::from_secs(10), running).await.expect("it ends in time").unwrap();
    assert!(matches!(ended, Err(PipelineError::Halted(faults)) if faults.len() == 1));
    assert_eq!(context.metrics.records("landed"), 0);
}

/// The same with the embedded log: read, committed, and read again by the next process.
#[tokio::test]
async fn the_embedded_log_is_landed_and_drained() {
    let mut world = SmallWorld::new(TWO_LANES);
    let dir = tempfile::tempdir().unwrap();
    for batch in 0..3u8 {
        let records: Vec<_> = (0..20).map(|who| Rec { workspace: who % 2, who, content: batch * (who % 2) }).collect();
        world.send(&format!("b{batch}"), &records);
        let options = embedded::Options { lanes: TWO_LANES, ..embedded::Options::default() };
        let log = embedded::open(dir.path(), options, Arc::new(SystemWorld)).unwrap();
        for lane in 0..2 {
            let high = log.watermarks(Topic::Records, lane).await.unwrap().high as usize;
            let new = world.stored.all(Topic::Records, lane).into_iter().skip(high);
            let append = |Message { key, value, .. }| Append { topic: Topic::Records, partition: lane, key, value };
            log.append(new.map(append).collect()).await.unwrap();
        }
        let fate = Fate::immortal();
        let mut context = Arc::into_inner(world.process(quick(7), &fate)).unwrap();
        context.log = log.clone();
        let stop = CancellationToken::new();
        let running = tokio::spawn(Pipeline { context: Arc::new(context) }.run(stop.clone()));
        let done = async {
            while !drained(&*log).await.unwrap() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), done).await.expect("all is done");
        stop.cancel();
        timeout(Duration::from_secs(10), running).await.expect("it ends in time").unwrap().unwrap();
    }
    world.assert_rows().await;
}
