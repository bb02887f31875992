//! Looks at how far every partition is behind: once for a command, again and again in every process that runs.
//!
//! Records come from the offsets alone, as Kafka's own tools have them. The age of the oldest one comes from looks of the
//! past when they saw it come, and else from its message, which is read without being in the group; so it is known also
//! right after a start. Rates need a past: a process has its own, and tells it in a note, for commands that have none.
//!
//! Only the offsets must be there for a look; messages and notes are had as far as they come in time.

use super::{
    landing::Landing,
    metrics::Latest,
    note::{Member, Note, Owners},
    pace::{Look, Pace, STANDSTILL},
    report::Report,
    sample,
    share::{Queue, Tally},
    standing::{Place, Standing, age, rest},
};
use anyhow::Context;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    log::{FetchLimit, LogError, RecordLog, Topic},
    tables::Tables,
    world::World,
};
use tributary_pipeline::{GROUPS, Holdings};
use uuid::Uuid;

/// Between two looks of a process that runs.
const EVERY: Duration = Duration::from_secs(2);
/// Offsets that take longer are given up, and so is the rest of a look after so much more.
const WITHIN: Duration = Duration::from_secs(8);
const REST_WITHIN: Duration = Duration::from_secs(2);
/// Whose records wait is looked at so often by a process that runs, only in lanes of its own that are behind for so long
/// beyond their rest, and for no longer than this.
const SHARES_EVERY: Duration = Duration::from_secs(10);
const SHARES_FROM: f64 = 5.0;
const SHARES_WITHIN: Duration = Duration::from_secs(9);
/// Where the processes' notes are, and how long one lives.
const BOARD: &str = "lag";
const NOTE_LIVES: Duration = Duration::from_secs(10);
/// Bounds within which looks of the past say when a message came; else it is read.
const CLOSE_ENOUGH: Duration = Duration::from_secs(3);
/// Partitions of which the first message is read at once, and in one look of a process that runs.
const AT_ONCE: usize = 64;
/// Of one message.
const ONE: FetchLimit = FetchLimit { max_bytes: 1, max_messages: 1, max_wait: Duration::from_secs(2) };

/// Looks at the lag.
#[derive(Debug)]
pub struct Watch {
    log: Arc<dyn RecordLog>,
    /// Where processes leave notes, if they can be read.
    tables: Option<Arc<dyn Tables>>,
    world: Arc<dyn World>,
    /// Under which this one leaves its own.
    process: Uuid,
    /// Of a process that has lanes.
    member: Option<Member>,
    started: Instant,
    /// Locked while the log is asked, so that looks come in the order of their times.
    paces: Mutex<HashMap<Place, Pace>>,
    memory: std::sync::Mutex<Memory>,
    latest: Latest,
}

#[derive(Debug, Default)]
struct Memory {
    oldest: HashMap<Place, Oldest>,
    /// How long owners rest between two commits, by the last notes that said so.
    rests: HashMap<Place, Duration>,
    /// What waits in this process's lanes that are behind.
    behind: Vec<Queue>,
    /// Whose it was when it was last looked into.
    tallies: HashMap<u32, Tally>,
}

/// The first message that waited when it was read.
#[derive(Debug, Clone, Copy)]
struct Oldest {
    offset: i64,
    /// Milliseconds since the Unix epoch.
    appended_at: i64,
    /// Since the watch began.
    read_at: Duration,
}

impl Watch {
    /// Sees nothing yet. `member`: which partitions this process has, if it can have any, and how long its lanes rest between
    /// two commits.
    pub fn new(
        log: Arc<dyn RecordLog>,
        tables: Option<Arc<dyn Tables>>,
        world: Arc<dyn World>,
        member: Option<(Holdings, Duration)>,
    ) -> Self {
        let process = world.uuid_v7();
        let member = member.map(|(holdings, rest)| Member { name: process_name(), holdings, rest });
        let (started, latest) = (Instant::now(), Latest::default());
        let (paces, memory) = (Mutex::default(), std::sync::Mutex::default());
        Self { log, tables, world, process, member, started, paces, memory, latest }
    }

    /// What `/metrics` shows of it.
    pub fn latest(&self) -> Latest {
        self.latest.clone()
    }

