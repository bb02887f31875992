//! Partitions that come and go, told by a group that the test plays.

use super::{
    memory_log::{MemoryLog, Reader},
    mortal::Fate,
    small_world::{SmallWorld, quick},
};
use crate::{Trouble, consumer::consume, context::Context, holdings::Holding};
use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tributary_backends::log::{stand_in::StandIn, *};
use tributary_schemas::identity::Lanes;

const PATIENCE: Duration = Duration::from_secs(30);

type Told = mpsc::UnboundedReceiver<Result<Change, LogError>>;

/// A log whose members are told what the test says, one after the other.
#[derive(Debug)]
struct PlayedLog {
    log: MemoryLog,
    members: Mutex<Vec<Told>>,
    /// The last member has left.
    left: Arc<AtomicBool>,
}

struct Played {
    told: Told,
    left: Arc<AtomicBool>,
}

impl Drop for Played {
    fn drop(&mut self) {
        self.left.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Member for Played {
    async fn next(&mut self) -> Result<Change, LogError> {
        match self.told.recv().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl StandIn for PlayedLog {
    fn behind(&self) -> &dyn RecordLog {
        &self.log
    }
    async fn join(&self, _: &str, _: Topic) -> Result<Box<dyn Member>, LogError> {
        self.left.store(false, Ordering::SeqCst);
        let told = self.members.lock().unwrap().remove(0);
        Ok(Box::new(Played { told, left: self.left.clone() }))
    }
}

/// A reader that is worth nothing once its member has left.
struct Leased {
    reader: Reader,
    left: Arc<AtomicBool>,
}

#[async_trait]
impl PartitionReader for Leased {
    fn topic(&self) -> Topic {
        self.reader.topic()
    }
    fn partition(&self) -> u32 {
        self.reader.partition()
    }
    fn position(&self) -> i64 {
        self.reader.position()
    }
    async fn filled(&mut self) -> Result<(), LogError> {
        self.reader.filled().await
    }
    async fn fetch(&mut self, limit: FetchLimit) -> Result<Vec<Message>, LogError> {
        self.reader.fetch(limit).await
    }
    fn seek(&mut self, offset: i64) {
        self.reader.seek(offset);
    }
    async fn commit(&mut self, offset: i64) -> Result<(), LogError> {
        if self.left.load(Ordering::SeqCst) {
            return Err(LogError::Fenced { topic: self.topic(), partition: self.partition() });
        }
        self.reader.commit(offset).await
    }
    async fn watermarks(&self) -> Result<Watermarks, LogError> {
        self.reader.watermarks().await
    }
}

/// A process, what it is told, and its consuming.
struct Scene {
    world: SmallWorld,
    context: Arc<Context>,
    log: MemoryLog,
    left: Arc<AtomicBool>,
    tell: Vec<mpsc::UnboundedSender<Result<Change, LogError>>>,
    stop: CancellationToken,
}

impl Scene {
    /// So many memberships can be told.
    fn new(memberships: usize) -> Self {
        let world = SmallWorld::new(Lanes { partitions: 2, spread: 2 });
        let fate = Fate::immortal();
        let log = MemoryLog { stored: world.stored.clone(), lanes: 2, fate: fate.clone() };
        let (tell, told): (Vec<_>, Vec<_>) = (0..memberships).map(|_| mpsc::unbounded_channel()).unzip();
        let left = Arc::new(AtomicBool::new(true));
        let played = PlayedLog { log: log.clone(), members: Mutex::new(told), left: left.clone() };
        let mut context = Arc::into_inner(world.process(quick(10), &fate)).unwrap();
        context.log = Arc::new(played);
        Self { world, context: Arc::new(context), log, left, tell, stop: CancellationToken::new() }
    }

    fn assign(&self, membership: usize, partition: u32) {
        let reader = self.log.reader(Topic::Records, partition);
        let reader = Box::new(Leased { reader, left: self.left.clone() });
        self.tell[membership].send(Ok(Change::Assigned(reader))).unwrap();
    }

    /// What comes back says when the work on it has ended.
    fn revoke(&self, partition: u32) -> CancellationToken {
        let ended = CancellationToken::new();
        let told = ended.clone();
        let release = Release(Some(Box::new(move || told.cancel())));
        self.tell[0].send(Ok(Change::Revoked { partition, release })).unwrap();
        ended
    }

    fn holds(&self, partition: u32) -> bool {
        self.context.holdings.now().iter().any(|held| held.partition == partition)
    }

    async fn until(&self, is_true: impl Fn(&Self) -> bool) {
        while !is_true(self) {
            tokio::task::yield_now().await;
        }
    }

    /// Consumes with `work` while `play` goes on, and then to the end.
    async fn play(self, work: crate::consumer::Work, play: impl AsyncFnOnce(&Self)) -> Self {
        let consuming = consume(self.context.clone(), ("g", Topic::Records), self.stop.clone(), work);
        let playing = async {
            play(&self).await;
            self.stop.cancel();
        };
        let both = async { tokio::join!(consuming, playing) };
        timeout(PATIENCE, both).await.expect("it goes on, and ends");
        self
    }
}

fn halts(
    _: Arc<Context>,
    _: Box<dyn PartitionReader>,
    _: CancellationToken,
) -> BoxFuture<'static, Result<(), Trouble>> {
    async { Err(Trouble::Halt("broken".to_owned())) }.boxed()
}

#[tokio::test]
async fn what_has_halted_is_not_ours_to_say_once_it_is_revoked() {
    let scene = Scene::new(1);
    scene
        .play(halts, async |scene| {
            scene.assign(0, 0);
            scene.assign(0, 1);
            scene.until(|scene| scene.context.health.faults().len() == 2).await;
            scene.revoke(0).cancelled().await;
            assert_eq!(scene.context.health.faults(), ["partition 1 of records has halted: broken"]);
            let halted = Some("broken".to_owned());
            assert_eq!(
                scene.context.holdings.now(),
                [Holding { topic: Topic::Records, partition: 1, halted, waits: None }]
            );
        })
        .await;
}

#[tokio::test]
async fn a_membership_that_fails_is_followed_by_another() {
    let scene = Scene::new(2);
    let scene = scene.play(halts, async |scene| {
        scene.assign(0, 0);
        scene.until(|scene| scene.holds(0) && scene.context.health.faults().len() == 1).await;
        scene.tell[0].send(Err(LogError::Halted("the coordinator refuses us".into()))).unwrap();
        scene
            .until(|scene| {
                scene.context.health.faults() == ["group g of records has halted: the coordinator refuses us"]
            })
            .await;
        assert!(!scene.holds(0), "what it had is others'");
        scene.assign(1, 1);
        scene.until(|scene| scene.context.health.faults() == ["partition 1 of records has halted: broken"]).await;
    });
    let scene = scene.await;
    assert_eq!(scene.context.health.faults().len(), 1, "what has halted at the end is said");
}

/// Ends only when the test gives room, and says with which offset it has ended.
fn lingers(
    context: Arc<Context>,
    mut reader: Box<dyn PartitionReader>,
    stop: CancellationToken,
) -> BoxFuture<'static, Result<(), Trouble>> {
    async move {
        stop.cancelled().await;
        let _room = context.budget.acquire().await.unwrap();
        reader.commit(7).await?;
        Ok(())
    }
    .boxed()
}

/// As for a process that slept through its session: its partition is lost, and given to it again at once.
#[tokio::test]
async fn a_partition_that_comes_back_waits_for_the_work_of_its_last_turn() {
    let scene = Scene::new(1);
    scene
        .play(lingers, async |scene| {
            let all = u32::try_from(scene.context.budget.available_permits()).unwrap();
            let no_room = scene.context.budget.acquire_many(all).await.unwrap();
            scene.assign(0, 0);
            scene.until(|scene| scene.holds(0)).await;
            scene.context.health.able("partition 0 of records");
            let ended = scene.revoke(0);
            scene.assign(0, 0);
            // Once this one is through, the ones before it have been seen.
            scene.revoke(1).cancelled().await;
            assert!(!ended.is_cancelled() && scene.holds(0), "the work of its last turn goes on");
            drop(no_room);
            ended.cancelled().await;
            scene.until(|scene| scene.holds(0) && scene.context.health.ready().is_err()).await;
            scene.context.health.able("partition 0 of records");
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(scene.holds(0), "and nothing of its last turn takes it away");
        })
        .await;
}

/// What is finished within the grace commits its offsets, for the process leaves its group after that.
#[tokio::test]
async fn the_work_ends_before_the_member_leaves() {
    let scene = Scene::new(1);
    let scene = scene.play(lingers, async |scene| {
        scene.assign(0, 1);
        scene.until(|scene| scene.holds(1)).await;
    });
    let scene = scene.await;
    assert!(scene.left.load(Ordering::SeqCst), "it has left");
    assert_eq!(scene.world.stored.committed(Topic::Records, 1), 7);
    assert_eq!(scene.context.health.check(), Ok(()));
}
