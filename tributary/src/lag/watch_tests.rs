//! Known backlogs on a real embedded log, its time and the watch's moved by hand.

use super::*;
use crate::lag::report::{PartitionLag, State, WorkspaceLag};
use std::cell::Cell;
use tributary_backends::{
    log::{Append, Change, Member, Message, PartitionReader, embedded, stand_in::StandIn},
    tables::embedded as tables,
    world::TestWorld,
};
use tributary_schemas::{
    frame::{Stamp, encode_record},
    identity::{Identity, Lanes},
    record,
};

const SECOND: Duration = Duration::from_secs(1);

/// A log of two lanes or more, and a watch over it that is in no process with lanes.
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
        Self::with_lanes(2)
    }

    fn with_lanes(partitions: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let world = TestWorld::new(1);
        let options = embedded::Options { lanes: Lanes { partitions, spread: 1 }, ..Default::default() };
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
        self.append_to(1, workspace, records).await;
    }

    async fn append_to(&self, partition: u32, workspace: &str, records: usize) {
        let frame = frame(workspace);
        let message = || Append { topic: Topic::Records, partition, key: "k".into(), value: frame.clone().into() };
        self.log.append((0..records).map(|_| message()).collect()).await.expect("appended");
    }

    fn pass(&self, time: Duration) {
        self.world.advance(time);
        self.now.set(self.now.get() + time);
    }

    /// As a process that runs.
    async fn look(&self) -> Report {
        self.watch.look_at(|| self.now.get(), None).await.expect("a look")
    }

    async fn lane(&self) -> PartitionLag {
        lane_of(&self.look().await)
    }
}

