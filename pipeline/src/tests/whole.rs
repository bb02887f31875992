//! The whole pipeline: groups, small topics, the sweep, and its end.

use super::{
    mortal::Fate,
    small_world::{Rec, SmallWorld, quick},
};
use crate::{Config, Pipeline, PipelineError, drained, lake};
use bytes::Bytes;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    log::{Append, Message, RecordLog, Topic, embedded},
    tables::BatchRow,
    world::SystemWorld,
};
use tributary_schemas::{
    batch::Fact,
    frame::{Frame, Reject},
    identity::Lanes,
};

pub(super) const TWO_LANES: Lanes = Lanes { partitions: 2, spread: 2 };

fn encoded(frame: &impl Frame) -> Bytes {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes.into()
}

pub(super) fn batch_row(batch_id: &str) -> BatchRow {
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
pub(super) async fn facts_when(world: &SmallWorld, batch: &str, is_there: impl Fn(&[Fact]) -> bool) -> Vec<Fact> {
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
async fn records_rejects_attachments_and_facts_reach_their_tables_and_the_pipeline_ends() {
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
    let nonsense = Bytes::from_static(b"no such frame");
    for topic in [Topic::Rejects, Topic::Attachments] {
        world.stored.put(topic, 0, Bytes::from_static(b"b-0"), nonsense.clone());
    }

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
    let small = [Topic::Rejects, Topic::BatchEvents, Topic::Attachments].map(|topic| (topic, 0));
    for (topic, partition) in [(Topic::Records, 0), (Topic::Records, 1)].into_iter().chain(small) {
        timeout(Duration::from_secs(30), world.stored.drained(topic, partition)).await.expect("all is done");
    }
    assert_eq!(world.tables.rejects("w0", "b-0", None, 10).await.unwrap(), [reject]);
    let attachments = world.tables.attachments("w0", "b-0", None, 10).await.unwrap();
    let places: Vec<_> = attachments.iter().map(|attachment| (attachment.record_index, attachment.n)).collect();
    assert_eq!(places, [(0, 0), (1, 0), (1, 1)]);
    assert_eq!(world.stored.all(Topic::DeadLetters, 0).len(), 2);
    stop.cancel();
    timeout(Duration::from_secs(10), running).await.expect("it ends in time").unwrap().unwrap();
    assert_eq!(metrics.records("rejected"), 1);
    assert!(drained(&*log).await.unwrap());
    world.stored.put(Topic::Attachments, 0, Bytes::new(), Bytes::new());
    assert!(!drained(&*log).await.unwrap());
}

#[tokio::test]
async fn a_lane_that_halts_is_reported_and_the_rest_goes_on() {
    let mut world = SmallWorld::new(Lanes { partitions: 1, spread: 1 });
    world.tables.put_batch(batch_row("never")).await.unwrap();
    // The lake refuses to open a table whose log is not one.
    let commit = "_delta_log/00000000000000000000.json";
    lake::tests::put(&world.lake, "w0", commit, b"no commit").await;
    world.send("b", &[Rec { workspace: 0, who: 1, content: 1 }]);

    let (fate, stop) = (Fate::immortal(), CancellationToken::new());
    // The lane that stands is waited for as long as the deadline.
    let (sweep_interval, landing_deadline) = (Duration::from_millis(20), Duration::from_millis(200));
    let config = Config { sweep_interval, landing_deadline, ..quick(10) };
    let pipeline = Pipeline { context: world.process(config, &fate) };
    let (health, context, again) = (pipeline.health(), Arc::clone(&pipeline.context), pipeline.clone());
    let running = tokio::spawn(pipeline.run(stop.clone()));
    facts_when(&world, "never", |facts| !facts.is_empty()).await;
    let halted = async {
        while health.check().is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), halted).await.expect("the lane halts");
    assert!(health.check().unwrap_err().contains("partition 0 of records"), "{:?}", health.check());
    assert_eq!(health.ready(), health.check(), "what has halted is not ready");
    stop.cancel();
    let ended = timeout(Duration::from_secs(10), running).await.expect("it ends in time").unwrap();
    assert!(matches!(ended, Err(PipelineError::Halted(faults)) if faults.len() == 1));
    assert_eq!(context.metrics.records("landed"), 0);

    // Once that is mended, another run lands what this one could not.
    lake::tests::remove(&world.lake, "w0", commit).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(again.run(stop.clone()));
    let landed = async {
        while context.metrics.records("landed") == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), landed).await.expect("it lands");
    assert_eq!(health.check(), Ok(()));
    let able = async {
        while health.ready().is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), able).await.expect("it has all that it is to have, and has landed a chunk");
    stop.cancel();
    timeout(Duration::from_secs(10), running).await.expect("it ends in time").unwrap().unwrap();
}

