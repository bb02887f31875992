//! Diagnostics go to stderr, what a command has to say to stdout.

use anyhow::Context;
use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How much is said on stderr, and in which form.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct LoggingArgs {
    /// What to log: off, error, warn, info, debug, trace, or by module (`info,tributary_pipeline=debug`)
    /// [default: info for `up`, warn for the others]
    #[arg(long, global = true, env = "TRIBUTARY_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Form of the log lines
    #[arg(long, global = true, env = "TRIBUTARY_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// Libraries whose `info` tells of every snapshot, every table file, every request that is sent again: heard only when
/// named in the filter.
const CHATTY: &str = "fjall=warn,lsm_tree=warn,delta_kernel=warn,delta_kernel_default_engine=warn,object_store=warn,\
                      scylla=off";

/// Starts logging; `quiet` commands log only warnings unless told otherwise.
pub fn start(args: &LoggingArgs, quiet: bool) -> anyhow::Result<()> {
    let wanted = args.log.as_deref().unwrap_or(if quiet { "warn" } else { "info" });
    let filter =
        EnvFilter::try_new(format!("{CHATTY},{wanted}")).with_context(|| format!("--log {wanted}: not a filter"))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    Ok(())
}
