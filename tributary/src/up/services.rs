//! The tasks of a process: each must live as long as the process does, and they stop in the record's order.

use super::{
    ApiArgs, LaneArgs, Listeners, Role,
    disks::Disks,
    pipeline,
    ready::{self, Lanes},
};
use crate::{
    backends::Backends,
    control::{self, execute::Running, server},
    dead_letters::open::Open,
    lag::watch::Watch,
    lag::watch::process_name,
};
use anyhow::{Context, anyhow};
use futures::future::select_all;
use prometheus_client::registry::Registry;
use std::{fmt::Display, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tributary_backends::log::RecordLog;
use tributary_ingest_api::{Api, LAST_ANSWERS, admin};
use tributary_pipeline::{Holdings, Pipeline, drained};

/// For the API to end once it has answered all requests.
const API_ENDS: Duration = Duration::from_millis(500);
/// Where there is no API the lanes have as much time as one would take that appends to a disk.
const NO_API: Duration = Duration::from_secs(4);
/// For what was accepted to land.
const LANDING: Duration = Duration::from_secs(3);
/// For the lanes to finish the chunks in hand, and to end.
const LANES_END: Duration = Duration::from_millis(1_500);
const REST_ENDS: Duration = Duration::from_millis(500);
const LANES: &str = "the pipeline";
/// How often it looks whether everything has landed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// When each step of stopping is over at the latest, from the signal on: requests in flight are answered, what was accepted
/// lands, the lanes end, the rest ends.
#[derive(Debug, Clone, Copy)]
struct Steps {
    answered: Duration,
    landed: Duration,
    lanes_ended: Duration,
    all_ended: Duration,
}

impl Steps {
    fn after(answered: Duration) -> Self {
        let landed = answered + LANDING;
        let lanes_ended = landed + LANES_END;
        Self { answered, landed, lanes_ended, all_ended: lanes_ended + REST_ENDS }
    }

    /// Of a process with an API whose appends take so long at most, or of one without.
    fn of(appends: Option<Duration>) -> Self {
        Self::after(appends.map_or(NO_API, |longest| longest + LAST_ANSWERS + API_ENDS))
    }
}

/// One task, and how to stop it.
struct Service {
    name: &'static str,
    task: JoinHandle<anyhow::Result<()>>,
    stop: CancellationToken,
}

/// All tasks of a process, each with the time by which it has ended, in the order in which they end.
pub struct Services {
    running: Vec<(Service, Duration)>,
    /// Ready no more.
    stopping: CancellationToken,
    api: Option<Api>,
    /// Whether what was accepted here lands here, and nowhere else.
    lands_all: bool,
    steps: Steps,
}

impl Services {
    /// Starts them.
    pub fn start(role: Role, listeners: Listeners, backends: &Backends) -> anyhow::Result<Self> {
        let (lands_all, stopping) = (role.is_whole(), CancellationToken::new());
        let steps = Steps::of(role.api.as_ref().map(|_| backends.log.settles_within()));
        let mut registry = Registry::default();
        let (handle, pauses) = pipeline::handle();
        let rest = role.lanes.as_ref().map(|args| args.commit_interval);
        let lanes = role.lanes.map(|args| new_pipeline(&args, backends, &mut registry));
        let api = role.api.map(|args| new_api(&args, backends, &mut registry));
        let watched = lanes.as_ref().map(|lanes| Lanes {
            pipeline: handle.clone(),
            health: lanes.health(),
            holdings: lanes.holdings(),
        });
        let ready = ready::checks(backends, watched, stopping.clone());
        let watch = new_watch(backends, lanes.as_ref().map(Pipeline::holdings).zip(rest), &mut registry);
        registry.register_collector(Box::new(Disks::of(backends)));
        registry.register_collector(Box::new(backends.certificates.clone()));
        let open = Open::default();
        registry.register_collector(Box::new(open.clone()));
        let registry = Arc::new(registry);
        let mut running = Vec::new();
        if let (Some(api), Some(listener)) = (api.clone(), listeners.api) {
            let serve = |stop| tributary_ingest_api::serve(api, listener, stop);
            running.push((Service::start("the API", serve), steps.answered));
        }
        if let Some(lanes) = lanes {
            let supervise = move |stop| pipeline::supervise(move |stop| lanes.clone().run(stop), pauses, stop);
            running.push((Service::start(LANES, supervise), steps.lanes_ended));
        }
        if let Some(data) = &backends.data {
            let here = Running { pipeline: handle, watch: watch.clone(), log: backends.log.clone() };
            running.push((start_control(backends, data.clone(), here)?, steps.all_ended));
        }
        running.push((Service::start("the watch over the lag", |stop| watch.run(stop)), steps.all_ended));
        let log = backends.log.clone();
        running.push((Service::start("the count of dead letters", |stop| open.run(log, stop)), steps.all_ended));
        let admin = |stop| admin::serve(listeners.admin, process_name().into(), registry, ready, stop);
        running.push((Service::start("the admin listener", admin), steps.all_ended));
        Ok(Self { running, stopping, api, lands_all, steps })
    }

    /// Waits for the first task that ends by itself: none may.
    pub async fn fault(&mut self) -> anyhow::Error {
        let (ended, which, _) = select_all(self.running.iter_mut().map(|(service, _)| &mut service.task)).await;
        let error = reason(ended).context(format!("{} ended", self.running[which].0.name));
        tracing::error!("{error:#}");
        error
    }

    /// Is ready no more, while all goes on.
    pub fn leave(&self) {
        self.stopping.cancel();
        if let Some(api) = &self.api {
            api.leave();
        }
    }

    /// Is ready no more, stops accepting, lands what was accepted if nobody else does, ends; each step by its time, and
    /// the next one in any case: what has not landed stays in the log.
    pub async fn shut_down(self, log: &dyn RecordLog) {
        let told = Instant::now();
        tracing::info!("stopping");
        self.leave();
        for (service, by) in self.running {
            if self.lands_all && service.name == LANES && !service.task.is_finished() {
                land(log, told + self.steps.landed).await;
            }
            service.end(told + by).await;
        }
        tracing::info!(after = ?told.elapsed(), "stopped");
    }
}

impl Service {
    fn start<F, E>(name: &'static str, run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        let stop = CancellationToken::new();
        let running = run(stop.clone());
        Self { name, task: tokio::spawn(async move { running.await.map_err(Into::into) }), stop }
    }

    /// Tells it to stop and waits until it has, or until `by`.
    async fn end(mut self, by: Instant) {
        self.stop.cancel();
        // One that has ended already was reported as a fault, and may not be asked again.
        if self.task.is_finished() {
            return;
        }
        match timeout_at(by, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(ended) => tracing::error!("{}: {:#}", self.name, reason(ended)),
            Err(_) => {
                tracing::warn!("{} did not end in time and is abandoned", self.name);
                self.task.abort();
            }
        }
    }
}

fn reason(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("nobody told it to"),
        Ok(Err(error)) => error,
        Err(panic) => anyhow!("a bug: {panic}"),
    }
}

