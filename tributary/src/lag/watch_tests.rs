//! Known backlogs on a real embedded log, its time and the watch's moved by hand.

use super::*;
use std::cell::Cell;
use tributary_backends::{
    log::{Append, Change, Member, PartitionReader, embedded},
    tables::embedded as tables,
    world::TestWorld,
};
use tributary_schemas::{
    frame::{Stamp, encode_record},
    identity::{Identity, Lanes},
    record,
};

const SECOND: Duration = Duration::from_secs(1);

/// A log of two lanes, and a watch over it that is in no process with lanes.
struct Scene {
    _directory: tempfile::TempDir,
    world: TestWorld,
    log: Arc<dyn RecordLog>,
    tables: Arc<dyn Tables>,
    watch: Watch,
    /// By the watch's own clock.
    now: Cell<Duration>,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let world = TestWorld::new(1);
        let options = embedded::Options { lanes: Lanes { partitions: 2, spread: 1 }, ..Default::default() };
        let log = embedded::open(&directory.path().join("log"), options, Arc::new(world.clone())).expect("a log");
        let tables = tables::open(&directory.path().join("tables")).expect("tables");
        let watch = Watch::new(log.clone(), Some(tables.clone()), Arc::new(world.clone()), None);
        Self { _directory: directory, world, log, tables, watch, now: Cell::default() }
    }

    /// Another watch, with no past, whose clock is off by so many seconds.
    fn newcomer(&self, ahead: i64) -> Watch {
        let world = TestWorld::new(2);
        world.set_micros(self.world.now_micros() + ahead * 1_000_000);
        Watch::new(self.log.clone(), Some(self.tables.clone()), Arc::new(world), None)
    }

    /// Appends to lane 1.
    async fn append(&self, workspace: &str, records: usize) {
        let frame = frame(workspace);
        let message = || Append { topic: Topic::Records, partition: 1, key: "k".into(), value: frame.clone().into() };
        self.log.append((0..records).map(|_| message()).collect()).await.expect("appended");
    }

    fn pass(&self, time: Duration) {
        self.world.advance(time);
        self.now.set(self.now.get() + time);
    }

    async fn look(&self) -> Report {
        self.watch.look_at(self.now.get(), false).await.expect("a look")
    }

    async fn lane(&self) -> PartitionLag {
        lane_of(&self.look().await)
    }
}

fn lane_of(report: &Report) -> PartitionLag {
    let lane = report.partitions.iter().find(|one| one.topic == "records" && one.partition == 1);
    lane.expect("lane 1").clone()
}

fn frame(workspace: &str) -> Vec<u8> {
    let json = br#"{"_type":"email","_schema_version":"1.0.0","_event_at":"2024-01-02T03:04:05Z","_product_id":"p",
        "_vendor_ids":{"a":"b"},"_project_id":"q","data":{}}"#;
    let record = record::parse(json).expect("a record");
    let identity = Identity::of(&record);
    let (source, batch_id) = ("s", "b");
    let stamp = Stamp { workspace, source, batch_id, record_index: 0, received_at: 0, identity, lanes_in_batch: None };
    let mut out = Vec::new();
    encode_record(&stamp, &record, &mut out);
    out
}

async fn reader(log: &dyn RecordLog) -> (Box<dyn Member>, Box<dyn PartitionReader>) {
    let mut member = log.join("lanes", Topic::Records).await.expect("joined");
    loop {
        match member.next().await.expect("a change") {
            Change::Assigned(reader) if reader.partition() == 1 => return (member, reader),
            _ => {}
        }
    }
}

