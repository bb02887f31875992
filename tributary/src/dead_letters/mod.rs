//! `tributary dead-letters …`: what could not be processed, and what operators do about it.
//!
//! [`desk`] does it, in the process that has the log; [`show`] puts it for people, [`open`] counts for Prometheus. Of an
//! embedded log the process is asked that has it open, through the control socket; on Kafka nobody is asked.

pub mod desk;
mod moment;
pub mod open;
mod show;

use crate::{
    backends::{BackendArgs, Backends},
    cli::Place,
    cluster::{self, KafkaArgs},
    control::{self, Answer, Request},
    output,
    state::{self, State},
};
use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand, builder::BoolishValueParser};
use desk::{Found, Order, Selection};
use indicatif::{HumanCount, ProgressBar, ProgressFinish};
use moment::moment;
use std::{os::unix::fs::MetadataExt, process::ExitCode, sync::Arc, time::Duration};
use tributary_backends::{log::RecordLog, world::SystemWorld};
use tributary_pipeline::dead_letters::{Bounds, Cursor, Deed, Filter, Handling, LetterId};
use tributary_schemas::identity::Lanes;

const LIST_EXAMPLES: &str = "Examples:
  tributary dead-letters list
  tributary dead-letters list --workspace acme --since 2h
  tributary dead-letters list --batch-id 0198c0de-0000-7000-8000-000000000000 --summary
  tributary dead-letters list --matching registry --all --json
  tributary dead-letters list --kafka kafka:9092 --scylla scylla:9042

The newest come first, and at the end it says how to see those behind them.
A letter is told by where its message was: TOPIC/PARTITION/OFFSET. CAN BE REPLAYED says whether this
version of the program, with the schema registry as it is now, can read it.";
const SHOW_EXAMPLES: &str = "Examples:
  tributary dead-letters show records/0/17
  tributary dead-letters show records/0/17 --json";
const REPLAY_EXAMPLES: &str = "Examples:
  tributary dead-letters replay records/0/17 --reason registry-is-back --dry-run
  tributary dead-letters replay records/0/17 --reason registry-is-back
  tributary dead-letters replay --matching registry --since 2h --reason registry-is-back
  tributary dead-letters replay --every --reason upgraded --by ann

The original bytes go back to the partition that they came from, and from there the usual way. It may be
killed and given again: a record lands once. A version that is newer stays, also one that comes meanwhile.
What became of the first thousand letters is shown, of all it is counted. Exit code 1 when a letter was refused.";
const DISCARD_EXAMPLES: &str = "Examples:
  tributary dead-letters discard records/0/17 --reason not-ours
  tributary dead-letters discard --topic records --until 2026-11-01T00:00:00Z --reason sent-again --dry-run

Nothing is erased: the letter is no longer open, and `list --all` shows it with who, when and why.";
const EXAMPLES: &str = "Examples:
  tributary dead-letters list
  tributary dead-letters show records/0/17
  tributary dead-letters replay records/0/17 --reason registry-is-back
  tributary dead-letters discard records/0/17 --reason not-ours

They work whether or not `tributary up` runs on the data directory.";

/// Servers that do not answer within this are said not to.
const CONNECTED_WITHIN: Duration = Duration::from_secs(4);

/// List, replay and discard messages that could not be processed.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum DeadLettersCommand {
    /// List those that nothing was done about
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one, with its bytes and all that was done about it
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// Send their bytes the same way again, once the cause is mended
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Close them without doing anything
    #[command(after_help = DISCARD_EXAMPLES)]
    Discard(DiscardArgs),
}