    /// Looks again and again until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        tokio::join!(stop.run_until_cancelled(self.keep_looking()), stop.run_until_cancelled(self.keep_sampling()));
        Ok(())
    }

    async fn keep_looking(&self) {
        let mut ticks = ticks(EVERY);
        let mut failed = 0u64;
        loop {
            ticks.tick().await;
            match self.look_at(|| self.started.elapsed(), None).await {
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

    /// Of lanes that cannot be read what was last seen stays.
    async fn keep_sampling(&self) {
        let mut ticks = ticks(SHARES_EVERY);
        loop {
            ticks.tick().await;
            let behind = self.memory().behind.clone();
            let lanes: HashSet<_> = behind.iter().map(|queue| queue.lane).collect();
            let tallies = sample::tally(&*self.log, behind, Instant::now() + SHARES_WITHIN).await;
            let mut memory = self.memory();
            memory.tallies.retain(|lane, _| lanes.contains(lane));
            memory.tallies.extend(tallies);
        }
    }

    /// Looks now, also at whose records wait in all lanes, however few; what is not there in time is left out.
    ///
    /// # Errors
    /// The log does not answer in time.
    pub async fn look(&self, until: Instant) -> anyhow::Result<Report> {
        self.look_at(|| self.started.elapsed(), Some(until)).await
    }

    /// The same at a time by a clock that never goes back. Without `until`, as a process that runs does it: what takes long
    /// is spread over several looks.
    async fn look_at(&self, now: impl FnOnce() -> Duration, until: Option<Instant>) -> anyhow::Result<Report> {
        let within = until.unwrap_or_else(|| Instant::now() + WITHIN);
        let asked = timeout_at(within, self.standings(now)).await;
        let answer = asked.unwrap_or_else(|_| Err(LogError::Unavailable("it does not answer in time".to_owned())));
        let (now, standings) = answer.context("cannot ask the log how far its readers are")?;
        let landing = self.member.as_ref().and_then(|member| Landing::of(member.holdings.lately()));
        let exchange = self.exchange(&standings, landing.clone());
        let owners = timeout_at(within.min(Instant::now() + REST_WITHIN), exchange).await;
        let owners = owners.ok().flatten();
        if let Some(owners) = &owners {
            let of = |one: &Standing| Some((one.place, rest(one.place.0, owners.of(one.place.0, one.place.1)?)));
            self.memory().rests.extend(standings.iter().filter_map(of));
        }
        let unread = self.unread(&standings, owners.as_ref(), until.is_none());
        let read_by = within.min(Instant::now() + REST_WITHIN);
        let _ = timeout_at(read_by, self.read_oldest(now, unread)).await;
        let at = self.world.now_micros().div_euclid(1_000);
        let describe = |one: &Standing| one.describe(self.stamped(one, at), owners.as_ref());
        let partitions: Vec<_> = standings.iter().map(describe).collect();
        let lanes = || standings.iter().zip(&partitions).filter(|(one, _)| one.place.0 == Topic::Records);
        let (mut workspaces, mut others) = if let Some(until) = until {
            let queues = lanes().filter(|(one, _)| one.records() > 0).map(|(one, _)| queue(one)).collect();
            let tallies = sample::tally(&*self.log, queues, until).await;
            sample::workspaces(lanes().map(|(_, lag)| lag), &tallies, at)
        } else {
            let own = self.own_lanes();
            let own = || lanes().filter(|(one, _)| own.contains(&one.place.1));
            let is_behind =
                |one: &Standing, seconds| one.records() > 0 && seconds >= SHARES_FROM + one.rest.as_secs_f64();
            let behind = own().filter(|(one, lag)| is_behind(one, lag.seconds));
            let mut memory = self.memory();
            memory.behind = behind.map(|(one, _)| queue(one)).collect();
            sample::workspaces(own().map(|(_, lag)| lag), &memory.tallies, at)
        };
        // A process that runs tells of its own lanes.
        let landing = if until.is_some() { owners.as_ref().and_then(Owners::landing).cloned() } else { landing };
        if let Some(landing) = landing {
            landing.tell(&mut workspaces, &mut others);
        }
        let others = (until.is_some() || self.member.is_some()).then_some(others);
        Ok(Report { at, partitions, workspaces, others, owners_known: owners.is_some() })
    }

    async fn standings(&self, now: impl FnOnce() -> Duration) -> Result<(Duration, Vec<Standing>), LogError> {
        let mut paces = self.paces.lock().await;
        let at = now();
        let answers = self.log.progress_of(&GROUPS).await?;
        let memory = self.memory();
        let mut all = Vec::new();
        for ((_, topic), answer) in GROUPS.into_iter().zip(answers) {
            for (partition, progress) in (0u32..).zip(answer) {
                let place = (topic, partition);
                let rest = memory.rests.get(&place).copied().unwrap_or_default();
                let look = Look { at, done: progress.done, high: progress.high, rest };
                let reading = paces.entry(place).or_default().observe(look);
                all.push(Standing { place, progress, reading, rest });
            }
        }
        Ok((at, all))
    }

    /// Where looks of the past do not say when the first message that waits came, and it was not read: first those where
    /// nothing moves, for whom it matters most, then those read longest ago. `some`: only as many as one look can read.
    fn unread(&self, standings: &[Standing], owners: Option<&Owners>, some: bool) -> Vec<(Place, i64)> {
        let memory = self.memory();
        let known = |one: &&Standing| {
            let read = memory.oldest.get(&one.place).is_some_and(|oldest| oldest.offset == one.progress.done);
            read || one.reading.waited.1.is_some_and(|most| most <= CLOSE_ENOUGH)
        };
        let mut unread: Vec<_> = standings.iter().filter(|one| one.records() > 0 && !known(one)).collect();
        unread.sort_by_cached_key(|one| {
            let owner = owners.and_then(|owners| owners.of(one.place.0, one.place.1));
            let moves = owners.is_none() == owner.is_none() && one.still(owner) < STANDSTILL;
            let read_at = memory.oldest.get(&one.place).map(|oldest| oldest.read_at);
            (moves, read_at, std::cmp::Reverse(one.records()))
        });
        unread.truncate(if some { AT_ONCE } else { usize::MAX });
        unread.into_iter().map(|one| (one.place, one.progress.done)).collect()
    }

    async fn read_oldest(&self, now: Duration, unread: Vec<(Place, i64)>) {
        for some in unread.chunks(AT_ONCE) {
            for (_, topic) in GROUPS {
                let here = some.iter().filter(|((of, _), _)| *of == topic);
                let places: Vec<_> = here.map(|((_, partition), done)| (*partition, *done)).collect();
                if places.is_empty() {
                    continue;
                }
                // Where it fails the others are read all the same.
                let Ok(seen) = self.log.look(topic, &places, ONE).await else { continue };
                let mut memory = self.memory();
                for ((partition, offset), messages) in places.into_iter().zip(seen) {
                    if let Some(message) = messages.first() {
                        let read = Oldest { offset, appended_at: message.appended_at, read_at: now };
                        memory.oldest.insert((topic, partition), read);
                    }
                }
            }
        }
    }

    /// The age at `at` of the first message that waits by the time that the log gave it, or gave one before it.
    fn stamped(&self, one: &Standing, at: i64) -> Option<Duration> {
        let oldest = self.memory().oldest.get(&one.place).copied();
        let oldest = oldest.filter(|oldest| oldest.offset <= one.progress.done);
        oldest.map(|oldest| age(at, oldest.appended_at))
    }

    /// Leaves a note and reads those of the others; `None` when the tables do not answer.
    async fn exchange(&self, standings: &[Standing], landing: Option<Landing>) -> Option<Owners> {
        let tables = self.tables.as_ref()?;
        let note = match &self.member {
            Some(member) => {
                let readings = standings.iter().map(|one| (one.place, (one.progress.done, one.reading))).collect();
                serde_json::to_vec(&Note::new(member, &readings, landing)).ok()?
            }
            None => Vec::new(),
        };
        let notes = tables.exchange(BOARD, self.process, &note, NOTE_LIVES).await.ok()?;
        Some(Owners::read(notes.iter().map(|(_, note)| &note[..])))
    }

    fn own_lanes(&self) -> HashSet<u32> {
        let held = self.member.as_ref().map(|member| member.holdings.now()).unwrap_or_default();
        held.into_iter().filter(|held| held.topic == Topic::Records).map(|held| held.partition).collect()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn queue(standing: &Standing) -> Queue {
    Queue { lane: standing.place.1, done: standing.progress.done, high: standing.progress.high }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
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
