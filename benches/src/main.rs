//! Measures what Tributary promises: `cargo run --release -p tributary-benches -- accept --messages FILE.ndjson.gz`.
//!
//! Every command prints one table. CPU seconds are those of the whole process that is measured, user and system time
//! together, as the kernel counts them; whatever makes the load runs in another process. Parts are measured in the same
//! run as the whole, so that a busy machine slows both.

mod accept;
mod backends;
mod fill;
mod frames;
mod land;
mod land_parts;
mod load;
mod measure;
mod messages;
mod report;

use clap::{Args, Parser, Subcommand};
use messages::Order;
use std::path::PathBuf;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Benchmarks of Tributary.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What every measurement needs.
#[derive(Debug, Clone, Args)]
pub struct Input {
    /// Gzipped NDJSON of real messages
    #[arg(long)]
    pub messages: PathBuf,
    /// Where directories for data are made; on the disk to be measured [default: the system's temporary directory]
    #[arg(long)]
    pub scratch: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bodies over HTTP until they are durable, beside the sum of the parts
    Accept {
        #[command(flatten)]
        input: Input,
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
    },
    /// From a backlog in the log to committed Delta tables, beside the sum of the parts
    Land {
        #[command(flatten)]
        input: Input,
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
        #[arg(long, value_enum, default_value_t = Order::Again)]
        order: Order,
    },
    /// The load generator, started by the others
    #[command(hide = true)]
    Load(load::LoadArgs),
    /// What makes a backlog, started by the others
    #[command(hide = true)]
    Fill(fill::FillArgs),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rows = match Cli::parse().command {
        Command::Accept { input, records } => accept::run(&input, records).await?,
        Command::Land { input, records, order } => land::run(&input, records, order).await?,
        Command::Load(args) => return load::run(args).await,
        Command::Fill(args) => return fill::run(args).await,
    };
    report::print(&rows);
    Ok(())
}
