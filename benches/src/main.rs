//! Measures what Tributary promises: `cargo run --release -p tributary-benches -- accept --messages FILE.ndjson.gz`.
//!
//! Every command prints one table. CPU seconds are those of the whole process that is measured, user and system time
//! together, as the kernel counts them; whatever makes the load runs in another process. Parts are measured in the same
//! run as the whole, so that a busy machine slows both.

mod accept;
mod backends;
mod failover;
mod fill;
mod fleet;
mod frames;
mod freshness;
mod gaps;
mod index;
mod land;
mod land_parts;
mod load;
mod measure;
mod messages;
mod report;
mod rounds;
mod telemetry;
mod up;
mod whole;
mod worst;

use backends::{Place, Servers};
use clap::{Args, Parser, Subcommand};
use messages::Order;
use std::path::PathBuf;
use tributary_backends::memory::{BLOCKING_THREAD_STAYS, give_back_soon};

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
    /// Where log, tables and lake are
    #[command(flatten)]
    pub servers: Servers,
}

/// What is measured as a whole.
#[derive(Debug, Clone, Args)]
pub struct Binary {
    /// The release build of `tributary`
    #[arg(long, default_value = "target/release/tributary")]
    pub binary: PathBuf,
}

/// How often it is measured.
#[derive(Debug, Clone, Copy, Args)]
pub struct Rounds {
    /// Measure so many times and print the median
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bodies over HTTP until they are durable, beside the sum of the parts
    Accept {
        #[command(flatten)]
        input: Input,
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
        /// Records per second of the whole; without it as fast as the answers come
        #[arg(long)]
        rate: Option<u64>,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// From a backlog in the log to committed Delta tables, beside the sum of the parts
    Land {
        #[command(flatten)]
        input: Input,
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
        #[arg(long, value_enum, default_value_t = Order::Again)]
        order: Order,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// The real binary: from the first request until everything has landed
    Both {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        binary: Binary,
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
    },
    /// The real binary: from a batch's 202 until DuckDB shows it, at 2,000 records/s
    Freshness {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        binary: Binary,
        #[command(flatten)]
        duck: freshness::DuckArgs,
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// The real binary: peak memory with the largest bodies from 64 clients at once, beside a backlog
    Memory {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        binary: Binary,
        /// Records in the log at the start
        #[arg(long, default_value_t = 300_000)]
        backlog: u64,
    },
    /// The real binary: what it needs when nobody asks anything of it; `serve` and `pipeline` when all is on servers
    Idle {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        binary: Binary,
        /// Lanes of the processes on servers
        #[arg(long, default_value_t = 64)]
        lanes: u32,
    },
    /// Real processes on Kafka, ScyllaDB and an object store: what the lanes do when one joins, leaves and is killed
    Failover {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        binary: Binary,
        #[command(flatten)]
        sizes: failover::Sizes,
    },
    /// The real binary with logs, traces and scrapes, beside one without
    Telemetry {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        binary: Binary,
        #[command(flatten)]
        sending: telemetry::Sending,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Landing, and restarting, on a table with many keys
    Index {
        #[command(flatten)]
        input: Input,
        #[arg(long, default_value_t = 1_000_000)]
        small: u64,
        #[arg(long, default_value_t = 10_000_000)]
        large: u64,
    },
    /// Landing when every record is on another date
    Worst {
        #[command(flatten)]
        input: Input,
        #[arg(long, default_value_t = 50_000)]
        records: u64,
    },
    /// What lands a backlog, started by the others
    #[command(hide = true)]
    Drain {
        #[command(flatten)]
        place: Place,
        /// How many records are to come to an end
        #[arg(long)]
        records: u64,
    },
    /// The load generator, started by the others
    #[command(hide = true)]
    Load(load::LoadArgs),
    /// What makes a backlog, started by the others
    #[command(hide = true)]
    Fill(fill::FillArgs),
}

fn main() -> anyhow::Result<()> {
    give_back_soon();
    // As in the binary.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().thread_keep_alive(BLOCKING_THREAD_STAYS).build()?.block_on(run(Cli::parse().command))
}

async fn run(command: Command) -> anyhow::Result<()> {
    let rows = match command {
        Command::Accept { input, records, rate, rounds: Rounds { rounds } } => {
            accept::run(&input, records, rate, rounds).await?
        }
        Command::Land { input, records, order, rounds: Rounds { rounds } } => {
            land::run(&input, records, order, rounds).await?
        }
        Command::Both { input, binary, records } => whole::both(&input, &binary, records).await?,
        Command::Freshness { input, binary, duck, seconds } => freshness::run(&input, &binary, &duck, seconds).await?,
        Command::Memory { input, binary, backlog } => whole::memory(&input, &binary, backlog).await?,
        Command::Idle { input, binary, lanes } if input.servers.shared() => {
            whole::idle_halves(&input, &binary, lanes).await?
        }
        Command::Idle { input, binary, .. } => whole::idle(&input, &binary).await?,
        Command::Failover { input, binary, sizes } => failover::run(&input, &binary, sizes).await?,
        Command::Telemetry { input, binary, sending, rounds: Rounds { rounds } } => {
            telemetry::run(&input, &binary, sending, rounds).await?
        }
        Command::Index { input, small, large } => index::run(&input, small, large).await?,
        Command::Worst { input, records } => worst::run(&input, records).await?,
        Command::Drain { place, records } => return land::drain(&place, records).await,
        Command::Load(args) => return load::run(args).await,
        Command::Fill(args) => return fill::run(args).await,
    };
    report::print(&rows);
    Ok(())
}
