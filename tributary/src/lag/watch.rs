//! Looks at how far every partition is behind: once for a command, again and again in every process that runs.
//!
//! Records come from the offsets alone, as Kafka's own tools have them. The age of the oldest one comes from looks of the
//! past when they saw it come, and else from its message, which is read without being in the group; so it is known also
//! right after a start. Rates need a past: a process has its own, and tells it in a note, for commands that have none.

use super::{
    metrics::Latest,
    note::{Held, Note, Owners},
    pace::{Look, Pace, Reading},
    report::{PartitionLag, Report, State, WorkspaceLag},
    share::{Part, Queue, Tally},
};
use anyhow::Context;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    log::{FetchLimit, LogError, Progress, RecordLog, Topic},
    tables::Tables,
    world::World,
};
use tributary_pipeline::{GROUPS, Holdings};
use tributary_schemas::frame::workspace_of;
use uuid::Uuid;

/// Between two looks of a process that runs.
const EVERY: Duration = Duration::from_secs(2);
/// A look that takes longer is given up.
const WITHIN: Duration = Duration::from_secs(10);
/// Whose records wait is looked at so often by a process that runs, and only in lanes that are behind for so long.
const SHARES_EVERY: Duration = Duration::from_secs(10);
const SHARES_FROM: f64 = 5.0;
/// Where the processes' notes are, and how long one lives.
const BOARD: &str = "lag";
const NOTE_LIVES: Duration = Duration::from_secs(10);
/// Bounds within which looks of the past say when a message came; else it is read.
const CLOSE_ENOUGH: Duration = Duration::from_secs(3);
/// Partitions of which messages are read in one look; those with the most go first.
const LOOKED_INTO: usize = 64;
/// Of one message, or one sample.
const ONE: FetchLimit = FetchLimit { max_bytes: 1, max_messages: 1, max_wait: Duration::from_secs(2) };
const SAMPLE: FetchLimit = FetchLimit { max_bytes: 4 << 20, max_messages: 1, max_wait: Duration::from_secs(2) };

type Place = (Topic, u32);

/// Looks at the lag.
#[derive(Debug)]
pub struct Watch {
    log: Arc<dyn RecordLog>,
    /// Where processes leave notes, if they can be read.
    tables: Option<Arc<dyn Tables>>,
    world: Arc<dyn World>,
    /// Under which this one leaves its own.
    process: Uuid,
    /// Name and partitions of a process that has some.
    member: Option<(String, Holdings)>,
    started: Instant,
    memory: Mutex<Memory>,
    latest: Latest,
}

#[derive(Debug, Default)]
struct Memory {
    paces: HashMap<Place, Pace>,
    /// When the message at an offset was appended, milliseconds since the Unix epoch.
    oldest: HashMap<Place, (i64, i64)>,
    shares: Vec<(u32, Part)>,
    /// Since the watch began.
    shares_at: Option<Duration>,
}

/// How far one partition is, by one look.
#[derive(Debug, Clone, Copy)]
struct Standing {
    stage: &'static str,
    place: Place,
    progress: Progress,
    reading: Reading,
}

impl Standing {
    fn records(&self) -> u64 {
        u64::try_from(self.progress.high - self.progress.done).unwrap_or(0)
    }
}

/// What a stage is called: records of lanes go to the lake, the rest into tables of their topics' names.
fn stage(topic: Topic) -> &'static str {
    if topic == Topic::Records { "lake" } else { topic.name() }
}

impl Watch {
    /// Sees nothing yet. `member`: what this process is called and which partitions it has, if it can have any.
    pub fn new(
        log: Arc<dyn RecordLog>,
        tables: Option<Arc<dyn Tables>>,
        world: Arc<dyn World>,
        member: Option<Holdings>,
    ) -> Self {
        let process = world.uuid_v7();
        let member = member.map(|holdings| (process_name(), holdings));
        let (started, memory, latest) = (Instant::now(), Mutex::default(), Latest::default());
        Self { log, tables, world, process, member, started, memory, latest }
    }

    /// What `/metrics` shows of it.
    pub fn latest(&self) -> Latest {
        self.latest.clone()
    }

