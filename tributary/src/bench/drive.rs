//! The open loop: requests leave when they are due, whatever became of those before.
//!
//! A fixed number of connections takes the requests in their order. While the target keeps up, one is always free when
//! a request is due. When it does not, requests leave late, and the time that they were late for is part of their
//! latency: a target that stalls cannot hide it by keeping the load away.
//!
//! Bodies are made and compressed ahead ([`make`]), so that this is nobody's latency. Which batches
//! are watched until they land is decided by the moments at which requests are due, before anything is known of them: a
//! lake that stalls cannot choose its samples either.

use super::{
    make::{self, Made, Making},
    schedule::Schedule,
    tally::Tally,
    workload::Workload,
};
use crate::send::client::{Answer, Client, SendError, Try};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The batch of the first request in each such time is watched until it has landed.
const SAMPLE: Duration = Duration::from_millis(100);
/// Timers are no finer: a request that has not left so soon after it was due is not late.
const TICK: Duration = Duration::from_millis(2);
/// For requests on the way when the run is ended early.
const GRACE: Duration = Duration::from_secs(5);
/// Bodies made before there is a connection for them, at most.
const MADE_AHEAD: usize = 32;

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
    /// Requests that were made ahead.
    made: tokio::sync::Mutex<mpsc::Receiver<Making>>,
    /// The last [`SAMPLE`], counted from 1, of which a batch is watched.
    sampled: AtomicU64,
    /// No request begins once this is cancelled.
    stop: CancellationToken,
    /// When requests stopped to begin before all had.
    cut: OnceLock<Duration>,
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
        let (give, made) = mpsc::channel(plan.connections.min(MADE_AHEAD));
        let all = plan.schedule.due_before(Duration::MAX).unwrap_or(u64::MAX);
        tokio::spawn(make::all(plan.workload, plan.clients.clone(), all, give));
        Ok(Arc::new(Self {
            plan,
            tally: Mutex::new(Tally::new()?),
            begun: Instant::now(),
            made: tokio::sync::Mutex::new(made),
            sampled: AtomicU64::new(0),
            stop,
            cut: OnceLock::new(),
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
        self.made.lock().await.close();
        self.sample.close();
        self.sample.wait().await;
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

    /// One connection: takes the next request and sends it when it is due, until there is none.
    async fn send(self: Arc<Self>) {
        while let Some(made) = self.take().await {
            let due = match self.plan.schedule.due(made.n) {
                Some(after) => self.begun + after,
                // Without a rate a request is due when there is a connection for it.
                None => Instant::now(),
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due) => {}
                () = self.stop.cancelled() => return self.cut(),
            }
            self.one(made, due).await;
        }
    }

    /// The next request.
    async fn take(&self) -> Option<Made> {
        let asked = Instant::now();
        let taken = tokio::select! {
            taken = async {
                let making = self.made.lock().await.recv().await;
                making?.await.ok().flatten()
            } => taken,
            () = self.stop.cancelled() => None,
        };
        let (schedule, elapsed) = (&self.plan.schedule, self.begun.elapsed());
        let due = taken.as_ref().and_then(|made| schedule.due(made.n));
        let allowed = if schedule.has_rate() { schedule.duration() + self.plan.overtime } else { schedule.duration() };
        if self.stop.is_cancelled() || elapsed >= allowed {
            self.cut();
            return None;
        }
        // A connection was free, and the body was not there.
        let waited = due.filter(|due| !due.is_zero()).map(|due| (self.begun + due).max(asked).elapsed());
        self.tally().made_late += u64::from(waited.is_some_and(|waited| waited > TICK));
        taken
    }

    fn cut(&self) {
        self.cut.get_or_init(|| self.begun.elapsed());
    }

    /// One request until its last answer.
    async fn one(self: &Arc<Self>, made: Made, due: Instant) {
        let Made { n, body, bytes, identities } = made;
        let workspace = self.plan.workload.workspace(n);
        let Some(client) = self.plan.clients.get(workspace) else { return };
        self.tally().begun += 1;
        let is_watched = self.is_sampled(n, due);
        let key = format!("bench-{}-{n}", self.plan.nonce);
        let watch = |attempt: &Try<'_>| self.seen(attempt);
        let answer = tokio::select! {
            answer = client.post(&body, "application/x-ndjson", &key, &watch) => answer,
            () = self.grace_is_over() => Err(SendError::Stopped),
        };
        let answered = Instant::now();
        self.tally().from_due.add(answered - due);
        let accepted = self.settle(answer, bytes, identities);
        if let Some(batch_id) = accepted.filter(|_| is_watched) {
            self.watch(client.clone(), batch_id, answered);
        }
    }

    /// Whether it is the first that is due in its time.
    fn is_sampled(&self, n: u64, due: Instant) -> bool {
        let place = |since: Duration| u64::try_from(since.as_nanos() / SAMPLE.as_nanos()).unwrap_or(u64::MAX);
        let schedule = &self.plan.schedule;
        let of = |n: u64| schedule.due(n).map(place);
        if schedule.has_rate() {
            return n.checked_sub(1).is_none_or(|before| of(before) != of(n));
        }
        let place = place(due.saturating_duration_since(self.begun)).saturating_add(1);
        self.sampled.fetch_max(place, Ordering::Relaxed) < place
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

    /// Watches a batch until it has landed, or as long as is allowed: then it counts with that time.
    fn watch(self: &Arc<Self>, client: Client, batch_id: String, accepted: Instant) {
        let run = Arc::clone(self);
        self.sample.spawn(async move {
            let landed = tokio::select! {
                landed = client.landed(&batch_id, run.plan.landing) => landed,
                () = run.stop.cancelled() => Err(SendError::Stopped),
            };
            let (took, mut tally) = (accepted.elapsed(), run.tally());
            match landed {
                Ok(true) => tally.freshness.add(took),
                Ok(false) | Err(SendError::Stopped) => {
                    tally.not_landed += 1;
                    tally.freshness.add(took);
                }
                Err(error) => {
                    // However soon that was said.
                    tally.not_landed += 1;
                    tally.freshness.add(took.max(run.plan.landing));
                    tally.error(&error.to_string());
                }
            }
        });
    }
}
