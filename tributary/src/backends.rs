//! Log, tables and lake, opened from one set of flags, for every command that runs.

use crate::{
    certificates::Certificates,
    cli::Place,
    cluster::{self, KafkaArgs},
    patience::waited_for,
    state::State,
};
use anyhow::{Context, ensure};
use clap::Args;
use std::{path::PathBuf, sync::Arc};
use tokio::task::spawn_blocking;
use tributary_backends::{
    data_dir::DataDir,
    log::{self, LogError, RecordLog},
    world::World,
};
use tributary_schemas::identity::Lanes;

/// With more, what a process says of them would not fit into the 5 MB that a scrape may have.
const MOST_LANES: i64 = 2_500;
/// Lanes of a new log.
const DEFAULT_LANES: Lanes = Lanes { partitions: 4, spread: 1 };

/// Which backends, and what a new log is made of.
#[derive(Debug, Clone, Args)]
pub struct BackendArgs {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Lanes (partitions of the records topic) of a new log; fixed from then on [default: 4]
    #[arg(long, env = "TRIBUTARY_LANES", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_LANES))]
    pub lanes: Option<u32>,
    /// Lanes that one workspace's records spread over; fixed like --lanes [default: 1]
    #[arg(long, env = "TRIBUTARY_SPREAD", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_LANES))]
    pub spread: Option<u32>,
}

/// The open backends, and the lock that makes embedded ones ours.
#[derive(Debug)]
pub struct Backends {
    pub state: Arc<State>,
    pub log: Arc<dyn RecordLog>,
    pub lanes: Lanes,
    /// Absolute; locked.
    pub data: Option<PathBuf>,
    /// By which servers are known, and we to them.
    pub certificates: Certificates,
    _lock: Option<Arc<DataDir>>,
}

impl Backends {
    /// Opens everything. `directory` is the data directory under its lock, which embedded backends need.
    pub async fn open(args: &BackendArgs, directory: Option<Arc<DataDir>>) -> anyhow::Result<Self> {
        let state = Arc::new(State::open(&args.place, directory.as_ref()).await?);
        let lanes = settle_lanes(&state, args.wanted_lanes()).await?;
        let log = open_log(args, directory.as_ref(), lanes, state.world.clone()).await?;
        let data = directory.as_ref().map(|_| std::path::absolute(&args.place.data)).transpose()?;
        let certificates = Certificates::read(args);
        Ok(Self { state, log, lanes, data, certificates, _lock: directory })
    }

    /// Has the lake's store show that it keeps what the lanes' commits rely on.
    pub async fn prove_lake(&self) -> anyhow::Result<()> {
        let state = &self.state;
        let proven = waited_for(format_args!("the lake at {}", state.lake_url), state.lake.prove()).await;
        proven.with_context(|| format!("cannot use the lake at {}", state.lake_url))
    }
}

/// Opens the log; reading a long embedded one back takes a while and blocks.
async fn open_log(
    args: &BackendArgs,
    directory: Option<&Arc<DataDir>>,
    lanes: Lanes,
    world: Arc<dyn World>,
) -> anyhow::Result<Arc<dyn RecordLog>> {
    if let Some(brokers) = &args.kafka.kafka {
        return cluster::open_kafka(&args.kafka, brokers, lanes).await;
    }
    let lock = directory.cloned().context("an embedded log needs a data directory")?;
    let log = spawn_blocking(move || {
        let options = log::embedded::Options { lanes, ..Default::default() };
        log::embedded::open(&lock.log_dir(), options, world).map_err(|error| {
            anyhow::anyhow!("cannot open the log in {}: {error}{}", lock.log_dir().display(), advice(&error))
        })
    });
    log.await.context("opening the log")?
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

impl BackendArgs {
    /// Whether other processes can have the same backends; what is missing when not.
    pub fn shared(&self) -> Result<(), String> {
        let mut missing = Vec::new();
        if self.kafka.kafka.is_none() {
            missing.push("a log that only one process can open (name Kafka's brokers with --kafka)");
        }
        if !self.place.is_shared() {
            missing.push("tables that only one process can open (name ScyllaDB's nodes with --scylla)");
        }
        if self.place.lake.is_none() {
            missing.push("no lake that is the same for all (name one with --lake)");
        }
        if missing.is_empty() { Ok(()) } else { Err(format!("this one was given {}", missing.join(", and "))) }
    }

    fn wanted_lanes(&self) -> WantedLanes {
        WantedLanes { partitions: self.lanes, spread: self.spread }
    }
}

impl WantedLanes {
    /// For a new log.
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
        "the records here were divided with --lanes {} --spread {}, not with --lanes {} --spread {}: with other lanes \
         records of one identity would overtake each other. Leave the flags out to go on as before; to change the \
         lanes, start with empty backends and an empty lake and send the records again",
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
}
