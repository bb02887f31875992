//! `send`: the reference client. Files or stdin → batches that respect the limits → accepted, or told apart.
//!
//! A record's way:
//!
//! 1. [`input`]: a file or stdin, decompressed by its first bytes.
//! 2. [`split`]: the stream → the text of each record; lines or documents, in bounded memory.
//! 3. [`route`]: type, product, identity; read by the code that the server uses.
//! 4. [`plan`]: batches of one type and product within the limits. Deterministic, so that a killed run can go on.
//! 5. [`window`]: which batches may be on the way together, so that versions of one record stay in order.
//! 6. [`client`] and [`retry`]: one batch → one answer, under one `Idempotency-Key`, however many tries that takes.
//! 7. [`rejected`]: rejected records to a file that can be corrected and sent again, and why beside it.
//! 8. [`journal`]: the batch is done; a run that goes on skips it.
//!
//! [`read`] does 1–4 on a thread of its own, [`run`] the rest; [`progress`] shows it.
//!
//! Exit codes: 0 every record is accepted, 1 some were rejected or the run failed (`--json` tells which), 2 usage.

pub mod client;
mod input;
mod journal;
mod plan;
mod progress;
mod read;
mod rejected;
mod retry;
mod route;
mod run;
mod split;
mod wait;
mod window;

use anyhow::Context;
use clap::builder::BoolishValueParser;
use input::Input;
use journal::{Job, Journal, Proposal};
use plan::Limits;
use progress::{Progress, Summary};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tributary_backends::world::{SystemWorld, World};
use tributary_schemas::limits;
use url::Url;

const EXAMPLES: &str = "Examples:
  tributary send messages.ndjson.gz --key em_sk_0123
  zcat export.json.gz | tributary send - --wait
  tributary send day-*.ndjson.zst --parallel 8 --json

A run that was interrupted goes on where it stopped when the same command is given again: nothing is
sent twice. Rejected records go to FILE.rejected.ndjson, ready to be corrected and sent again, and what
is wrong with them, line by line, to FILE.rejected.errors.ndjson.
Exit codes: 0 every record is accepted, 1 some were rejected or the run failed (--json tells which), 2 usage.";

/// Send records: NDJSON, JSON, gzip or zstd of them, from files or stdin.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct SendArgs {
    /// Files; `-` is stdin. One record per line, one record, an array, or {"records":[…]}; plain, gzip or zstd
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Address of the API
    #[arg(long, env = "TRIBUTARY_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: Url,
    /// API key with the permission api:write
    #[arg(long, env = "TRIBUTARY_KEY", hide_env_values = true, value_name = "KEY")]
    pub key: String,
    /// Requests on the way at the same time
    #[arg(long, env = "TRIBUTARY_PARALLEL", default_value_t = 4, value_name = "N", value_parser = at_least_one)]
    pub parallel: usize,
    /// Compression of requests; auto: none to this machine, zstd to others
    #[arg(long, env = "TRIBUTARY_COMPRESS", value_enum, default_value = "auto", value_name = "HOW")]
    pub compress: client::Compression,
    /// How records stand in the files, when looking at them would mislead
    #[arg(long, env = "TRIBUTARY_FORM", value_enum, value_name = "FORM")]
    pub form: Option<FormArg>,
    /// Records in a batch, at most
    #[arg(long, env = "TRIBUTARY_BATCH_RECORDS", default_value_t = limits::MAX_BATCH_RECORDS, value_name = "N", value_parser = at_least_one)]
    pub batch_records: usize,
    /// Bytes of a request's body before compression, at most
    #[arg(long, env = "TRIBUTARY_BATCH_BYTES", default_value_t = limits::MAX_BODY_BYTES, value_name = "BYTES", value_parser = at_least_one)]
    pub batch_bytes: usize,
    /// Seconds to go on trying after a batch's first failure
    #[arg(long, env = "TRIBUTARY_RETRY_FOR", default_value_t = 600, value_name = "SECONDS")]
    pub retry_for: u64,
    /// Seconds to wait for an answer before trying again
    #[arg(long, env = "TRIBUTARY_TIMEOUT", default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
    /// Where rejected records go; what is wrong with them goes beside it [default: <FILE>.rejected.ndjson]
    #[arg(long, env = "TRIBUTARY_REJECTED", value_name = "FILE")]
    pub rejected: Option<PathBuf>,
    /// What a killed run needs to go on [default: in ~/.local/state/tributary/send; none for stdin]
    #[arg(long, env = "TRIBUTARY_STATE", value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Send everything, even what an interrupted run has sent already
    #[arg(long, env = "TRIBUTARY_FRESH", value_parser = BoolishValueParser::new())]
    pub fresh: bool,
    /// Wait until every batch is COMPLETE, that is: in the lake
    #[arg(long, env = "TRIBUTARY_WAIT", value_parser = BoolishValueParser::new())]
    pub wait: bool,
    /// Print the summary as JSON
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// No progress
    #[arg(long, short, env = "TRIBUTARY_QUIET", value_parser = BoolishValueParser::new())]
    pub quiet: bool,
}

