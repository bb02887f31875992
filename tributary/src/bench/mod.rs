//! `bench`: load on purpose, so that operators can size what they run.
//!
//! 1. [`workload`]: request number → records. Deterministic, in constant memory.
//! 2. [`schedule`]: request number → the moment at which it is due.
//! 3. [`make`]: request number → the bytes to send, ahead of that moment.
//! 4. [`drive`]: a fixed number of connections sends each when it is due, with the client of `send`.
//! 5. [`tally`]: what came back, and the times; [`lag`]: how far the lake fell behind.
//! 6. [`report`]: the whole, for people and scripts.
//!
//! Exit codes: 0 every record that was due is accepted, 1 some were not, 2 usage.

mod drive;
mod lag;
mod make;
mod report;
mod schedule;
mod tally;
mod workload;

use crate::{
    cli::duration,
    output,
    send::{
        at_least_one,
        client::{Client, Compression, Target},
        stop_on_signal,
    },
};
use anyhow::Context;
use clap::builder::BoolishValueParser;
use drive::{Drive, Plan};
use indicatif::{ProgressBar, ProgressFinish};
use lag::Lag;
use report::Report;
use schedule::Schedule;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tributary_backends::world::{SystemWorld, World};
use url::Url;
use workload::Workload;

const EXAMPLES: &str = "Examples:
  tributary bench --key em_sk_0123
  tributary bench --rate 5000 --size 2000 --duration 5m --admin http://127.0.0.1:9090
  tributary bench --rate 20000 --batch 500 --overwrites 0.05 --dates 30 --connections 32
  tributary bench --rate 0 --duration 30s --keys keys.ndjson --json

Requests leave when they are due by --rate, whatever became of those before, and latency counts from
that moment: a target that stalls cannot make its figures better by holding the load up. When it does not
keep up, records are late, and then not sent: the report says how many. Raise --rate until that happens,
or until lag or freshness is not what you promise; that is what the target can do.
A workspace for each key: make keys with `tributary keys create --workspace W … --json >> keys.ndjson`, and
give them as --keys FILE, or as several --key. Every request counts against its key's rate limit, those that
watch batches until they are in the lake too (ten of them begin in a second): give keys a limit of their own, or the target --rate-limit 0.
Records stay in the lake: use workspaces that you can do without. A run with the --seed of an earlier one
sends the same records again, which then change nothing.
Exit codes: 0 every record that was due is accepted, 1 some were not, 2 usage.";

/// Send synthetic records at a rate, and report throughput, latency, lag and freshness.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Address of the API
    #[arg(long, env = "TRIBUTARY_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: Url,
    /// API keys with the permission api:write, one for each workspace
    #[arg(long, env = "TRIBUTARY_KEY", hide_env_values = true, value_delimiter = ',', value_name = "KEY")]
    pub key: Vec<String>,
    /// A file with keys, one on a line: plain, or as `keys create --json` prints them
    #[arg(long, env = "TRIBUTARY_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Records per second of all workspaces together; 0: as fast as it goes
    #[arg(long, env = "TRIBUTARY_RATE", default_value_t = 1_000, value_name = "N")]
    pub rate: u64,
    /// How long requests are due for
    #[arg(long, env = "TRIBUTARY_DURATION", default_value = "1m", value_parser = duration, value_name = "DURATION")]
    pub duration: Duration,
    /// Bytes of a record
    #[arg(long, env = "TRIBUTARY_SIZE", default_value_t = 1_000, value_name = "BYTES")]
    pub size: usize,
    /// Records in a request
    #[arg(long, env = "TRIBUTARY_BATCH", default_value_t = 100, value_name = "N", value_parser = at_least_one)]
    pub batch: usize,
    /// Share of records that are later versions of earlier ones, 0 to 1
    #[arg(long, env = "TRIBUTARY_OVERWRITES", default_value_t = 0.0, value_name = "SHARE")]
    pub overwrites: f64,
    /// Dates that the records are spread over, the last one 2025-01-01
    #[arg(long, env = "TRIBUTARY_DATES", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pub dates: u64,
    /// Requests on the way at the same time, at most
    #[arg(long, env = "TRIBUTARY_CONNECTIONS", default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub connections: u64,
    /// The same records for the same number [default: another one each time]
    #[arg(long, env = "TRIBUTARY_SEED", value_name = "N")]
    pub seed: Option<u64>,
    /// Admin address of a process of the target that has lanes, to see the lag of the lake
    #[arg(long, env = "TRIBUTARY_ADMIN", value_name = "URL")]
    pub admin: Option<Url>,
    /// Compression of requests; auto: none to this machine, zstd to others
    #[arg(long, env = "TRIBUTARY_COMPRESS", value_enum, default_value = "auto", value_name = "HOW")]
    pub compress: Compression,
    /// To make up for what is late when the duration is over
    #[arg(long, env = "TRIBUTARY_OVERTIME", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub overtime: Duration,
    /// For a watched batch to be in the lake
    #[arg(long, env = "TRIBUTARY_LANDING", default_value = "1m", value_parser = duration, value_name = "DURATION")]
    pub landing: Duration,
    /// Seconds to go on trying after a request's first failure
    #[arg(long, env = "TRIBUTARY_RETRY_FOR", default_value_t = 30, value_name = "SECONDS")]
    pub retry_for: u64,
    /// Seconds to wait for an answer before trying again
    #[arg(long, env = "TRIBUTARY_TIMEOUT", default_value_t = 60, value_name = "SECONDS")]
    pub timeout: u64,
    /// Print the report as JSON
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// No progress
    #[arg(long, short, env = "TRIBUTARY_QUIET", value_parser = BoolishValueParser::new())]
    pub quiet: bool,
}

