//! `tributary lag`: how far the lake is behind what was accepted, by stage, partition and workspace.
//!
//! [`watch`] looks, in every process that runs and for this command; [`pace`] says what looks at one partition mean,
//! [`standing`] what they mean together with its owner's [`note`], [`sample`] and [`share`] whose records wait, [`landing`]
//! whose are done; a [`report`] is all of it at one moment, [`show`] and [`metrics`] are how people and Prometheus see it.
//!
//! Of embedded backends the process is asked that has them open, through the control socket; of backends on servers
//! nobody is asked, so that it works however few processes are left.

mod landing;
pub mod metrics;
mod note;
mod pace;
pub mod report;
mod sample;
mod share;
mod show;
mod standing;
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
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tributary_backends::{tables::Tables, world::SystemWorld};
use watch::Watch;

const EXAMPLES: &str = "Examples:
  tributary lag
  tributary lag --watch
  tributary lag --all --json
  tributary lag --kafka kafka:9092 --scylla scylla:9042

WAITING counts records between the committed offset and the end of a partition, as Kafka's own tools do. OLDEST
is the age of the first of them. DONE/S is how many were done a second in the last minute. DRAINED IN is when those
that wait now are done. A partition in capitals needs you.";

/// Between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(2);
/// From the start of a look, connecting included, until there is an answer, or it is said that there is none. Five seconds
/// are promised, and a process takes a moment to start and to end.
const WITHIN: Duration = Duration::from_millis(4_300);
/// Of these for connecting.
const CONNECTED_WITHIN: Duration = Duration::from_millis(3_500);
/// Clears the screen and goes to its first line.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Which lag to show, and how.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LagArgs {
    /// Look again every two seconds until interrupted
    #[arg(long, env = "TRIBUTARY_WATCH", value_parser = BoolishValueParser::new())]
    pub watch: bool,
    /// Show every partition and workspace, not only those that matter most: also workspaces of which nothing waits while
    /// something lands
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
    let mut looker = Looker { args: &args, servers: None, opened: false };
    loop {
        match looker.look().await {
            Ok(report) => show(&report, &args)?,
            // Just now it is needed: it may answer again.
            Err(error) if args.watch => output::error(&format!("{error:#}; looking on")),
            Err(error) => return Err(error),
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        sleep(EVERY).await;
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

/// What stays from one look to the next.
struct Looker<'a> {
    args: &'a LagArgs,
    /// Once they have answered.
    servers: Option<Watch>,
    /// Whether it has had the data directory open itself.
    opened: bool,
}

impl Looker<'_> {
    async fn look(&mut self) -> anyhow::Result<Report> {
        let (args, until) = (self.args, Instant::now() + WITHIN);
        if let (Some(brokers), true) = (&args.kafka.kafka, args.place.is_shared()) {
            let watch = match &mut self.servers {
                Some(watch) => watch,
                none => none.insert(on_servers(args, brokers).await?),
            };
            let looked = watch.look(until).await;
            return looked.with_context(|| format!("not all brokers of the log on Kafka at {brokers} answer"));
        }
        let asked = timeout_at(until, control::ask_if_running(&args.place, &Request::Lag, control::UNSEEN)).await;
        match asked.context("the running `tributary up` does not answer: is it paused?")?? {
            Some(Answer::Lag(report)) => Ok(report),
            Some(_) => bail!(control::OTHER_VERSION),
            // Nothing moves in it until somebody else has it open, whom to hold its lock all the time would keep out.
            None if self.opened => bail!("nothing runs on {}", args.place.data.display()),
            None => {
                self.opened = args.watch;
                stopped(args, until).await
            }
        }
    }
}

/// Sets up an onlooker's view of Kafka, and of the notes in the tables if these answer.
async fn on_servers(args: &LagArgs, brokers: &str) -> anyhow::Result<Watch> {
    let world = Arc::new(SystemWorld);
    let tables = timeout(CONNECTED_WITHIN, cluster::open_scylla(&args.place.scylla, world.clone()));
    let log = timeout(WITHIN, cluster::observe_kafka(&args.kafka, brokers, CONNECTED_WITHIN));
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

/// Opens a data directory that no process has open, for one look; a long log takes the time that it takes.
async fn stopped(args: &LagArgs, until: Instant) -> anyhow::Result<Report> {
    let place = &args.place;
    let directory = Arc::new(state::lock_existing(&place.data)?);
    let world = Arc::new(SystemWorld);
    match &args.kafka.kafka {
        Some(brokers) => {
            let log = cluster::observe_kafka(&args.kafka, brokers, CONNECTED_WITHIN).await?;
            let state = State::open(place, Some(&directory)).await?;
            Watch::new(log, Some(state.tables.clone()), world, None).look(until).await
        }
        None => {
            let all = BackendArgs { place: place.clone(), kafka: args.kafka.clone(), lanes: None, spread: None };
            let backends = Backends::open(&all, Some(directory)).await?;
            let watch = Watch::new(backends.log.clone(), Some(backends.state.tables.clone()), world, None);
            watch.look(Instant::now() + WITHIN).await
        }
    }
}
