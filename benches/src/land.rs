//! `land`: from a backlog in the log to committed Delta tables, beside the sum of the parts.

use crate::{
    Input,
    backends::{Backends, Place, scratch},
    fill::fill,
    land_parts,
    measure::{Cost, Process, Span, touch_memory},
    messages::Order,
    report::{Row, progress},
    rounds::median,
};
use anyhow::ensure;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tributary_pipeline::{Config, Pipeline, drained};

/// What may be used for a million records.
const TARGET_CPU: f64 = 10.0;
/// The same on servers.
const TARGET_CPU_SERVERS: f64 = 20.0;
const TARGET_RATIO: f64 = 2.0;
/// How often the pipeline is asked whether it is done, which is a look at a few numbers in memory.
const LOOK: Duration = Duration::from_millis(20);

/// Measures the pipeline on a backlog in this order `rounds` times, each on a backlog of its own, then its parts on the
/// last one.
pub async fn run(input: &Input, records: u64, order: Order, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let name = format!("land, {}", describe(order));
    let mut wholes = Vec::new();
    let mut dir = scratch(input)?;
    for round in 1..=rounds.max(1) {
        if round > 1 {
            dir = scratch(input)?;
        }
        progress(&format!("{name}: making the backlog, round {round}"));
        fill(input, &dir.place, 0, records, order).await?;
        progress(&format!("{name}: the whole, round {round}"));
        let drained = drain_in_child(&dir.place, records).await?;
        progress(&format!("{name}: {:?}", drained.outcomes));
        wholes.push(drained);
    }
    let Drained { cost, peak_mb, .. } = median(wholes, |drained| drained.cost)?;
    progress(&format!("{name}: the parts"));
    let parts = land_parts::measure(&dir.place, records).await?;
    let sum: f64 = parts.iter().map(Row::cpu_per_million).sum();
    let row = Row::new(name).cost(records, cost).peak_mb(peak_mb).parts(sum);
    let (cpu, ratio) = (row.cpu_per_million(), row.times_parts().unwrap_or_default());
    let most = if input.servers.has_kafka() { TARGET_CPU_SERVERS } else { TARGET_CPU };
    let row = row.target(&format!("≤ {most} CPU-s"), cpu <= most).target("≤ 2 × parts", ratio <= TARGET_RATIO);
    Ok(std::iter::once(row).chain(parts).collect())
}

/// What landing a backlog took.
#[derive(Debug, Serialize, Deserialize)]
pub struct Drained {
    pub cost: Cost,
    pub peak_mb: f64,
    /// How many records ended in which outcome.
    pub outcomes: Vec<(String, u64)>,
    /// What it took until the first of them had, and how many had then: a start reads the table's keys first.
    pub begun: (Cost, u64),
}

impl Drained {
    /// What the records took that came to an end once the pipeline was at work, and how many they were.
    pub fn at_work(&self) -> (Cost, u64) {
        let (cost, records) = self.begun;
        (self.cost - cost, self.outcomes.iter().map(|(_, count)| count).sum::<u64>() - records)
    }
}

const OUTCOMES: [&str; 4] = ["landed", "overwritten", "unchanged", "dead_lettered"];

/// Lands the backlog in `place` in a process of its own, so that its memory can be told from everything else's.
pub async fn drain_in_child(place: &Place, records: u64) -> anyhow::Result<Drained> {
    touch_memory(&place.dir)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("drain").args(["--records", &records.to_string()]);
    place.pass_on(&mut command);
    let child = command.output().await?;
    ensure!(child.status.success(), "landing failed: {}", String::from_utf8_lossy(&child.stderr));
    let drained: Drained = serde_json::from_slice(&child.stdout)?;
    let ended: u64 = drained.outcomes.iter().map(|(_, count)| count).sum();
    ensure!(ended == records, "of {records} records came to an end: {drained:?}");
    Ok(drained)
}

/// The process itself: runs the pipeline until so many records came to an end and nothing is left.
#[expect(clippy::print_stdout, reason = "its standard output is the pipe to the process that started it")]
pub async fn drain(place: &Place, records: u64) -> anyhow::Result<()> {
    let span = Span::start(Process::this())?;
    let Backends { log, tables, world } = place.open().await?;
    let lake = place.lake(world.clone())?;
    let pipeline = Pipeline::new(log.clone(), tables, lake, world, Config::default(), &mut Default::default());
    let (metrics, health, stop) = (pipeline.metrics(), pipeline.health(), CancellationToken::new());
    let running = tokio::spawn(pipeline.run(stop.clone()));
    let ended = || OUTCOMES.map(|outcome| metrics.records(outcome)).into_iter().sum::<u64>();
    let mut begun = None;
    while ended() < records || !drained(&*log).await? {
        health.check().map_err(anyhow::Error::msg)?;
        if begun.is_none() && ended() > 0 {
            begun = Some((span.cost()?, ended()));
        }
        tokio::time::sleep(LOOK).await;
    }
    let (cost, peak_mb) = (span.cost()?, Process::this().peak_mb()?);
    stop.cancel();
    running.await??;
    let begun = begun.unwrap_or((cost, ended()));
    let outcomes = OUTCOMES.map(|outcome| (outcome.to_owned(), metrics.records(outcome))).to_vec();
    println!("{}", serde_json::to_string(&Drained { cost, peak_mb, outcomes, begun })?);
    Ok(())
}

fn describe(order: Order) -> &'static str {
    match order {
        Order::Once => "nothing overwritten",
        Order::Again => "5 % overwritten in order",
        Order::Scattered => "5 % overwritten at random",
        Order::Dates => "every record on another date",
    }
}