    /// Looks again and again until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = 0u64;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let looked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                looked = timeout(WITHIN, self.look(false)) => looked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer"))),
            };
            match looked {
                Ok(report) => {
                    if failed > 0 {
                        tracing::info!(failed, "the lag can be seen again");
                    }
                    failed = 0;
                    self.latest.publish(report);
                }
                Err(error) => {
                    if failed == 0 {
                        tracing::warn!("the lag cannot be seen, will go on trying: {error:#}");
                    }
                    failed += 1;
                }
            }
        }
    }

    /// Looks now. `wholly`: also whose records wait, however few.
    ///
    /// # Errors
    /// The log does not answer.
    pub async fn look(&self, wholly: bool) -> anyhow::Result<Report> {
        self.look_at(self.started.elapsed(), wholly).await
    }

    /// The same at a time by a clock that never goes back.
    async fn look_at(&self, now: Duration, wholly: bool) -> anyhow::Result<Report> {
        let mut memory = self.memory.lock().await;
        let standings = self.standings(&mut memory, now).await.context("cannot ask the log how far its readers are")?;
        self.find_oldest(&mut memory, &standings).await.context("cannot read the oldest messages")?;
        let owners = self.exchange(&standings).await;
        let at = self.world.now_micros().div_euclid(1_000);
        let partitions: Vec<_> =
            standings.iter().map(|standing| describe(standing, at, &memory, owners.as_ref())).collect();
        if wholly || memory.shares_at.is_none_or(|at| now.saturating_sub(at) >= SHARES_EVERY) {
            memory.shares = self.share(&standings, &partitions, wholly).await.context("cannot read what waits")?;
            memory.shares_at = Some(now);
        }
        let workspaces = workspaces(&memory.shares, at);
        Ok(Report { at, partitions, workspaces, owners_known: owners.is_some() })
    }

    async fn standings(&self, memory: &mut Memory, at: Duration) -> Result<Vec<Standing>, LogError> {
        let mut all = Vec::new();
        for (group, topic) in GROUPS {
            for (partition, progress) in (0u32..).zip(self.log.progress(group, topic).await?) {
                let place = (topic, partition);
                let look = Look { at, done: progress.done, high: progress.high };
                let reading = memory.paces.entry(place).or_default().observe(look);
                all.push(Standing { stage: stage(topic), place, progress, reading });
            }
        }
        Ok(all)
    }

    /// Reads the first message that waits where looks of the past do not say when it came.
    async fn find_oldest(&self, memory: &mut Memory, standings: &[Standing]) -> Result<(), LogError> {
        let known = |standing: &&Standing| {
            let read = memory.oldest.get(&standing.place).is_some_and(|(offset, _)| *offset == standing.progress.done);
            read || standing.reading.waited.1.is_some_and(|most| most <= CLOSE_ENOUGH)
        };
        let mut unknown: Vec<_> = standings.iter().filter(|one| one.records() > 0 && !known(one)).collect();
        unknown.sort_by_key(|one| std::cmp::Reverse(one.records()));
        unknown.truncate(LOOKED_INTO);
        for (_, topic) in GROUPS {
            let here = unknown.iter().filter(|one| one.place.0 == topic);
            let places: Vec<_> = here.map(|one| (one.place.1, one.progress.done)).collect();
            if places.is_empty() {
                continue;
            }
            let seen = self.log.look(topic, &places, ONE).await?;
            for ((partition, done), messages) in places.into_iter().zip(seen) {
                if let Some(message) = messages.first() {
                    memory.oldest.insert((topic, partition), (done, message.appended_at));
                }
            }
        }
        Ok(())
    }

    /// Leaves a note and reads those of the others; `None` when the tables do not answer.
    async fn exchange(&self, standings: &[Standing]) -> Option<Owners> {
        let tables = self.tables.as_ref()?;
        let note = match &self.member {
            Some((name, holdings)) => {
                let readings = standings.iter().map(|one| (one.place, one.reading)).collect();
                serde_json::to_vec(&Note::new(name, holdings.now(), &readings)).ok()?
            }
            None => Vec::new(),
        };
        match timeout(EVERY, tables.exchange(BOARD, self.process, &note, NOTE_LIVES)).await {
            Ok(Ok(notes)) => Some(Owners::read(notes.iter().map(|(_, note)| &note[..]))),
            _ => None,
        }
    }

    /// Whose records wait, in the lanes where that matters.
    async fn share(
        &self,
        standings: &[Standing],
        partitions: &[PartitionLag],
        wholly: bool,
    ) -> Result<Vec<(u32, Part)>, LogError> {
        let lanes = standings.iter().zip(partitions).filter(|(standing, _)| standing.place.0 == Topic::Records);
        let behind = lanes.filter(|(one, lag)| one.records() > 0 && (wholly || lag.seconds >= SHARES_FROM));
        let queue = |standing: &Standing| {
            let Progress { done, high } = standing.progress;
            Queue { lane: standing.place.1, done, high }
        };
        let mut queues: Vec<_> = behind.map(|(standing, _)| queue(standing)).collect();
        queues.sort_by_key(|queue| std::cmp::Reverse(queue.records()));
        queues.truncate(LOOKED_INTO);
        self.tally(&queues).await
    }

    /// The n-th samples of all lanes are read at once.
    async fn tally(&self, queues: &[Queue]) -> Result<Vec<(u32, Part)>, LogError> {
        let windows: Vec<_> = queues.iter().map(Queue::windows).collect();
        let mut tallies: Vec<_> = queues.iter().map(|_| Tally::default()).collect();
        let rounds = windows.iter().map(Vec::len).max().unwrap_or(0);
        for round in 0..rounds {
            let here: Vec<_> = (0..queues.len()).filter_map(|n| Some((n, *windows[n].get(round)?))).collect();
            let places: Vec<_> = here.iter().map(|(n, (from, _))| (queues[*n].lane, *from)).collect();
            let max_messages = here.iter().map(|(_, (_, count))| *count).max().unwrap_or(1);
            let seen = self.log.look(Topic::Records, &places, FetchLimit { max_messages, ..SAMPLE }).await?;
            for ((n, (from, count)), messages) in here.into_iter().zip(seen) {
                let end = from.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
                for message in messages.iter().filter(|message| message.offset < end) {
                    tallies[n].add(workspace_of(&message.value), message.appended_at);
                }
            }
        }
        let parts = queues.iter().zip(tallies);
        Ok(parts
            .flat_map(|(queue, tally)| tally.parts(queue.records()).into_iter().map(|part| (queue.lane, part)))
            .collect())
    }
}