fn new_pipeline(args: &LaneArgs, backends: &Backends, registry: &mut Registry) -> Pipeline {
    let config = tributary_pipeline::Config {
        landing_deadline: args.landing_deadline,
        commit_interval: args.commit_interval,
        open_tables: args.open_tables as usize,
        stop_grace: LANES_END,
        ..tributary_pipeline::Config::with_memory(args.lane_memory as usize * 1024 * 1024)
    };
    let state = &backends.state;
    Pipeline::new(backends.log.clone(), state.tables.clone(), state.lake.clone(), state.world.clone(), config, registry)
}

fn new_api(args: &ApiArgs, backends: &Backends, registry: &mut Registry) -> Api {
    let mut config = tributary_ingest_api::Config::default();
    config.load.rate_limit = args.rate_limit;
    config.load.max_lag = args.max_lag;
    let state = &backends.state;
    Api::new(backends.log.clone(), state.tables.clone(), state.world.clone(), backends.lanes, config, registry)
}

/// `member`: the lanes of this process, and how long they rest between two commits.
fn new_watch(backends: &Backends, member: Option<(Holdings, Duration)>, registry: &mut Registry) -> Arc<Watch> {
    let state = &backends.state;
    let watch = Watch::new(backends.log.clone(), Some(state.tables.clone()), state.world.clone(), member);
    registry.register_collector(Box::new(watch.latest()));
    Arc::new(watch)
}

