//! `tributary`: the one binary. Each command is a module:
//!
//! | module | commands |
//! |---|---|
//! | [`up`] | `up`: API, pipeline and lake in one process; `serve` and `pipeline`: its halves |
//! | [`backends`] | log, tables and lake, opened from one set of flags; [`cluster`] those on servers |
//! | [`send`] | `send`: the reference client |
//! | [`bench`] | `bench`: synthetic load at a rate, and what it did |
//! | [`batches`] | `batches …`: what the API says about batches |
//! | [`keys`], [`lake`] | commands on embedded state, through [`control`]: in the running process, or in this one |
//! | [`dead_letters`] | `dead-letters …`: what could not be processed, and what is done about it |
//! | [`lag`] | `lag`: what waits, where, since when and for whom; also its metrics |
//! | [`settings`] | flags over environment over file over defaults, and `config`, which shows the result |
//!
//! Exit codes: 0 done, 1 failed, 2 usage.

mod backends;
mod batches;
mod bench;
mod certificates;
mod cli;
mod cluster;
mod control;
mod dead_letters;
mod keys;
mod lag;
mod lake;
mod logging;
mod output;
mod patience;
mod send;
mod settings;
mod state;
mod traces;
mod up;

use anyhow::Context;
use cli::{Cli, Command};
use std::{ffi::OsString, process::ExitCode, time::Duration};
use traces::Traces;
use tributary_backends::memory::{BLOCKING_THREAD_STAYS, give_back_soon};

/// Many short-lived allocations of mixed sizes on several threads: measurably faster than the system's allocator, and
/// it gives memory back after a burst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    give_back_soon();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match settings::parse(&arguments) {
        Ok(cli) => cli,
        Err(settings::ParseError::Usage(error)) => error.exit(),
        Err(settings::ParseError::File(error)) => {
            output::error(&format!("{error:#}"));
            return ExitCode::from(2);
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let _traces = start_telemetry(&cli)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().thread_keep_alive(BLOCKING_THREAD_STAYS);
    let runtime = runtime.build().context("cannot start the runtime")?;
    let code = runtime.block_on(dispatch(cli));
    // A blocking read that nobody waits for any more must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

/// Logs, and what exports traces while it is held: of the commands that run until they are told to stop.
fn start_telemetry(cli: &Cli) -> anyhow::Result<Option<Traces>> {
    let runs = match &cli.command {
        Command::Up(args) => Some((&args.process.traces, "up")),
        Command::Serve(args) => Some((&args.process.traces, "serve")),
        Command::Pipeline(args) => Some((&args.process.traces, "pipeline")),
        _ => None,
    };
    let traces = runs.map_or(Ok(None), |(args, role)| Traces::start(args, role))?;
    logging::start(&cli.logging, runs.is_none(), traces.as_ref())?;
    Ok(traces)
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Up(args) => up::run(args).await,
        Command::Serve(args) => up::serve(args).await,
        Command::Pipeline(args) => up::pipeline(args).await,
        Command::Keys(command) => keys::run(command).await,
        Command::Batches(command) => batches::run(command).await,
        Command::DeadLetters(command) => dead_letters::run(command).await,
        Command::Lag(args) => lag::run(args).await,
        Command::Lake(command) => lake::run(command).await,
        Command::Send(args) => send::run(args).await,
        Command::Bench(args) => bench::run(*args).await,
        Command::Config(args) => settings::explain(&args, cli.config.as_deref()),
    }
}
