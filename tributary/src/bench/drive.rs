//! The open loop: requests leave when they are due, whatever became of those before.
//!
//! A fixed number of connections takes the requests in their order. While the target keeps up, one is always free when
//! a request is due. When it does not, requests leave late, and the time that they were late for is part of their
//! latency: a target that stalls cannot hide it by keeping the load away. Nothing but the connections is held in memory.

use super::{
    schedule::Schedule,
    tally::Tally,
    workload::{Body, Workload},
};
use crate::send::client::{Answer, Client, SendError, Try};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Batches watched until they have landed, at the same time.
const WATCHED: usize = 4;
/// Timers are no finer: a request that has not left so soon after it was due is not late.
const TICK: Duration = Duration::from_millis(2);
/// For requests on the way when the run is ended early.
const GRACE: Duration = Duration::from_secs(5);

/// What a run is made of.
pub struct Plan {
    /// What is sent.
    pub workload: Workload,
    /// When.
    pub schedule: Schedule,
    /// By whom: one for each workspace.
    pub clients: Vec<Client>,
    /// Requests on the way at the same time.
    pub connections: usize,
    /// After the schedule's end, to make up for what is late.
    pub overtime: Duration,
    /// For a batch of the sample to land.
    pub landing: Duration,
    /// Makes this run's idempotency keys its own.
    pub nonce: String,
}

/// A run.
pub struct Drive {
    plan: Plan,
    tally: Mutex<Tally>,
    begun: Instant,
    /// The next request's number.
    next: AtomicU64,
    /// No request begins once this is cancelled.
    stop: CancellationToken,
    /// When requests stopped to begin before all had.
    cut: OnceLock<Duration>,
    permits: Arc<Semaphore>,
    sample: TaskTracker,
    /// Why no request could succeed.
    fatal: OnceLock<String>,
}

/// How it ended.
pub struct Outcome {
    /// Counts and times.
    pub tally: Tally,
    /// Requests that were due.
    pub due: u64,
    /// From the start to the last answer.
    pub took: Duration,
    /// Ended by the user, or because no request could succeed.
    pub early: bool,
    /// Why no request could succeed.
    pub fatal: Option<String>,
}

