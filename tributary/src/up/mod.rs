//! The commands that run until they are told to stop: `up` is API, pipeline and lake in one process; `serve` and
//! `pipeline` are its halves, any number of each on backends that they share.
//!
//! The order matters. The lock first, so that a second `up` hears the true reason; the ports before anything is
//! written, so that the key of a first start is not lost to a port in use; the announcement last, when it is true.

use crate::{
    backends::{BackendArgs, Backends},
    cli, output, state,
    traces::TraceArgs,
};
use announce::Announcement;
use clap::{Args, builder::BoolishValueParser};
use services::Services;
use signals::Signals;
use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    task::spawn_blocking,
    time::{sleep, timeout},
};

mod announce;
mod disks;
pub mod pipeline;
mod ready;
#[cfg(test)]
mod scrape_tests;
mod services;
mod signals;

const UP_EXAMPLES: &str = "Examples:
  tributary up
  tributary up --data /var/lib/tributary --listen 0.0.0.0:8080
  tributary up --listen 127.0.0.1:0 --admin 127.0.0.1:0 --json
  tributary up --kafka kafka-1:9092,kafka-2:9092
  tributary --config /etc/tributary.toml up --log info,tributary_pipeline=debug

The first start creates the workspace `default` and one key, and prints what to paste.
Ctrl-C or SIGTERM: stops accepting, lands what was accepted, ends within 10 seconds, or 20 while brokers are slow. A second
one: at once; what was accepted lands at the next start.";
const SERVE_EXAMPLES: &str = "Examples:
  tributary serve --kafka kafka:9092 --scylla scylla:9042 --lake s3://lake/
  tributary serve --kafka kafka:9092 --scylla scylla:9042 --lake s3://lake/ --listen 0.0.0.0:8080

Any number of these may run, and of `tributary pipeline`, all with the same backends.
Ctrl-C or SIGTERM: /readyz says no, and all requests are answered for --drain longer, until balancers send no more;
then what is in flight is answered, and it ends, at once or, while brokers are slow, within 20 seconds. A second one: without
that wait. A third: at once.";
const PIPELINE_EXAMPLES: &str = "Examples:
  tributary pipeline --kafka kafka:9092 --scylla scylla:9042 --lake s3://lake/

Any number of these may run; they divide the lanes among them, and whenever one comes or goes.
Ctrl-C or SIGTERM: finishes or abandons the chunks in hand and gives its lanes to the others, ends within
10 seconds. A second one: at once. Nothing is lost either way.";

/// How long `serve` goes on by default once it is told to stop.
const DRAIN: &str = "5s";
/// How long the backends may take to close.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

/// Run everything in one process.
#[derive(Debug, Args)]
#[command(after_help = UP_EXAMPLES)]
pub struct UpArgs {
    #[command(flatten)]
    pub api: ApiArgs,
    #[command(flatten)]
    pub lanes: LaneArgs,
    #[command(flatten)]
    pub process: ProcessArgs,
    #[command(flatten)]
    pub backends: BackendArgs,
}

/// Run the API on backends that other processes share.
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct ServeArgs {
    #[command(flatten)]
    pub api: ApiArgs,
    /// Told to stop, it says so on /readyz and goes on for this long: longer than whoever sends it requests takes to
    /// notice; 0: not at all
    #[arg(long, env = "TRIBUTARY_DRAIN", value_name = "TIME", default_value = DRAIN, value_parser = cli::duration)]
    pub drain: Duration,
    #[command(flatten)]
    pub process: ProcessArgs,
    #[command(flatten)]
    pub backends: BackendArgs,
}

/// Run lanes on backends that other processes share.
#[derive(Debug, Args)]
#[command(after_help = PIPELINE_EXAMPLES)]
pub struct PipelineArgs {
    #[command(flatten)]
    pub lanes: LaneArgs,
    #[command(flatten)]
    pub process: ProcessArgs,
    #[command(flatten)]
    pub backends: BackendArgs,
}

/// What the API does.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// Where the API listens; port 0 takes a free one
    #[arg(long, env = "TRIBUTARY_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Requests per second and key, for keys without a rate of their own; 0: any number
    #[arg(long, env = "TRIBUTARY_RATE_LIMIT", value_name = "N", default_value_t = 10)]
    pub rate_limit: u32,
    /// Senders get 429 while what they send would take longer than this to reach the lake; 0: never
    #[arg(long, env = "TRIBUTARY_MAX_LAG", value_name = "TIME", default_value = "2m", value_parser = cli::duration)]
    pub max_lag: Duration,
}

/// What the lanes do.
#[derive(Debug, Clone, Args)]
pub struct LaneArgs {
    /// A batch that has not landed after this long is FAILED until it lands after all
    #[arg(long, env = "TRIBUTARY_LANDING_DEADLINE", value_name = "TIME", default_value = "10m", value_parser = cli::duration)]
    pub landing_deadline: Duration,
    /// Least time between two commits of a lane that keeps up: longer means fewer commits and larger files, and a record
    /// waits up to this long before anyone can see it. Keep it well below a quarter of --max-lag
    #[arg(long, env = "TRIBUTARY_COMMIT_INTERVAL", value_name = "TIME", default_value = "300ms", value_parser = cli::duration)]
    pub commit_interval: Duration,
    /// Tables that a lane keeps open: each costs its list of files and 2 to 3 bytes a key; one that is opened again costs a
    /// read of its part of the key index
    #[arg(long, env = "TRIBUTARY_OPEN_TABLES", value_name = "N", default_value_t = 64)]
    pub open_tables: u32,
    /// MiB of messages that all lanes of this process hold at once; a chunk has three sevenths of it at most, and landing
    /// it takes about five times as much as it has
    #[arg(long, env = "TRIBUTARY_LANE_MEMORY", value_name = "MIB", default_value_t = 28, value_parser = clap::value_parser!(u32).range(7..=65_536))]
    pub lane_memory: u32,
}

