//! `land`: from a backlog in the log to committed Delta tables, beside the sum of the parts.

use crate::{
    Input,
    backends::{Backends, lake, scratch},
    fill::fill,
    land_parts,
    measure::{Cost, Process, Span},
    messages::Order,
    report::{Row, progress},
};
use anyhow::ensure;
use std::{path::Path, time::Duration};
use tokio_util::sync::CancellationToken;
use tributary_pipeline::{Config, Pipeline, drained};

/// What may be used for a million records.
const TARGET_CPU: f64 = 10.0;
const TARGET_RATIO: f64 = 2.0;
/// How often the pipeline is asked whether it is done, which is a look at a few numbers in memory.
const LOOK: Duration = Duration::from_millis(20);

/// Measures the pipeline on a backlog in this order, then its parts on the same backlog.
pub async fn run(input: &Input, records: u64, order: Order) -> anyhow::Result<Vec<Row>> {
    let dir = scratch(input.scratch.as_deref())?;
    let name = format!("land, {}", describe(order));
    progress(&format!("{name}: making the backlog"));
    fill(input, dir.path(), records, order).await?;
    progress(&format!("{name}: the whole"));
    let (cost, landed) = drain(dir.path()).await?;
    let peak = Process::this().peak_mb()?;
    let ended: u64 = landed.iter().map(|(_, count)| count).sum();
    ensure!(ended == records, "of {records} records came to an end: {landed:?}");
    progress(&format!("{name}: {landed:?}"));
    progress(&format!("{name}: the parts"));
    let parts = land_parts::measure(dir.path(), records).await?;
    let sum: f64 = parts.iter().map(Row::cpu_per_million).sum();
    let row = Row::new(name).cost(records, cost).peak_mb(peak).parts(sum);
    let (cpu, ratio) = (row.cpu_per_million(), row.times_parts().unwrap_or_default());
    let row = row.target("≤ 10 CPU-s", cpu <= TARGET_CPU).target("≤ 2 × parts", ratio <= TARGET_RATIO);
    Ok(std::iter::once(row).chain(parts).collect())
}

/// Runs the pipeline until nothing is left; what it took, and how many records ended in which outcome.
pub async fn drain(dir: &Path) -> anyhow::Result<(Cost, Vec<(&'static str, u64)>)> {
    let Backends { log, tables, world } = Backends::open(dir)?;
    let lake = lake(dir, world.clone())?;
    let span = Span::start(Process::this())?;
    let pipeline = Pipeline::new(log.clone(), tables, lake, world, Config::default(), &mut Default::default());
    let (metrics, health, stop) = (pipeline.metrics(), pipeline.health(), CancellationToken::new());
    let running = tokio::spawn(pipeline.run(stop.clone()));
    while !drained(&*log).await? {
        health.check().map_err(anyhow::Error::msg)?;
        tokio::time::sleep(LOOK).await;
    }
    let cost = span.cost()?;
    stop.cancel();
    running.await??;
    let outcomes = ["landed", "overwritten", "unchanged", "dead_lettered"];
    Ok((cost, outcomes.map(|outcome| (outcome, metrics.records(outcome))).to_vec()))
}

fn describe(order: Order) -> &'static str {
    match order {
        Order::Once => "nothing overwritten",
        Order::Again => "5 % overwritten in order",
        Order::Scattered => "5 % overwritten at random",
        Order::Dates => "every record on another date",
    }
}