fn embedded_log(dir: &Path) -> Arc<dyn RecordLog> {
    let options = embedded::Options { lanes: TWO_LANES, ..embedded::Options::default() };
    embedded::open(dir, options, Arc::new(SystemWorld)).unwrap()
}

/// Appends to `log` what the world's records have after the first `skip` of each lane.
async fn feed(log: &dyn RecordLog, world: &SmallWorld, skip: [usize; 2]) {
    for (lane, skip) in (0..).zip(skip) {
        let new = world.stored.all(Topic::Records, lane).into_iter().skip(skip);
        let append = |Message { key, value, .. }| Append { topic: Topic::Records, partition: lane, key, value };
        log.append(new.map(append).collect()).await.unwrap();
    }
}

fn ends(world: &SmallWorld) -> [usize; 2] {
    [0, 1].map(|lane| world.stored.all(Topic::Records, lane).len())
}

/// Runs a pipeline on the log until everything is done or something has halted.
async fn land(world: &SmallWorld, log: &Arc<dyn RecordLog>) -> Result<(), PipelineError> {
    let mut context = Arc::into_inner(world.process(quick(7), &Fate::immortal())).unwrap();
    context.log = log.clone();
    let (pipeline, stop) = (Pipeline { context: Arc::new(context) }, CancellationToken::new());
    let health = pipeline.health();
    let running = tokio::spawn(pipeline.run(stop.clone()));
    let done = async {
        while !drained(&**log).await.unwrap() && health.check().is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), done).await.expect("all is done");
    stop.cancel();
    timeout(Duration::from_secs(10), running).await.expect("it ends in time").unwrap()
}

fn twenty(batch: u8) -> Vec<Rec> {
    (0..20).map(|who| Rec { workspace: who % 2, who, content: batch * (who % 2) }).collect()
}

/// The same with the embedded log: read, committed, and read again by the next process.
#[tokio::test]
async fn the_embedded_log_is_landed_and_drained() {
    let mut world = SmallWorld::new(TWO_LANES);
    let dir = tempfile::tempdir().unwrap();
    for batch in 0..3u8 {
        let before = ends(&world);
        world.send(&format!("b{batch}"), &twenty(batch));
        let log = embedded_log(dir.path());
        feed(&*log, &world, before).await;
        land(&world, &log).await.unwrap();
    }
    world.assert_rows().await;
}

/// Its offsets start from 0 again, below the positions in the tables: nothing of it may be skipped.
#[tokio::test]
async fn a_log_made_anew_is_landed_from_its_beginning() {
    let mut world = SmallWorld::new(TWO_LANES);
    world.send("old", &twenty(1));
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = embedded_log(old.path());
    feed(&*log, &world, [0, 0]).await;
    land(&world, &log).await.unwrap();

    let before = ends(&world);
    world.send("new", &[Rec { workspace: 0, who: 100, content: 1 }, Rec { workspace: 1, who: 101, content: 1 }]);
    let log = embedded_log(new.path());
    feed(&*log, &world, before).await;
    land(&world, &log).await.unwrap();
    let mut rows = 0;
    for workspace in ["w0", "w1"] {
        let table = world.lake.existing(workspace).await.unwrap().unwrap();
        rows += table.files().iter().map(|file| file.rows - file.deleted).sum::<u64>();
    }
    assert_eq!(rows, 22);
}

/// Its next offsets were given to other records already, which the tables have: going on would lose the new ones.
#[tokio::test]
async fn a_log_replaced_by_its_older_copy_halts_the_lane() {
    let mut world = SmallWorld::new(TWO_LANES);
    world.send("b", &twenty(1));
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = embedded_log(dir.path());
    let id = log.id().to_owned();
    feed(&*log, &world, [0, 0]).await;
    land(&world, &log).await.unwrap();
    drop(log);
    // An empty log of the same id is the oldest copy there can be.
    std::fs::write(copy.path().join("id"), id).unwrap();
    let log = embedded_log(copy.path());
    feed(&*log, &world, ends(&world).map(|end| end - 1)).await;
    let ended = land(&world, &log).await;
    assert!(matches!(&ended, Err(PipelineError::Halted(faults)) if faults[0].contains("older copy")), "{ended:?}");
}
