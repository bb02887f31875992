//! A backlog: records in the log that no pipeline has seen. Made by a process of its own, so that neither its work nor
//! its memory is counted.

use crate::{
    Input,
    backends::Place,
    frames,
    messages::{Messages, Order},
};
use anyhow::ensure;
use clap::Args;
use std::path::PathBuf;
use tokio::process::Command;

/// What to put where.
#[derive(Debug, Clone, Args)]
pub struct FillArgs {
    /// Gzipped NDJSON of real messages
    #[arg(long)]
    pub messages: PathBuf,
    #[command(flatten)]
    pub place: Place,
    /// Number of the first record
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// Records in all
    #[arg(long)]
    pub records: u64,
    /// In which order
    #[arg(long, value_enum)]
    pub order: Order,
}

const BATCH: u64 = 1_000;

/// Runs the process and waits for it.
pub async fn fill(input: &Input, place: &Place, first: u64, records: u64, order: Order) -> anyhow::Result<()> {
    let order = clap::ValueEnum::to_possible_value(&order);
    let order = order.as_ref().map(clap::builder::PossibleValue::get_name).unwrap_or_default();
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("fill").arg("--messages").arg(&input.messages);
    place.pass_on(&mut command);
    command.args(["--first", &first.to_string()]);
    let status = command.args(["--records", &records.to_string(), "--order", order]).status().await?;
    ensure!(status.success(), "the backlog could not be made");
    Ok(())
}

/// The process itself.
pub async fn run(args: FillArgs) -> anyhow::Result<()> {
    let messages = Messages::read(&args.messages)?;
    let backends = args.place.open().await?;
    let mut body = Vec::new();
    for first in (0..args.records).step_by(BATCH as usize) {
        body.clear();
        for place in first..(first + BATCH).min(args.records) {
            args.order.write(&messages, args.first + place, args.records, &mut body);
        }
        let batch_id = backends.world.uuid_v7().to_string();
        backends.log.append(frames::batch(&body, &batch_id)?).await?;
    }
    Ok(())
}
