//! The door: HTTP in, durable batches out.
//!
//! A request to ingest passes, in this order:
//!
//! 1. [`serve`] takes the connection: at most so many, none that dawdles over its head.
//! 2. [`auth`] finds the key's workspace, counts the request against the key's rate ([`rate`]), checks the permission.
//!    [`pressure`] says whether the lake keeps up with the workspace's lanes.
//! 3. [`body`] reads the body within the size limit and the memory [`budget`], no slower than a sender may be.
//! 4. [`accept`] takes over in a task of its own: [`decode`] decompresses, [`idempotency`] recognises a repeat.
//! 5. [`split`] finds the records, `schemas::record::parse` reads each, and while it is in the processor's cache
//!    [`frames`] encodes it for the log. [`batch`] applies the rules of a batch.
//! 6. The batch's row is made durable, then its records and rejects.
//! 7. `202`. Whatever went wrong on the way is a [`failure::Failure`], which has one shape.
//!
//! The other endpoints read what became of it: see [`routes`]. [`admin`] is the operators' listener. [`openapi`] is the
//! document of it all, made from the types that are served.

pub mod accept;
pub mod admin;
pub mod auth;
pub mod batch;
pub mod body;
pub mod budget;
pub mod config;
pub mod cpu;
pub mod decode;
pub mod failure;
pub mod frames;
pub mod idempotency;
pub mod keys;
pub mod metrics;
pub mod openapi;
pub mod pressure;
pub mod rate;
mod rejected;
pub mod routes;
mod server;
pub mod split;
pub mod view;

pub use config::Config;
pub use metrics::Metrics;
pub use server::{LAST_ANSWERS, serve};

use auth::Gate;
use budget::Budget;
use cpu::Cpu;
use governor::clock::DefaultClock;
use pressure::Pressure;
use prometheus_client::registry::Registry;
use rate::Rates;
use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tributary_backends::{log::RecordLog, tables::Tables, world::World};
use tributary_schemas::identity::Lanes;

/// The API and all that it needs; cloning gives another handle.
#[derive(Debug, Clone)]
pub struct Api(Arc<Inner>);

/// What is behind an [`Api`].
#[derive(Debug)]
pub struct Inner {
    pub(crate) log: Arc<dyn RecordLog>,
    pub(crate) tables: Arc<dyn Tables>,
    pub(crate) world: Arc<dyn World>,
    pub(crate) lanes: Lanes,
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) gate: Gate,
    pub(crate) budget: Budget,
    pub(crate) pressure: Pressure,
    pub(crate) cpu: Cpu,
    /// Batches being accepted, which outlive their connection.
    pub(crate) accepting: TaskTracker,
    /// About to stop: every answer is the last of its connection.
    pub(crate) leaving: CancellationToken,
    /// Told to stop: new requests are refused and long polls end.
    pub(crate) stopping: CancellationToken,
    /// Since it was told to stop: by when whatever is still to be appended must have been.
    pub(crate) append_by: OnceLock<Instant>,
    /// The time to stop is over: what has no answer yet gets a 503.
    pub(crate) over: CancellationToken,
    last_created_at: AtomicI64,
}

impl Deref for Api {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Api {
    /// Builds the API on its backends and registers its metrics. `lanes` are those written down in the tables.
    pub fn new(
        log: Arc<dyn RecordLog>,
        tables: Arc<dyn Tables>,
        world: Arc<dyn World>,
        lanes: Lanes,
        config: Config,
        registry: &mut Registry,
    ) -> Self {
        let metrics = Metrics::register(registry);
        let rates = Rates::new(config.load.rate_limit, DefaultClock::default());
        let gate = Gate::new(tables.clone(), world.clone(), rates, config.timeouts.key_cache);
        let budget = Budget::new(config.load.memory_budget, metrics.memory.clone());
        metrics.memory_limit.set(i64::try_from(config.load.memory_budget).unwrap_or(i64::MAX));
        let pressure = Pressure::new(config.load.max_lag, metrics.lanes.clone());
        Self(Arc::new(Inner {
            log,
            tables,
            world,
            lanes,
            config,
            metrics,
            gate,
            budget,
            pressure,
            cpu: Cpu::default(),
            accepting: TaskTracker::new(),
            leaving: CancellationToken::new(),
            stopping: CancellationToken::new(),
            append_by: OnceLock::new(),
            over: CancellationToken::new(),
            last_created_at: AtomicI64::new(i64::MIN),
        }))
    }

    /// It is going to stop: requests are answered as before, but each answer ends its connection, so that whoever keeps
    /// one open asks a balancer for another server before this one is gone.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// It is told to stop; by when it has. That is when nothing of an append that has begun can come to pass any more: then,
    /// and no sooner, may the sender be told to send again, for what comes late would lie behind a newer version of it.
    /// What begins to append only now has less time, so that the same holds for it.
    pub(crate) fn stop(&self) -> Instant {
        let (told, settles) = (Instant::now(), self.log.settles_within());
        self.append_by.get_or_init(|| told + settles.mul_f64(idempotency::TIME_USED));
        self.stopping.cancel();
        told + settles
    }

    /// When a batch was created, in milliseconds: `now`, or later than the batch before if the clock says otherwise, so
    /// that a clock that jumps back cannot put new batches behind the ones that a reader has paged past.
    pub(crate) fn created_at(&self, now_micros: i64) -> i64 {
        let now = now_micros.div_euclid(1_000);
        let next = |last: i64| Some(now.max(last.saturating_add(1)));
        let last = self.last_created_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        now.max(last.unwrap_or(now).saturating_add(1))
    }
}