fn describe(standing: &Standing, at: i64, memory: &Memory, owners: Option<&Owners>) -> PartitionLag {
    let Standing { stage, place: (topic, partition), progress, reading } = *standing;
    let records = standing.records();
    let told = owners.and_then(|owners| owners.of(topic, partition));
    let held = told.map(|(_, held)| held);
    let (least, most) = reading.waited;
    let read = memory.oldest.get(&standing.place).filter(|(offset, _)| *offset == progress.done);
    // By the brokers' clock and ours, which may differ; looks of the past, by one clock, bound it.
    let age =
        read.map(|(_, appended)| age(at, *appended)).unwrap_or(least).min(most.unwrap_or(Duration::MAX)).max(least);
    let still = reading.still.max(held.map(Held::still).unwrap_or_default());
    let still = if records == 0 { Duration::ZERO } else { still };
    let rate = reading.rate.or_else(|| held.and_then(|held| held.rate));
    // Since it last moved it has done some of what still seems to wait.
    let drains = |rate: f64| (records as f64 / rate - still.as_secs_f64()).max(0.0);
    let halted = held.and_then(|held| held.halted.clone());
    PartitionLag {
        stage: stage.to_owned(),
        topic: topic.name().to_owned(),
        partition,
        records,
        seconds: if records == 0 { 0.0 } else { age.as_secs_f64() },
        throughput: reading.throughput.or_else(|| held.and_then(|held| held.throughput)),
        drain_seconds: rate.filter(|rate| *rate > 0.0).map(drains),
        still_seconds: still.as_secs_f64(),
        state: State::of(records, owners.map(|_| told.is_some()), halted.is_some(), still),
        owner: told.map(|(name, _)| name.clone()),
        reason: halted,
    }
}

/// Never negative, whatever the clocks say.
fn age(now: i64, then: i64) -> Duration {
    Duration::from_millis(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
}

fn workspaces(shares: &[(u32, Part)], at: i64) -> Vec<WorkspaceLag> {
    let lag = |(lane, part): &(u32, Part)| WorkspaceLag {
        workspace: part.workspace.clone(),
        partition: *lane,
        records: part.records,
        seconds: age(at, part.oldest).as_secs_f64(),
        exact: part.exact,
    };
    let mut all: Vec<_> = shares.iter().map(lag).collect();
    all.sort_by(|a, b| b.records.cmp(&a.records).then_with(|| a.workspace.cmp(&b.workspace)));
    all
}

/// What operators know a process by.
pub fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}:{}", if host.is_empty() { "process" } else { host }, std::process::id())
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
