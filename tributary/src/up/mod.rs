//! `tributary up`: API, pipeline and lake in one process on the embedded backends.
//!
//! The order matters. The lock first, so that a second `up` hears the true reason; the ports before anything is
//! written, so that the key of a first start is not lost to a port in use; the announcement last, when it is true.

use crate::{cli, cli::Place, state, state::State};
use announce::Announcement;
use anyhow::{Context, ensure};
use clap::{Args, builder::BoolishValueParser};
use services::Services;
use signals::Signals;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::spawn_blocking};
use tributary_backends::{
    data_dir::DataDir,
    log::{self, LogError, RecordLog},
};
use tributary_schemas::identity::Lanes;

mod announce;
pub mod pipeline;
mod ready;
mod services;
mod signals;

const EXAMPLES: &str = "Examples:
  tributary up
  tributary up --data /var/lib/tributary --listen 0.0.0.0:8080
  tributary up --listen 127.0.0.1:0 --admin 127.0.0.1:0 --json
  tributary --config /etc/tributary.toml up --log info,tributary_pipeline=debug

The first start creates the workspace `default` and one key, and prints what to paste.
Ctrl-C or SIGTERM: stops accepting, lands what was accepted, ends within 10 seconds. A second one: at once;
what was accepted lands at the next start.";

/// Lanes of a new data directory.
const DEFAULT_LANES: Lanes = Lanes { partitions: 4, spread: 1 };