impl SendArgs {
    fn target(&self) -> client::Target {
        client::Target {
            url: self.url.clone(),
            key: self.key.clone(),
            compression: self.compress,
            parallel: self.parallel,
            timeout: Duration::from_secs(self.timeout),
            retry_for: Duration::from_secs(self.retry_for),
        }
    }
}

/// How records stand in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FormArg {
    /// One per line
    Ndjson,
    /// JSON documents
    Json,
}

impl From<FormArg> for split::Form {
    fn from(form: FormArg) -> Self {
        match form {
            FormArg::Ndjson => Self::Lines,
            FormArg::Json => Self::Documents,
        }
    }
}

/// For clap.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be a number, at least 1".to_owned())
}

/// Runs the command.
///
/// # Errors
/// Only what goes wrong before the first request; everything after that is told in the summary.
pub async fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    if let Some(reason) = misuse(&args) {
        print(&mut std::io::stderr(), &format!("error: {reason}"));
        return Ok(ExitCode::from(2));
    }
    let stop = CancellationToken::new();
    let client = client::Client::new(args.target(), stop.clone())?;
    let journal = open_journal(&args)?;
    let progress = Progress::new(total_size(&args), args.quiet);
    if journal.len() > 0 {
        progress
            .note(&format!("going on where an interrupted run stopped: {} batches are acknowledged", journal.len()));
    }
    let watcher = tokio::spawn(stop_on_signal(stop));
    let summary = run::Run::new(&args, client, journal, progress).send_everything().await;
    watcher.abort();
    report(&args, &summary)
}

/// What no run can begin with.
fn misuse(args: &SendArgs) -> Option<String> {
    let stdins = args.files.iter().filter(|path| path.as_os_str() == "-").count();
    if stdins > 1 {
        return Some("stdin (`-`) can be read once only".to_owned());
    }
    for path in args.files.iter().filter(|path| path.as_os_str() != "-") {
        if let Err(error) = std::fs::metadata(path) {
            return Some(format!("cannot read {}: {error}", path.display()));
        }
    }
    let same = |path: &&PathBuf| {
        let full = |path: &Path| std::fs::canonicalize(path).ok();
        let outputs = args.rejected.iter().flat_map(|path| [path.clone(), rejected::errors_path(path)]);
        outputs.into_iter().any(|output| full(&output).is_some() && full(&output) == full(path))
    };
    let clash = args.files.iter().find(same)?;
    Some(format!("--rejected would overwrite the input {}", clash.display()))
}

fn open_journal(args: &SendArgs) -> anyhow::Result<Journal> {
    let inputs: Vec<Input> = args.files.iter().map(|path| Input::named(path)).collect();
    let fingerprints: Vec<String> = inputs
        .iter()
        .map(|input| input.fingerprint().with_context(|| format!("cannot read {}", input.name())))
        .collect::<anyhow::Result<_>>()?;
    let mut random = [0; 12];
    SystemWorld.fill_random(&mut random);
    let run: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let (path, fresh) = match &args.state {
        Some(path) => (path.clone(), args.fresh),
        // What comes through a pipe is gone when the run is killed: unless a state file is named, nothing to go on from.
        None if inputs.contains(&Input::Stdin) => (std::env::temp_dir().join(format!("tributary-send-{run}")), true),
        None => (default_state(args, &inputs), args.fresh),
    };
    let rejected = args.rejected.clone().unwrap_or_else(|| rejected::default_path(&args.files));
    let job = Job { format: 1, url: args.url.to_string(), inputs: fingerprints, limits: batch_limits(args) };
    let proposal = Proposal { run, rejected: std::path::absolute(&rejected).context("--rejected cannot be used")? };
    Ok(Journal::open(&path, job, proposal, fresh)?)
}

fn batch_limits(args: &SendArgs) -> Limits {
    Limits { records: args.batch_records, bytes: args.batch_bytes, ..Limits::default() }
}

/// One state file for each address and list of inputs, where programs keep their state.
fn default_state(args: &SendArgs, inputs: &[Input]) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    hasher.update(args.url.as_str().as_bytes());
    for input in inputs {
        let Input::File(path) = input else { continue };
        let full = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        hasher.update(b"\0").update(full.as_os_str().as_encoded_bytes());
    }
    let home = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    let name = format!("{}.journal", &hasher.finalize().to_hex()[..16]);
    home.unwrap_or_else(|| PathBuf::from(".")).join("tributary/send").join(name)
}

fn total_size(args: &SendArgs) -> Option<u64> {
    args.files.iter().map(|path| Input::named(path).size()).sum()
}

/// The first signal lets what is on the way come to its end, the second ends the process at once.
pub async fn stop_on_signal(stop: CancellationToken) {
    signal().await;
    stop.cancel();
    signal().await;
    std::process::exit(1);
}

/// Until Ctrl-C or a request to end.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

fn report(args: &SendArgs, summary: &Summary) -> anyhow::Result<ExitCode> {
    if args.json {
        print(&mut std::io::stdout(), &serde_json::to_string(summary)?);
    } else {
        summary.lines().iter().for_each(|line| print(&mut std::io::stdout(), line));
    }
    if let Some(error) = &summary.error {
        print(&mut std::io::stderr(), &format!("error: {error}"));
    }
    Ok(if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A reader that went away (`… | head`) is no error of ours.
fn print(out: &mut dyn Write, text: &str) {
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
