//! `tributary lag`: how far the lake is behind what was accepted, by stage, partition and workspace.
//!
//! [`watch`] looks, in every process that runs and for this command; [`pace`] says what looks at one partition mean,
//! [`share`] whose records wait, [`note`] who has what; a [`report`] is all of it at one moment, [`show`] and [`metrics`]
//! are how people and Prometheus see it.
//!
//! Of embedded backends the process is asked that has them open, through the control socket; of backends on servers
//! nobody is asked, so that it works however few processes are left.

pub mod metrics;
mod note;
mod pace;
pub mod report;
mod share;
mod show;
pub mod watch;

use crate::{
    backends::{BackendArgs, Backends},
    cli::Place,
    cluster::{self, KafkaArgs},
    control::{self, Answer, Request},
    output,
    state::{self, State},
};
use anyhow::{Context, bail};
use clap::{Args, builder::BoolishValueParser};
use report::Report;
use std::{io::IsTerminal, process::ExitCode, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};
use tributary_backends::{tables::Tables, world::SystemWorld};
use watch::Watch;

const EXAMPLES: &str = "Examples:
  tributary lag
  tributary lag --watch
  tributary lag --all --json
  tributary lag --kafka kafka:9092 --scylla scylla:9042

WAITING counts records between the committed offset and the end of a partition, as Kafka's own tools do. OLDEST
is the age of the first of them. DRAINED IN is when those that wait now are done. A partition in capitals needs you.";

/// Between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(2);
/// Servers that do not answer within this are said not to, a second later at most.
const CONNECTED_WITHIN: Duration = Duration::from_secs(4);
/// One look.
const LOOKED_WITHIN: Duration = Duration::from_secs(15);
/// Clears the screen and goes to its first line.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Which lag to show, and how.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LagArgs {
    /// Look again every two seconds until interrupted
    #[arg(long, env = "TRIBUTARY_WATCH", value_parser = BoolishValueParser::new())]
    pub watch: bool,
    /// Show every partition and workspace, not only those that matter most
    #[arg(long, env = "TRIBUTARY_ALL", value_parser = BoolishValueParser::new())]
    pub all: bool,
    /// Print one JSON document a look
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

/// Runs `tributary lag`.
pub async fn run(args: LagArgs) -> anyhow::Result<ExitCode> {
    let mut servers = None;
    loop {
        let report = match (&servers, args.is_on_servers()) {
            (None, true) => look_at(servers.insert(on_servers(&args).await?)).await?,
            (Some(watch), _) => look_at(watch).await?,
            (None, false) => embedded(&args).await?,
        };
        show(&report, &args)?;
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        sleep(EVERY).await;
    }
}

impl LagArgs {
    /// Whether nothing of it is in a data directory.
    fn is_on_servers(&self) -> bool {
        self.place.is_shared() && self.kafka.kafka.is_some()
    }
}

fn show(report: &Report, args: &LagArgs) -> anyhow::Result<()> {
    if args.json {
        return output::json(report);
    }
    let text = show::lines(report, args.all).join("\n");
    if args.watch && std::io::stdout().is_terminal() {
        output::line(&format!("{CLEAR}{text}"));
    } else {
        output::line(&text);
    }
    Ok(())
}

/// Sets up an onlooker's view of Kafka, and of the notes in the tables if these answer.
async fn on_servers(args: &LagArgs) -> anyhow::Result<Watch> {
    let brokers = args.kafka.kafka.clone().unwrap_or_default();
    let world = Arc::new(SystemWorld);
    let tables = timeout(CONNECTED_WITHIN, cluster::open_scylla(&args.place.scylla, world.clone()));
    let log = timeout(CONNECTED_WITHIN + EVERY / 4, cluster::observe_kafka(&args.kafka, &brokers, CONNECTED_WITHIN));
    let (tables, log) = tokio::join!(tables, log);
    let log = log.with_context(|| format!("no broker of {brokers} answers"))??;
    Ok(Watch::new(log, answered(tables), world, None))
}

/// Without the tables all but the owners is known, which is worth more than nothing.
fn answered<E>(tables: Result<anyhow::Result<Arc<dyn Tables>>, E>) -> Option<Arc<dyn Tables>> {
    let reason = match tables {
        Ok(Ok(tables)) => return Some(tables),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "no answer from the tables".to_owned(),
    };
    output::note(&format!("owners are not known: {reason}"));
    None
}

async fn look_at(watch: &Watch) -> anyhow::Result<Report> {
    timeout(LOOKED_WITHIN, watch.look(true)).await.context("the log does not answer")?
}

/// Asks the process that has the data directory open, or opens it for one look when none does.
async fn embedded(args: &LagArgs) -> anyhow::Result<Report> {
    let place = &args.place;
    if let Some(answer) = control::ask_if_running(place, &Request::Lag).await? {
        let Answer::Lag(report) = answer else { bail!(control::OTHER_VERSION) };
        return Ok(report);
    }
    let directory = Arc::new(state::lock_existing(&place.data)?);
    let world = Arc::new(SystemWorld);
    let watch = match &args.kafka.kafka {
        Some(brokers) => {
            let log = cluster::observe_kafka(&args.kafka, brokers, CONNECTED_WITHIN).await?;
            let state = State::open(place, Some(&directory)).await?;
            Watch::new(log, Some(state.tables.clone()), world, None)
        }
        None => {
            let all = BackendArgs { place: place.clone(), kafka: args.kafka.clone(), lanes: None, spread: None };
            let backends = Backends::open(&all, Some(directory)).await?;
            Watch::new(backends.log.clone(), Some(backends.state.tables.clone()), world, None)
        }
    };
    look_at(&watch).await
}