impl Drive {
    /// A run that begins now and ends early when `stop` is cancelled.
    ///
    /// # Errors
    /// See [`Tally::new`].
    pub fn new(plan: Plan, stop: CancellationToken) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            plan,
            tally: Mutex::new(Tally::new()?),
            begun: Instant::now(),
            next: AtomicU64::new(0),
            stop,
            cut: OnceLock::new(),
            permits: Arc::new(Semaphore::new(WATCHED)),
            sample: TaskTracker::new(),
            fatal: OnceLock::new(),
        }))
    }

    /// Counts and times so far.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends everything, says by `loaded` when the last answer has come, then waits for the sample to land.
    ///
    /// # Errors
    /// See [`Tally::new`].
    pub async fn run(self: &Arc<Self>, loaded: CancellationToken) -> anyhow::Result<Outcome> {
        let mut connections = JoinSet::new();
        for _ in 0..self.plan.connections {
            let run = Arc::clone(self);
            connections.spawn(async move { run.send().await });
        }
        connections.join_all().await;
        let took = self.begun.elapsed();
        let early = self.stop.is_cancelled();
        loaded.cancel();
        self.sample.close();
        tokio::select! {
            () = self.sample.wait() => {}
            () = self.stop.cancelled() => {}
        }
        self.outcome(took, early)
    }

    fn outcome(&self, took: Duration, early: bool) -> anyhow::Result<Outcome> {
        let mut tally = std::mem::replace(&mut *self.tally(), Tally::new()?);
        let end = self.cut.get().map_or(took, |cut| cut.saturating_sub(TICK));
        let due = self.plan.schedule.due_before(end).unwrap_or(tally.begun).max(tally.begun);
        // Those that never left have waited so long at least: leaving them out would flatter the target.
        for n in tally.begun..due {
            tally.from_due.add(end.saturating_sub(self.plan.schedule.due(n).unwrap_or(end)));
        }
        Ok(Outcome { tally, due, took, early, fatal: self.fatal.get().cloned() })
    }

    /// One connection: takes the next request, makes it, and sends it when it is due, until there is none.
    async fn send(self: Arc<Self>) {
        while let Some((n, due)) = self.take() {
            let body = self.plan.workload.body(n);
            // Without a rate a request is due when there is a connection for it.
            let due = due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due) => {}
                () = self.stop.cancelled() => return self.cut(),
            }
            self.one(n, due, body).await;
        }
    }

    /// The next request, and when it is due.
    fn take(&self) -> Option<(u64, Option<Instant>)> {
        let elapsed = self.begun.elapsed();
        let schedule = &self.plan.schedule;
        let no_rate = schedule.due(0).is_none();
        let allowed = if no_rate { schedule.duration() } else { schedule.duration() + self.plan.overtime };
        if self.stop.is_cancelled() || elapsed >= allowed {
            self.cut();
            return None;
        }
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        if schedule.due_before(Duration::MAX).is_some_and(|all| n >= all) {
            return None;
        }
        Some((n, schedule.due(n).map(|after| self.begun + after)))
    }

    fn cut(&self) {
        self.cut.get_or_init(|| self.begun.elapsed());
    }

    /// One request until its last answer.
    async fn one(self: &Arc<Self>, n: u64, due: Instant, body: Body) {
        let Body { lines, identities } = body;
        let bytes = lines.len() as u64;
        let workspace = self.plan.workload.workspace(n);
        let Some(client) = self.plan.clients.get(workspace) else { return };
        self.tally().begun += 1;
        let key = format!("bench-{}-{n}", self.plan.nonce);
        let watch = |attempt: &Try<'_>| self.seen(attempt);
        let answer = tokio::select! {
            answer = client.post(lines, "application/x-ndjson", &key, &watch) => answer,
            () = self.grace_is_over() => Err(SendError::Stopped),
        };
        let answered = Instant::now();
        self.tally().from_due.add(answered - due);
        if let Some(batch_id) = self.settle(answer, bytes, identities) {
            self.watch(client.clone(), batch_id, answered);
        }
    }

    async fn grace_is_over(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    }

    fn seen(&self, attempt: &Try<'_>) {
        let mut tally = self.tally();
        let name = attempt.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        *tally.answers.entry(name).or_default() += 1;
        if attempt.status == Some(202) {
            tally.service.add(attempt.took);
        }
        if let Some(trouble) = attempt.trouble {
            tally.error(trouble);
        }
    }

    /// Counts what became of a request; the batch, if there is one.
    fn settle(&self, answer: Result<Answer, SendError>, bytes: u64, identities: u64) -> Option<String> {
        let records = self.plan.workload.batch as u64;
        let mut tally = self.tally();
        match answer {
            Ok(Answer::Accepted(accepted)) => {
                tally.requests += 1;
                tally.accepted += u64::from(accepted.accepted_count);
                tally.rejected += u64::from(accepted.rejected_count);
                tally.identities += identities;
                tally.bytes += bytes;
                if let Some(error) = accepted.errors.first() {
                    tally.error(&format!("{}: {}", error.code, error.message));
                }
                return Some(accepted.batch_id);
            }
            Ok(Answer::AllRejected(errors, _)) => {
                tally.rejected += records;
                let first = errors.first().map_or("every record was rejected", |error| error.message.as_str());
                tally.error(first);
            }
            Ok(Answer::Refused(error)) => {
                tally.rejected += records;
                tally.error(&format!("{}: {}", error.error, error.message));
            }
            Err(error) => {
                tally.given_up += records;
                if let SendError::Denied(reason) = &error {
                    let _ = self.fatal.set(reason.clone());
                    self.stop.cancel();
                }
            }
        }
        None
    }

    /// Watches a batch until it has landed, unless enough are watched.
    fn watch(self: &Arc<Self>, client: Client, batch_id: String, accepted: Instant) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return };
        let run = Arc::clone(self);
        self.sample.spawn(async move {
            let landed = client.landed(&batch_id, run.plan.landing).await;
            let took = accepted.elapsed();
            let mut tally = run.tally();
            match landed {
                Ok(true) => tally.freshness.add(took),
                Ok(false) => tally.not_landed += 1,
                Err(SendError::Stopped) => {}
                Err(error) => {
                    tally.not_landed += 1;
                    tally.error(&error.to_string());
                }
            }
            drop(tally);
            drop(permit);
        });
    }
}