fn start_control(backends: &Backends, data: PathBuf, running: Running) -> anyhow::Result<Service> {
    let listener = control::wire::listen(&data)
        .with_context(|| format!("cannot listen on the control socket in {}", data.display()))?;
    let state = backends.state.clone();
    Ok(Service::start("the control socket", |stop| server::serve(listener, state, running, data, stop)))
}

async fn land(log: &dyn RecordLog, by: Instant) {
    loop {
        match drained(log).await {
            Ok(true) => return,
            Ok(false) if Instant::now() < by => tokio::time::sleep(LOOK_EVERY).await,
            Ok(false) => return left_behind(&"there is more than fits into the time"),
            Err(error) => return left_behind(&error),
        }
    }
}

fn left_behind(why: &dyn Display) {
    tracing::warn!("not everything has landed ({why}): the rest is safe in the log and lands at the next start");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lands_its_own_or_has_no_api_ends_within_ten_seconds() {
        // Three seconds are what a log on a disk may take.
        for appends in [None, Some(Duration::from_secs(3))] {
            let takes = Steps::of(appends).all_ended + super::super::CLOSED_WITHIN;
            assert!(takes <= Duration::from_secs(10), "{appends:?}: {takes:?}");
        }
    }

    /// As it is promised in the help texts; and who deploys it as we show kills nobody before that.
    #[cfg(feature = "cluster")]
    #[test]
    fn it_stops_before_it_is_killed() {
        use super::super::{CLOSED_WITHIN, DRAIN};
        use tributary_backends::log::kafka::Options;

        let drain = crate::cli::duration(DRAIN).expect("a duration");
        let serve = Steps::of(Some(Options::default().settles_within())).all_ended + CLOSED_WITHIN;
        let pipeline = Steps::of(None).all_ended + CLOSED_WITHIN;
        assert!(serve <= Duration::from_secs(20), "{serve:?}");
        let takes = drain + serve.max(pipeline);
        let kubernetes = "terminationGracePeriodSeconds: ";
        for (file, setting) in [
            ("kubernetes/serve.yaml", kubernetes),
            ("kubernetes/pipeline.yaml", kubernetes),
            ("compose.yaml", "stop_grace_period: "),
        ] {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docker").join(file);
            let text = std::fs::read_to_string(path).expect("a manifest");
            let granted = text.lines().find_map(|line| line.trim().strip_prefix(setting)).expect(setting);
            let granted = Duration::from_secs(granted.trim_end_matches('s').parse().expect("seconds"));
            assert!(takes < granted, "{file}: it may take {takes:?}, and has {granted:?}");
        }
    }

    #[tokio::test]
    async fn a_task_that_panics_is_told_apart_from_one_that_fails() {
        let panics = tokio::spawn(async { panic!("oh no") });
        assert!(reason(panics.await).to_string().starts_with("a bug: "));
        let fails = tokio::spawn(async { Err(anyhow!("disk gone")) });
        assert_eq!(reason(fails.await).to_string(), "disk gone");
        let ends = tokio::spawn(async { Ok(()) });
        assert_eq!(reason(ends.await).to_string(), "nobody told it to");
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_abandoned_in_time() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let deaf = Service::start("deaf", |_| async move {
            let _held = sender;
            std::future::pending::<anyhow::Result<()>>().await
        });
        deaf.end(Instant::now() + Duration::from_millis(1)).await;
        // Its end is seen by what it held: an abandoned task is gone, not merely forgotten.
        assert!(receiver.await.is_err());
    }
}