/// Runs the command.
///
/// # Errors
/// Only what goes wrong before the first request; everything after that is told in the report.
pub async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let mut keys = args.key.clone();
    if let Some(path) = &args.keys {
        keys.extend(read_keys(path)?);
    }
    let workload = workload(&args, keys.len());
    if let Some(reason) = misuse(&args, &workload) {
        output::error(&reason);
        return Ok(ExitCode::from(2));
    }
    let (stop, loaded) = (CancellationToken::new(), CancellationToken::new());
    let drive = Drive::new(plan(&args, &keys, workload, &stop)?, stop.clone())?;
    let watcher = tokio::spawn(stop_on_signal(stop));
    let lag = args.admin.clone().map(|admin| tokio::spawn(Lag::follow(admin, loaded.clone())));
    let progress = (!args.quiet).then(|| tokio::spawn(show(Arc::clone(&drive))));
    let outcome = drive.run(loaded).await?;
    watcher.abort();
    if let Some(progress) = progress {
        progress.abort();
        let _ = progress.await;
    }
    let lag = match lag {
        Some(task) => Some(task.await.context("the lag was not seen to the end")?),
        None => None,
    };
    say(&Report::new(&workload, args.rate, outcome, lag), args.json)
}

fn workload(args: &BenchArgs, workspaces: usize) -> Workload {
    Workload {
        seed: args.seed.unwrap_or_else(random),
        size: args.size,
        overwrites: args.overwrites,
        dates: args.dates,
        batch: args.batch,
        workspaces,
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    SystemWorld.fill_random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// What no run can begin with.
fn misuse(args: &BenchArgs, workload: &Workload) -> Option<String> {
    if workload.workspaces == 0 {
        return Some("no key: give --key or TRIBUTARY_KEY, or --keys FILE; see --help".to_owned());
    }
    if args.duration.is_zero() {
        return Some("--duration 0: nothing would be sent".to_owned());
    }
    if let Some(admin) = args.admin.as_ref().filter(|url| url.scheme() != "http" || !url.has_host()) {
        return Some(format!("--admin {admin} is not an http:// address"));
    }
    workload.misuse()
}

/// A key on each line that is not blank: plain, or JSON with the member `key`.
fn read_keys(path: &Path) -> anyhow::Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Created {
        key: String,
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read --keys {}", path.display()))?;
    let key = |(number, line): (usize, &str)| match line.starts_with('{') {
        true => serde_json::from_str(line).map(|created: Created| created.key).with_context(|| {
            format!("line {} of {} is not what `keys create --json` prints", number + 1, path.display())
        }),
        false => Ok(line.to_owned()),
    };
    text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()).map(key).collect()
}

fn plan(args: &BenchArgs, keys: &[String], workload: Workload, stop: &CancellationToken) -> anyhow::Result<Plan> {
    let connections = usize::try_from(args.connections)?;
    let client = |key: &String| {
        let target = Target {
            url: args.url.clone(),
            key: key.clone(),
            compression: args.compress,
            parallel: connections,
            timeout: Duration::from_secs(args.timeout),
            retry_for: Duration::from_secs(args.retry_for),
        };
        Client::new(target, stop.clone())
    };
    Ok(Plan {
        workload,
        schedule: Schedule::new(args.rate, args.batch as u64, args.duration),
        clients: keys.iter().map(client).collect::<anyhow::Result<_>>()?,
        connections,
        overtime: args.overtime,
        landing: args.landing,
        nonce: format!("{:016x}", random()),
    })
}

/// Goes on until it is aborted. Shows nothing where stderr is no terminal.
async fn show(drive: Arc<Drive>) {
    let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    let begun = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let line = {
            let tally = drive.tally();
            let (seconds, times) = (begun.elapsed().as_secs_f64(), tally.from_due.percentiles());
            format!(
                "{seconds:.0} s: {} records accepted, {:.0}/s; to the answer p50 {:.1} ms, p99 {:.1} ms",
                tally.accepted,
                tally.accepted as f64 / seconds,
                times.p50,
                times.p99
            )
        };
        bar.set_message(line);
        bar.tick();
    }
}

fn say(report: &Report, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        output::json(report)?;
    } else {
        report.lines().iter().for_each(|line| output::line(line));
    }
    if let Some(error) = &report.error {
        output::error(&format!("ended, because no request can succeed: {error}"));
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plain_or_what_create_prints() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys");
        std::fs::write(&path, "em_sk_a\n\n{\"id\":\"1\",\"key\":\"em_sk_b\",\"workspace\":\"w\"}\n").expect("a file");
        assert_eq!(read_keys(&path).expect("keys"), ["em_sk_a", "em_sk_b"]);
        std::fs::write(&path, "em_sk_a\n{\"id\":1}").expect("a file");
        assert!(format!("{:#}", read_keys(&path).expect_err("no key")).contains("line 2"));
    }
}