/// Where the log and the key index are.
#[derive(Debug, Args)]
pub struct Where {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

/// Which letters.
#[derive(Debug, Args)]
pub struct Which {
    /// Only those of this workspace, where the bytes say whose they are
    #[arg(long, env = "TRIBUTARY_WORKSPACE", value_name = "NAME")]
    pub workspace: Option<String>,
    /// Only those of this batch, where the bytes say so
    #[arg(long, env = "TRIBUTARY_BATCH_ID", value_name = "ID")]
    pub batch_id: Option<String>,
    /// Only those whose stage or reason holds this text, in any case, in its first 1,000 characters
    #[arg(long, env = "TRIBUTARY_MATCHING", value_name = "TEXT")]
    pub matching: Option<String>,
    /// Only those that came from this topic
    #[arg(long, env = "TRIBUTARY_TOPIC", value_name = "NAME")]
    pub topic: Option<String>,
    /// Only those put aside at this time or later: 2h (ago), or 2026-11-23T08:00:00Z
    #[arg(long, env = "TRIBUTARY_SINCE", value_name = "TIME", value_parser = moment)]
    pub since: Option<i64>,
    /// Only those put aside before this time
    #[arg(long, env = "TRIBUTARY_UNTIL", value_name = "TIME", value_parser = moment)]
    pub until: Option<i64>,
}

/// Which letters to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub which: Which,
    /// Also those that were replayed or discarded
    #[arg(long, env = "TRIBUTARY_ALL", value_parser = BoolishValueParser::new())]
    pub all: bool,
    /// At most so many, the newest
    #[arg(long, env = "TRIBUTARY_LIMIT", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub limit: u64,
    /// Only those behind a list before, which said so at its end
    #[arg(long, env = "TRIBUTARY_BEFORE", value_name = "CURSOR")]
    pub before: Option<Cursor>,
    /// Only how many are open, replayed and discarded, and the open ones by reason
    #[arg(long, env = "TRIBUTARY_SUMMARY", value_parser = BoolishValueParser::new())]
    pub summary: bool,
    /// Print one JSON object per line
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub at: Where,
}

/// Which letter to show.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its id, from `tributary dead-letters list`
    #[arg(value_name = "ID")]
    pub id: LetterId,
    /// Print one JSON object
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub at: Where,
}

/// What is signed, and what for.
#[derive(Debug, Args)]
pub struct DeedArgs {
    /// Their ids, from `tributary dead-letters list`
    #[arg(value_name = "ID")]
    pub ids: Vec<LetterId>,
    #[command(flatten)]
    pub which: Which,
    /// Every open letter
    #[arg(long, env = "TRIBUTARY_EVERY", value_parser = BoolishValueParser::new())]
    pub every: bool,
    /// Why, in words; kept for ever with the letter
    #[arg(long, env = "TRIBUTARY_REASON", value_name = "TEXT")]
    pub reason: String,
    /// Who does it [default: the login name]
    #[arg(long, env = "TRIBUTARY_BY", value_name = "NAME")]
    pub by: Option<String>,
    /// Only say what would be done
    #[arg(long, env = "TRIBUTARY_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub dry_run: bool,
    /// Print one JSON object per line
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub at: Where,
}

/// Which letters to replay.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub deed: DeedArgs,
    /// Also where a newer version of the record has landed, whose place it takes
    #[arg(long, env = "TRIBUTARY_OVERWRITE", value_parser = BoolishValueParser::new())]
    pub overwrite: bool,
}

/// Which letters to discard.
#[derive(Debug, Args)]
pub struct DiscardArgs {
    #[command(flatten)]
    pub deed: DeedArgs,
}