/// What each of these processes has.
#[derive(Debug, Clone, Args)]
pub struct ProcessArgs {
    /// Where metrics and health listen (no key is asked there)
    #[arg(long, env = "TRIBUTARY_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub admin: String,
    /// Say that it is ready as one line of JSON: {"listen"?,"admin","data"?,"lake","key"?}
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub traces: TraceArgs,
}

/// What one process does; `up` does both.
#[derive(Debug, Clone)]
struct Role {
    api: Option<ApiArgs>,
    lanes: Option<LaneArgs>,
    /// How long it goes on once it is told to stop.
    drain: Duration,
}

impl Role {
    /// `up` is all there is on its data directory; the halves share their backends with other processes.
    fn is_whole(&self) -> bool {
        self.api.is_some() && self.lanes.is_some()
    }
}

/// Runs `tributary up` until it is told to stop or cannot go on.
pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    run_role(Role { api: Some(args.api), lanes: Some(args.lanes), drain: Duration::ZERO }, args.process, args.backends)
        .await
}

/// Runs `tributary serve` likewise.
pub async fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    if let Err(reason) = args.backends.shared() {
        return Ok(refuse("serve", &reason));
    }
    run_role(Role { api: Some(args.api), lanes: None, drain: args.drain }, args.process, args.backends).await
}

/// Runs `tributary pipeline` likewise.
pub async fn pipeline(args: PipelineArgs) -> anyhow::Result<ExitCode> {
    if let Err(reason) = args.backends.shared() {
        return Ok(refuse("pipeline", &reason));
    }
    run_role(Role { api: None, lanes: Some(args.lanes), drain: Duration::ZERO }, args.process, args.backends).await
}

/// A usage error.
fn refuse(command: &str, reason: &str) -> ExitCode {
    output::error(&format!("`tributary {command}` shares its backends with other processes: {reason}"));
    ExitCode::from(2)
}

async fn run_role(role: Role, process: ProcessArgs, args: BackendArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::install()?;
    let directory = if role.is_whole() { Some(Arc::new(state::lock(&args.place.data)?)) } else { None };
    let listeners = Listeners::bind(&role, &process).await?;
    let backends = tokio::select! {
        backends = Backends::open(&args, directory) => backends?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let is_first = tokio::select! {
        is_first = prepare(&role, &backends) => is_first?,
        () = signals.next() => {
            close(backends).await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    // Not to be cut off, for it is shown only once.
    let first_key = if is_first { Some(announce::first_key(&backends.state).await?) } else { None };
    let announcement = Announcement::new(&listeners, &backends, first_key)?;
    let drain = role.drain;
    let mut services = Services::start(role, listeners, &backends)?;
    announcement.say(process.json)?;
    let outcome = tokio::select! {
        () = signals.next() => leave(&mut services, &mut signals, drain).await,
        fault = services.fault() => Err(fault),
    };
    tokio::select! {
        () = services.shut_down(&*backends.log) => {}
        () = signals.next() => tracing::warn!("told to stop at once: what was accepted lands at the next start"),
    }
    close(backends).await;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// What must be true of the lake before lanes run on it; whether nothing was ever started here. A store that hangs may keep
/// this waiting for long.
async fn prepare(role: &Role, backends: &Backends) -> anyhow::Result<bool> {
    if role.lanes.is_some() {
        backends.prove_lake().await?;
    }
    Ok(role.is_whole() && announce::is_first(&backends.state).await?)
}

/// Goes on while it says that it is ready no more: for `drain`, or until told again.
async fn leave(services: &mut Services, signals: &mut Signals, drain: Duration) -> anyhow::Result<()> {
    services.leave();
    if drain.is_zero() {
        return Ok(());
    }
    tracing::info!(?drain, "ready no more; requests are answered until those who send them have noticed");
    tokio::select! {
        () = sleep(drain) => Ok(()),
        () = signals.next() => Ok(()),
        fault = services.fault() => Err(fault),
    }
}

/// Leaves consumer groups and closes files, which blocks.
async fn close(backends: Backends) {
    if timeout(CLOSED_WITHIN, spawn_blocking(move || drop(backends))).await.is_err() {
        tracing::warn!("the backends did not close in time and are abandoned");
    }
}

/// The sockets, bound before anything else happens.
struct Listeners {
    api: Option<TcpListener>,
    admin: TcpListener,
}

impl Listeners {
    async fn bind(role: &Role, process: &ProcessArgs) -> anyhow::Result<Self> {
        let api = match &role.api {
            Some(api) => Some(bind("--listen", &api.listen).await?),
            None => None,
        };
        Ok(Self { api, admin: bind("--admin", &process.admin).await? })
    }

    fn addresses(&self) -> anyhow::Result<(Option<SocketAddr>, SocketAddr)> {
        Ok((self.api.as_ref().map(TcpListener::local_addr).transpose()?, self.admin.local_addr()?))
    }
}

async fn bind(flag: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!(": another program has this port, perhaps another `tributary up`; choose another with {flag}")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!(": this user may not use this port; choose one above 1023 with {flag}")
            }
            std::io::ErrorKind::InvalidInput => format!(": {flag} takes HOST:PORT"),
            _ => String::new(),
        };
        anyhow::anyhow!("cannot listen on {address}: {error}{advice}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_told_with_the_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = taken.local_addr().expect("an address").to_string();
        let error = bind("--admin", &address).await.expect_err("taken").to_string();
        assert!(error.contains(&address) && error.contains("--admin"), "{error}");
    }
}