/// A lane is paused for 20 s while 1,000 records come, then drains 40 a second.
#[tokio::test]
async fn a_known_backlog_is_what_is_said_of_it() {
    let scene = Scene::new();
    let (_member, mut reader) = reader(&*scene.log).await;
    for _ in 0..20 {
        scene.append("acme", 49).await;
        scene.append("small", 1).await;
        scene.pass(SECOND);
        scene.lane().await;
    }
    let paused = scene.lane().await;
    assert_eq!((paused.records, paused.drain_seconds), (1_000, None));
    assert!((paused.seconds - 20.0).abs() < 1.0, "{paused:?}");
    assert_eq!(paused.drains_in(), Some(f64::INFINITY));

    let (mut left, mut told) = (1_000, Vec::new());
    while left > 0 {
        left -= 40;
        reader.commit(1_000 - left).await.expect("committed");
        scene.pass(SECOND);
        let lane = scene.lane().await;
        assert_eq!(lane.records, u64::try_from(left).expect("not negative"));
        told.extend(lane.drain_seconds.map(|seconds| (seconds, left as f64 / 40.0)));
    }
    assert!(told.len() > 15, "{told:?}");
    assert!(told.iter().all(|(said, then)| (said - then).abs() <= then * 0.25), "{told:?}");
    let idle = scene.lane().await;
    assert_eq!((idle.records, idle.seconds, idle.drains_in()), (0, 0.0, Some(0.0)));
}

/// It has no looks of the past, and its clock may be off.
#[tokio::test]
async fn who_comes_later_sees_the_same() {
    let scene = Scene::new();
    scene.append("acme", 3_000).await;
    scene.pass(90 * SECOND);
    scene.append("late", 1_000).await;
    let report = scene.newcomer(0).look(true).await.expect("a look");
    let lane = lane_of(&report);
    assert_eq!((lane.records, lane.seconds, lane.throughput), (4_000, 90.0, None));
    let shares: Vec<_> = report.workspaces.iter().map(|one| (one.workspace.as_str(), one.records, one.exact)).collect();
    assert_eq!(shares, [("acme", 3_000, false), ("late", 1_000, false)], "samples from end to end");
    assert_eq!(report.workspaces[1].seconds, 0.0);

    let behind = lane_of(&scene.newcomer(-3_600).look(true).await.expect("a look"));
    assert_eq!(behind.seconds, 0.0, "never negative");
    let ahead = lane_of(&scene.newcomer(60).look(true).await.expect("a look"));
    assert_eq!(ahead.seconds, 150.0, "nobody can know better");
}

/// One that saw the records come knows how long that is ago, whatever the clocks say.
#[tokio::test]
async fn a_past_of_ones_own_bounds_what_clocks_say() {
    let scene = Scene::new();
    scene.lane().await;
    scene.pass(SECOND);
    scene.append("acme", 5).await;
    scene.lane().await;
    for _ in 0..10 {
        scene.pass(SECOND);
        scene.lane().await;
    }
    scene.world.step_back(Duration::from_secs(3_600));
    let back = scene.lane().await.seconds;
    assert!((10.0..=11.0).contains(&back), "{back}");
    scene.world.advance(Duration::from_secs(7_200));
    let ahead = scene.lane().await.seconds;
    assert!((10.0..=11.0).contains(&ahead), "{ahead}");
}

/// Alive, in the group, and doing nothing; then gone.
#[tokio::test]
async fn who_is_stuck_is_told_from_who_is_not_there() {
    let scene = Scene::new();
    let note = br#"{"name":"host:7","holds":[{"topic":"records","partition":1,"rate":null,"throughput":0.0,"still":0.0,"halted":null}]}"#;
    let leave = async |lives| {
        scene.tables.exchange(BOARD, Uuid::nil(), note, lives).await.expect("left");
    };
    scene.append("acme", 5).await;
    leave(NOTE_LIVES).await;
    let lane = scene.lane().await;
    assert_eq!((lane.state, lane.owner.as_deref()), (State::Working, Some("host:7")));
    scene.pass(29 * SECOND);
    leave(NOTE_LIVES).await;
    assert_eq!(scene.lane().await.state, State::Working);
    scene.pass(SECOND);
    leave(NOTE_LIVES).await;
    assert_eq!(scene.lane().await.state, State::Stuck);
    leave(SECOND).await;
    let mut gone = scene.lane().await;
    while gone.owner.is_some() {
        tokio::time::sleep(SECOND / 20).await;
        gone = scene.lane().await;
    }
    assert_eq!((gone.state, gone.owner), (State::NoOwner, None));
    let other = &scene.look().await.partitions[0];
    assert_eq!((other.partition, other.records, other.state), (0, 0, State::NoOwner), "an idle one as well");
}