/// Runs `tributary dead-letters …`.
pub async fn run(command: DeadLettersCommand) -> anyhow::Result<ExitCode> {
    match command {
        DeadLettersCommand::List(args) => list(args).await,
        DeadLettersCommand::Show(args) => show(args).await,
        DeadLettersCommand::Replay(args) => act(args.deed, Deed::Replayed, args.overwrite).await,
        DeadLettersCommand::Discard(args) => act(args.deed, Deed::Discarded, false).await,
    }
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let limit = if args.summary { 1 } else { usize::try_from(args.limit)? };
    let bounds = Bounds { handled: args.all, limit, before: args.before };
    let order = Order::List(args.which.filter(), bounds);
    let Found::Page(page) = ask(&args.at, order).await? else { bail!(control::OTHER_VERSION) };
    match (args.summary, args.json) {
        (true, true) => return output::json(&page.summary).map(|()| ExitCode::SUCCESS),
        (true, false) => show::summary(&page.summary).iter().for_each(|line| output::line(line)),
        (false, true) => page.letters.iter().try_for_each(output::json)?,
        (false, false) if page.letters.is_empty() => output::note("no dead letters"),
        (false, false) => show::list(&page.letters),
    }
    if let Some(rest) = show::rest(&page).filter(|_| !args.summary) {
        output::note(&rest);
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let Found::Letter(letter) = ask(&args.at, Order::Show(args.id)).await? else { bail!(control::OTHER_VERSION) };
    if args.json {
        output::json(&letter)?;
    } else {
        show::one(&letter).iter().for_each(|line| output::line(line));
    }
    Ok(ExitCode::SUCCESS)
}

async fn act(args: DeedArgs, deed: Deed, overwrite: bool) -> anyhow::Result<ExitCode> {
    let select = Selection { ids: args.ids, filter: args.which.filter() };
    ensure!(
        args.every || select != Selection::default(),
        "which letters? Name ids from `tributary dead-letters list`, or choose by --workspace, --matching, --topic, \
         --since or --until; --every takes all that are open"
    );
    ensure!(!args.reason.trim().is_empty(), "--reason: say why; it is kept with the letter");
    let by = args.by.or_else(login).context("who does it? Say so with --by")?;
    let how = Handling { deed, by, reason: args.reason, dry_run: args.dry_run, overwrite };
    let Found::Handled(mut handled) = ask(&args.at, Order::Handle(select, how)).await? else {
        bail!(control::OTHER_VERSION)
    };
    let sum = show::sum(&handled, deed, args.dry_run);
    for letter in std::mem::take(&mut handled.letters) {
        if args.json {
            output::json(&letter)?;
        } else {
            output::line(&show::outcome(&letter, deed));
        }
    }
    if args.json {
        output::json(&handled)?;
    } else {
        output::note(&sum);
    }
    Ok(if handled.refused > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Who is at the keyboard, also behind `sudo`; where no login says so, as in a container, whose process this is.
fn login() -> Option<String> {
    let names = ["SUDO_USER", "LOGNAME", "USER"].into_iter().filter_map(|name| std::env::var(name).ok());
    names.into_iter().find(|name| !name.trim().is_empty()).or_else(owner)
}

fn owner() -> Option<String> {
    let uid = std::fs::metadata("/proc/self").ok()?.uid();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let names = users.lines().filter_map(|user| {
        let mut fields = user.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    });
    Some(names.into_iter().next().unwrap_or_else(|| format!("uid {uid}")))
}

impl Which {
    fn filter(self) -> Filter {
        let Self { workspace, batch_id, matching, topic, since, until } = self;
        Filter { workspace, batch_id, matching, topic, since, until }
    }
}

/// Has it done where the log can be reached, and shows meanwhile how far it is.
async fn ask(at: &Where, order: Order) -> anyhow::Result<Found> {
    let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    let progress = |letters: u64| {
        bar.set_message(format!("{} letters dealt with", HumanCount(letters)));
        bar.tick();
    };
    let place = &at.place;
    if place.is_shared() && at.kafka.kafka.is_some() {
        let tables = cluster::open_scylla(&place.scylla, Arc::new(SystemWorld)).await?;
        let log = on_kafka(at).await?;
        return desk::serve((&*log, &*tables, &SystemWorld), &order, &progress).await;
    }
    if let Some(answer) = control::ask_if_running(place, &Request::DeadLetters(order.clone()), &progress).await? {
        let Answer::DeadLetters(found) = answer else { bail!(control::OTHER_VERSION) };
        return Ok(found);
    }
    let directory = Arc::new(state::lock_existing(&place.data)?);
    if at.kafka.kafka.is_some() {
        let state = State::open(place, Some(&directory)).await?;
        let log = on_kafka(at).await?;
        return desk::serve((&*log, &*state.tables, &SystemWorld), &order, &progress).await;
    }
    let all = BackendArgs { place: place.clone(), kafka: at.kafka.clone(), lanes: None, spread: None };
    let backends = Backends::open(&all, Some(directory)).await?;
    desk::serve((&*backends.log, &*backends.state.tables, &SystemWorld), &order, &progress).await
}

/// Opens the log that is there, and makes none: looked at first, then opened as it is.
async fn on_kafka(at: &Where) -> anyhow::Result<Arc<dyn RecordLog>> {
    let brokers = at.kafka.kafka.clone().unwrap_or_default();
    let seen = cluster::observe_kafka(&at.kafka, &brokers, CONNECTED_WITHIN).await?;
    let partitions = seen.partitions(tributary_backends::log::Topic::Records);
    cluster::open_kafka(&at.kafka, &brokers, Lanes { partitions, spread: 1 }).await
}