/// In time for a command.
fn soon() -> Instant {
    Instant::now() + 4 * SECOND
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
    let report = scene.newcomer(0).look(soon()).await.expect("a look");
    let lane = lane_of(&report);
    assert_eq!((lane.records, lane.seconds, lane.throughput), (4_000, 90.0, None));
    let shares: Vec<_> = report.workspaces.iter().map(|one| (one.workspace.as_str(), one.records, one.exact)).collect();
    assert_eq!(shares, [("acme", 3_000, false), ("late", 1_000, false)], "samples from end to end");
    assert_eq!(report.workspaces[1].seconds, 0.0);

    let waits = (report.others.map(|others| others.records), report.workspaces[0].lanes.clone());
    assert_eq!(waits, (Some(0), vec![1]), "all of it was looked into");

    let behind = lane_of(&scene.newcomer(-3_600).look(soon()).await.expect("a look"));
    assert_eq!(behind.seconds, 0.0, "never negative");
    let ahead = lane_of(&scene.newcomer(60).look(soon()).await.expect("a look"));
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

/// What the owner says of lane 1, of which everything below `done` is done.
async fn owner_says(scene: &Scene, name: u128, says: &str) {
    let note = format!(r#"{{"name":"host:{name}","holds":[{{"topic":"records","partition":1,{says}}}],"rest":300}}"#);
    scene.tables.exchange(BOARD, Uuid::from_u128(name), note.as_bytes(), NOTE_LIVES).await.expect("left");
}

/// It commits every 300 s, so that a command that looks in between sees nothing move for long.
#[tokio::test]
async fn an_owner_that_rests_between_its_commits_is_not_stuck() {
    let scene = Scene::new();
    scene.append("acme", 100).await;
    for still in (0..=328).step_by(2) {
        owner_says(&scene, 7, &format!(r#""done":0,"rate":0.25,"still":{still},"least":{still}"#)).await;
        let lane = scene.lane().await;
        assert_eq!(lane.state, State::Working, "{still}: {lane:?}");
        assert_eq!(lane.still_seconds, f64::from((still - 300).max(0)), "{lane:?}");
        // By its own looks it then knows that this is longer than a pause.
        assert_eq!(lane.drain_seconds, (still < 306).then_some(f64::from(400 - still)), "{lane:?}");
        scene.pass(2 * SECOND);
    }
    owner_says(&scene, 7, r#""done":0,"still":330"#).await;
    let lane = scene.lane().await;
    assert_eq!((lane.state, lane.drains_in(), lane.still_seconds), (State::Stuck, Some(f64::INFINITY), 30.0));
}

/// Its notes are as old as the tables say, and times in them are lengths.
#[tokio::test]
async fn an_owner_is_there_and_the_age_is_known_whatever_the_clocks_say() {
    let scene = Scene::new();
    scene.append("acme", 5).await;
    owner_says(&scene, 7, r#""done":0,"still":540,"least":540,"most":542"#).await;
    for ahead in [-36_000, 0, 36_000] {
        let lane = lane_of(&scene.newcomer(ahead).look(soon()).await.expect("a look"));
        assert_eq!((lane.state, lane.owner.as_deref()), (State::Stuck, Some("host:7")), "{ahead}: {lane:?}");
        assert!((540.0..=557.0).contains(&lane.seconds), "{ahead}: {lane:?}");
    }
    // Restarted as another process: the old note is still there.
    owner_says(&scene, 8, r#""done":0"#).await;
    assert_eq!(scene.lane().await.owner.as_deref(), Some("host:8"));
}

/// Who looks has counted nothing itself.
#[tokio::test]
async fn how_much_lands_of_whom_is_what_all_owners_say() {
    let scene = Scene::new();
    scene.append("acme", 5).await;
    let leave = async |lane: u32, landing: &str| {
        let note = format!(r#"{{"name":"h","holds":[{{"topic":"records","partition":{lane}}}]{landing}}}"#);
        let process = Uuid::from_u128(u128::from(lane));
        scene.tables.exchange(BOARD, process, note.as_bytes(), NOTE_LIVES).await.expect("left");
    };
    let told = async || {
        let report = scene.newcomer(0).look(soon()).await.expect("a look");
        let of = |one: WorkspaceLag| (one.workspace, one.records, one.throughput);
        report.workspaces.into_iter().chain(report.others).map(of).collect::<Vec<_>>()
    };
    let all = |some: &[(&str, u64, Option<f64>)]| {
        some.iter().map(|(name, records, rate)| ((*name).to_owned(), *records, *rate)).collect::<Vec<_>>()
    };
    leave(0, r#","landing":{"named":{"acme":1.5},"others":0.0}"#).await;
    leave(1, r#","landing":{"named":{"acme":2.5,"idle":1.0},"others":0.0}"#).await;
    assert_eq!(told().await, all(&[("acme", 5, Some(4.0)), ("idle", 0, Some(1.0)), ("(others)", 0, Some(0.0))]));
    leave(0, r#","landing":{"named":{},"others":7.5}"#).await;
    assert_eq!(told().await, all(&[("acme", 5, Some(2.5)), ("idle", 0, Some(1.0)), ("(others)", 0, Some(7.5))]));
    let report = scene.look().await;
    assert_eq!((report.workspaces.len(), report.others), (0, None), "a process without lanes tells of none");
    // Of another version, which does not count.
    leave(0, "").await;
    assert_eq!(told().await, all(&[("acme", 5, None), ("(others)", 0, None)]));
}

/// A process that saw it come, and whose clock goes wrong.
#[tokio::test]
async fn however_long_something_stands_its_age_is_known() {
    let scene = Scene::new();
    scene.lane().await;
    scene.append("acme", 5).await;
    for _ in 0..300 {
        scene.pass(2 * SECOND);
        scene.lane().await;
    }
    for wrong in [7_200, 3_600] {
        scene.world.step_back(Duration::from_secs(wrong));
        let seconds = scene.lane().await.seconds;
        assert!((598.0..=600.0).contains(&seconds), "{seconds}");
        scene.world.advance(2 * Duration::from_secs(wrong));
    }
}

/// A command has one look; of a process each look reads some, of those that nobody moves first.
#[tokio::test]
async fn among_many_lanes_the_few_old_records_of_one_are_seen() {
    let scene = Scene::with_lanes(150);
    scene.append_to(149, "left behind", 3).await;
    scene.pass(100 * SECOND);
    for lane in 0..149 {
        scene.append_to(lane, "acme", 5).await;
    }
    scene.pass(20 * SECOND);
    let ages = |report: &Report| {
        let lanes = report.partitions.iter().filter(|one| one.topic == "records");
        lanes.map(|one| one.seconds).collect::<Vec<_>>()
    };
    let report = scene.newcomer(0).look(soon()).await.expect("a look");
    assert!(ages(&report)[..149].iter().all(|age| *age == 20.0), "{report:#?}");
    assert_eq!(ages(&report)[149], 120.0);
    let whose: Vec<_> =
        report.workspaces.iter().map(|one| (one.workspace.as_str(), one.records, one.lanes.len())).collect();
    assert_eq!(whose, [("acme", 745, 149), ("left behind", 3, 1)]);

    let holds =
        (0..149).map(|lane| format!(r#"{{"topic":"records","partition":{lane}}}"#)).collect::<Vec<_>>().join(",");
    let note = format!(r#"{{"name":"host:7","holds":[{holds}]}}"#);
    scene.tables.exchange(BOARD, Uuid::nil(), note.as_bytes(), NOTE_LIVES).await.expect("left");
    let report = scene.look().await;
    assert_eq!(ages(&report)[149], 120.0, "of all lanes it is the one without owner");
    scene.look().await;
    let report = scene.look().await;
    assert!(ages(&report)[..149].iter().all(|age| *age == 20.0), "64 at a time: {report:#?}");
    assert_eq!((report.workspaces.len(), report.others), (0, None), "it has no lanes");
}

/// Offsets are there, messages never come.
#[derive(Debug)]
struct Mute(Arc<dyn RecordLog>);

#[async_trait::async_trait]
impl StandIn for Mute {
    fn behind(&self) -> &dyn RecordLog {
        &*self.0
    }
    async fn look(&self, _: Topic, _: &[(u32, i64)], _: FetchLimit) -> Result<Vec<Vec<Message>>, LogError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_cannot_be_read_costs_nothing_of_the_rest() {
    let scene = Scene::new();
    scene.append("acme", 7).await;
    let mute = Arc::new(Mute(scene.log.clone()));
    let watch = Watch::new(mute, Some(scene.tables.clone()), Arc::new(scene.world.clone()), None);
    let report = watch.look(Instant::now() + SECOND).await.expect("a look");
    assert_eq!((lane_of(&report).records, report.owners_known), (7, true));
    assert_eq!((report.workspaces.len(), report.others.map(|others| others.records)), (0, Some(7)));
    let report = watch.look_at(|| SECOND, None).await.expect("a look");
    assert_eq!(lane_of(&report).records, 7);
}
