//! `both`, `memory` and `idle`: the real binary as a whole.

use crate::{
    Binary, Input,
    backends::scratch,
    fill::fill,
    fleet::Fleet,
    load::{Load, LoadArgs},
    measure::Span,
    messages::Order,
    report::{Row, progress},
    up::Up,
};
use anyhow::Context;
use std::time::Duration;

const MEMORY_MB: f64 = 512.0;
const IDLE_MB: f64 = 100.0;
/// Of one process of several.
const IDLE_HALF_MB: f64 = 150.0;
const IDLE: Duration = Duration::from_secs(30);
/// The largest load: so many clients at once with bodies of the largest size.
const CLIENTS: usize = 64;
const LARGEST_BODY: usize = 5 * 1024 * 1024;
const BODIES: u64 = 256;

/// From the first request until nothing is left to land.
pub async fn both(input: &Input, binary: &Binary, records: u64) -> anyhow::Result<Vec<Row>> {
    let dir = scratch(input)?;
    let up = Up::start(binary, &dir.place).await?;
    let load = Load::start(&LoadArgs::new(input, &up, records)?).await?;
    progress("both: sending");
    let span = Span::start(up.process())?;
    let sent = load.run().await?;
    let accepted = span.cost()?;
    progress("both: landing the rest");
    up.wait(records).await?;
    let all = span.cost()?;
    progress(&format!("both: {sent:?}"));
    let peak = up.process().peak_mb()?;
    Ok(vec![
        Row::new("both, until everything was accepted").cost(records, accepted),
        Row::new("both, until everything had landed")
            .cost(records, all)
            .peak_mb(peak)
            .target("< 512 MB", peak < MEMORY_MB),
    ])
}

/// Peak memory while the largest bodies come in beside a backlog.
pub async fn memory(input: &Input, binary: &Binary, backlog: u64) -> anyhow::Result<Vec<Row>> {
    let dir = scratch(input)?;
    progress("memory: making the backlog");
    fill(input, &dir.place, 0, backlog, Order::Scattered).await?;
    let up = Up::start(binary, &dir.place).await?;
    let args = LoadArgs::new(input, &up, BODIES * 1_000)?;
    let load = Load::start(&LoadArgs { body_bytes: Some(LARGEST_BODY), connections: CLIENTS, ..args }).await?;
    progress("memory: sending");
    let span = Span::start(up.process())?;
    let sent = load.run().await?;
    up.wait(backlog + sent.records).await?;
    progress(&format!("memory: {sent:?}"));
    let (cost, peak) = (span.cost()?, up.process().peak_mb()?);
    let what = format!("memory: {CLIENTS} clients with bodies of 5 MB, and a backlog");
    Ok(vec![Row::new(what).cost(backlog + sent.records, cost).peak_mb(peak).target("< 512 MB", peak < MEMORY_MB)])
}

/// What a new `up` needs when nobody asks anything of it.
pub async fn idle(input: &Input, binary: &Binary) -> anyhow::Result<Vec<Row>> {
    let dir = scratch(input)?;
    let up = Up::start(binary, &dir.place).await?;
    progress("idle: 30 s");
    let span = Span::start(up.process())?;
    tokio::time::sleep(IDLE).await;
    Ok(vec![idle_row("idle", &up, &span, IDLE_MB)?])
}

/// The same of `serve` and of a `pipeline` that has all lanes, on servers.
pub async fn idle_halves(input: &Input, binary: &Binary, lanes: u32) -> anyhow::Result<Vec<Row>> {
    let fleet = Fleet::start(input, binary, lanes, 1).await?;
    progress(&format!("idle: {lanes} lanes, 10 s, then 30 s"));
    tokio::time::sleep(IDLE / 3).await;
    let halves = [("idle serve", fleet.serve()), ("idle pipeline", fleet.pipelines.first().context("no process")?)];
    let spans = halves.map(|(_, half)| Span::start(half.process()));
    tokio::time::sleep(IDLE).await;
    let row = |((name, half), span): (_, anyhow::Result<Span>)| {
        idle_row(&format!("{name}, {lanes} lanes"), half, &span?, IDLE_HALF_MB)
    };
    halves.into_iter().zip(spans).map(row).collect()
}

fn idle_row(what: &str, up: &Up, span: &Span, most_mb: f64) -> anyhow::Result<Row> {
    let (cost, peak) = (span.cost()?, up.process().peak_mb()?);
    let share = cost.cpu / cost.wall * 100.0;
    let row = Row::new(format!("{what}: {share:.2} % of a core")).peak_mb(peak);
    Ok(row.target(&format!("< {most_mb} MB"), peak < most_mb).target("< 1 % of a core", share < 1.0))
}