/// Run everything in one process.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UpArgs {
    /// Where the API listens; port 0 takes a free one
    #[arg(long, env = "TRIBUTARY_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Where metrics and health listen (no key is asked there)
    #[arg(long, env = "TRIBUTARY_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub admin: String,
    #[command(flatten)]
    pub place: Place,
    /// Requests per second and key, for keys without a rate of their own; 0: any number
    #[arg(long, env = "TRIBUTARY_RATE_LIMIT", value_name = "N", default_value_t = 10)]
    pub rate_limit: u32,
    /// Senders get 429 while what they send would take longer than this to reach the lake; 0: never
    #[arg(long, env = "TRIBUTARY_MAX_LAG", value_name = "TIME", default_value = "2m", value_parser = cli::duration)]
    pub max_lag: Duration,
    /// Lanes (partitions of the records topic) of a new data directory; fixed from then on [default: 4]
    #[arg(long, env = "TRIBUTARY_LANES", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub lanes: Option<u32>,
    /// Lanes that one workspace's records spread over; fixed like --lanes [default: 1]
    #[arg(long, env = "TRIBUTARY_SPREAD", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub spread: Option<u32>,
    /// A batch that has not landed after this long is FAILED until it lands after all
    #[arg(long, env = "TRIBUTARY_LANDING_DEADLINE", value_name = "TIME", default_value = "10m", value_parser = cli::duration)]
    pub landing_deadline: Duration,
    /// Say that it is ready as one line of JSON: {"listen","admin","data","lake","key"?}
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// Runs `tributary up` until it is told to stop or cannot go on.
pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::install()?;
    let directory = Arc::new(state::lock(&args.place.data)?);
    let listeners = Listeners::bind(&args).await?;
    let opening = open(directory.clone(), args.place.clone(), wanted_lanes(&args));
    let backends = tokio::select! {
        backends = opening => backends?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let first_key = announce::first_key(&backends.state).await?;
    let announcement = Announcement::new(&args, &listeners, &backends.state, first_key)?;
    let mut services = Services::start(&args, listeners, &backends)?;
    announcement.say(args.json)?;
    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        fault = services.fault() => Err(fault),
    };
    tokio::select! {
        () = services.shut_down(&*backends.log) => {}
        () = signals.next() => tracing::warn!("told to stop at once: what was accepted lands at the next start"),
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// The sockets, bound before anything else happens.
struct Listeners {
    api: TcpListener,
    admin: TcpListener,
}

impl Listeners {
    async fn bind(args: &UpArgs) -> anyhow::Result<Self> {
        Ok(Self { api: bind("--listen", &args.listen).await?, admin: bind("--admin", &args.admin).await? })
    }

    fn addresses(&self) -> anyhow::Result<(SocketAddr, SocketAddr)> {
        Ok((self.api.local_addr()?, self.admin.local_addr()?))
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

/// The open backends, and the lock that makes them ours.
struct Backends {
    state: Arc<State>,
    log: Arc<dyn RecordLog>,
    lanes: Lanes,
    /// Absolute.
    data: PathBuf,
    _lock: Arc<DataDir>,
}

/// Opens everything; reading a long log back takes a while and blocks.
async fn open(directory: Arc<DataDir>, place: Place, lanes: WantedLanes) -> anyhow::Result<Backends> {
    let lock = directory.clone();
    let data = std::path::absolute(&place.data)?;
    let state = spawn_blocking(move || State::open(&lock, &place)).await.context("opening the state")??;
    let lanes = settle_lanes(&state, lanes).await?;
    let (lock, world) = (directory.clone(), state.world.clone());
    let log = spawn_blocking(move || {
        let options = log::embedded::Options { lanes, ..Default::default() };
        log::embedded::open(&lock.log_dir(), options, world).map_err(|error| {
            anyhow::anyhow!("cannot open the log in {}: {error}{}", lock.log_dir().display(), advice(&error))
        })
    });
    let log = log.await.context("opening the log")??;
    Ok(Backends { state: Arc::new(state), log, lanes, data, _lock: directory })
}

/// What an operator can do about a log that does not open.
fn advice(error: &LogError) -> &'static str {
    match error {
        LogError::Corrupt { .. } => {
            ". Nothing was changed. What has landed is safe in the lake. Bring the file back from a copy of the disk; \
             without one, start an empty data directory with an empty lake and send the records again"
        }
        LogError::Full(_) => ". Make room on this disk and start again",
        LogError::Unavailable(_) | LogError::Fenced { .. } | LogError::Halted(_) => "",
    }
}

/// What the operator says about lanes.
#[derive(Debug, Clone, Copy)]
struct WantedLanes {
    partitions: Option<u32>,
    spread: Option<u32>,
}

fn wanted_lanes(args: &UpArgs) -> WantedLanes {
    WantedLanes { partitions: args.lanes, spread: args.spread }
}

impl WantedLanes {
    /// For a new data directory.
    fn or_default(self) -> Lanes {
        Lanes {
            partitions: self.partitions.unwrap_or(DEFAULT_LANES.partitions),
            spread: self.spread.unwrap_or(DEFAULT_LANES.spread),
        }
    }

    fn agrees_with(self, settled: Lanes) -> bool {
        self.partitions.is_none_or(|n| n == settled.partitions) && self.spread.is_none_or(|n| n == settled.spread)
    }
}

/// The lanes written down at first start; only what the operator says outright can contradict them.
async fn settle_lanes(state: &State, wanted: WantedLanes) -> anyhow::Result<Lanes> {
    let new = wanted.or_default();
    // On a directory that has its lanes already a contradiction is told below, in terms of what is there.
    let proposed = if new.spread <= new.partitions { new } else { DEFAULT_LANES };
    let settled = state.tables.lanes(proposed).await.context("cannot read the lanes written down at first start")?;
    ensure!(
        wanted.agrees_with(settled),
        "this data directory works with --lanes {} --spread {}, not with --lanes {} --spread {}: with other lanes \
         records of one identity would overtake each other. Leave the flags out to go on as before; to change the \
         lanes, start an empty data directory with an empty lake and send the records again",
        settled.partitions,
        settled.spread,
        wanted.partitions.unwrap_or(settled.partitions),
        wanted.spread.unwrap_or(settled.spread),
    );
    Ok(settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_outright_can_contradict() {
        let settled = Lanes { partitions: 8, spread: 2 };
        let wanted = |partitions, spread| WantedLanes { partitions, spread };
        assert!(wanted(None, None).agrees_with(settled));
        assert!(wanted(Some(8), Some(2)).agrees_with(settled));
        assert!(!wanted(Some(4), None).agrees_with(settled));
        assert!(!wanted(None, Some(1)).agrees_with(settled));
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_with_the_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = taken.local_addr().expect("an address").to_string();
        let error = bind("--admin", &address).await.expect_err("taken").to_string();
        assert!(error.contains(&address) && error.contains("--admin"), "{error}");
    }
}
