//! `failover`: what the lanes of real processes do when one joins, leaves and is killed.

use crate::{
    Binary, Input,
    fleet::Fleet,
    gaps::{Look, longest, recovered},
    report::{Row, progress},
};
use anyhow::{Context, ensure};
use std::time::Duration;

/// Nothing happens meanwhile.
const QUIET: Duration = Duration::from_secs(15);
/// After each event.
const AFTER: Duration = Duration::from_secs(20);
/// Until all lanes have their first records.
const PATIENCE: Duration = Duration::from_secs(60);
const TARGET_MOVED: Duration = Duration::from_secs(3);
const TARGET_RECOVERY: Duration = Duration::from_secs(15);
/// Two commits are never exactly as far apart as two others: a lane that was left alone may take so much longer.
const NOTHING: Duration = Duration::from_millis(300);

/// What the fleet is, has and gets.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Sizes {
    #[arg(long, default_value_t = 8)]
    pub lanes: u32,
    /// Records per second
    #[arg(long, default_value_t = 1_500)]
    pub rate: u64,
    /// Records that the tables of all lanes together have before
    #[arg(long, default_value_t = 0)]
    pub keys: u64,
}

/// Two processes with the lanes; a third joins and leaves; then one of them is killed.
pub async fn run(input: &Input, binary: &Binary, sizes: Sizes) -> anyhow::Result<Vec<Row>> {
    let Sizes { lanes, rate, keys } = sizes;
    let mut fleet = Fleet::start(input, binary, lanes, 2).await?;
    if keys > 0 {
        progress(&format!("failover: first the {keys} records that the tables have"));
        fleet.fill(input, keys).await?;
    }
    fleet.send(input, keys, rate).await?;
    progress("failover: waiting for all lanes");
    all_at_work(&fleet).await?;
    let usual = Usual::of(&fleet).await?;
    let mut rows = vec![usual.row()];
    progress("failover: a process joins");
    let begun = fleet.now();
    fleet.join().await?;
    rows.extend(usual.rebalance("a process joins", &fleet, begun).await?);
    progress("failover: it leaves");
    let begun = fleet.now();
    fleet.pipelines.last_mut().context("no process")?.terminate()?;
    rows.extend(usual.rebalance("a process leaves", &fleet, begun).await?);
    progress("failover: one is killed");
    let begun = fleet.now();
    fleet.pipelines.get_mut(1).context("no process")?.kill().await?;
    tokio::time::sleep(AFTER + AFTER / 2).await;
    let looks = fleet.looks().await?;
    let moved = fleet.moved(begun);
    let until = recovered(&looks, begun, usual.lag);
    let text = until.map_or("never".to_owned(), |until| format!("{:.1} s", until.as_secs_f64()));
    let most = pause(&looks, &moved, (begun, fleet.now())).as_secs_f64();
    let what = format!("a process is killed: {} lanes moved, paused for at most {most:.1} s", moved.len());
    let row = Row::new(format!("{what}; no more waits than usual after {text}"));
    rows.push(row.target("< 15 s", until.is_some_and(|until| until < TARGET_RECOVERY)));
    rows.push(usual.untouched("a process is killed", &looks, &moved, (begun, fleet.now())));
    Ok(rows)
}

async fn all_at_work(fleet: &Fleet) -> anyhow::Result<()> {
    let end = fleet.now() + PATIENCE;
    loop {
        let looks = fleet.looks().await?;
        if looks.last().is_some_and(|look| look.lanes.iter().all(|lane| lane.done > 0)) {
            return Ok(());
        }
        ensure!(fleet.now() < end, "not every lane has landed a record in a minute: {:?}", looks.last());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What lanes do that nothing happens to.
struct Usual {
    gap: Duration,
    /// Records that wait at most.
    lag: i64,
    lanes: u32,
}

impl Usual {
    async fn of(fleet: &Fleet) -> anyhow::Result<Self> {
        // The first tables were just made.
        tokio::time::sleep(QUIET / 3).await;
        let from = fleet.now();
        tokio::time::sleep(QUIET).await;
        let (looks, to) = (fleet.looks().await?, fleet.now());
        let lanes = looks.last().map_or(0, |look| look.lanes.len());
        let gap = (0..lanes).map(|lane| longest(&looks, lane, from, to)).max().unwrap_or_default();
        let lag = looks.iter().filter(|look| look.at >= from).map(Look::lag).max().unwrap_or_default();
        Ok(Self { gap, lag, lanes: u32::try_from(lanes)? })
    }

    fn row(&self) -> Row {
        let (gap, lag) = (self.gap.as_secs_f64(), self.lag);
        Row::new(format!("nothing happens: at most {gap:.2} s between two commits of a lane, {lag} records wait"))
    }

    async fn rebalance(&self, what: &str, fleet: &Fleet, begun: Duration) -> anyhow::Result<Vec<Row>> {
        tokio::time::sleep(AFTER).await;
        let (looks, moved) = (fleet.looks().await?, fleet.moved(begun));
        ensure!(!moved.is_empty(), "{what}, but no lane moved");
        let most = pause(&looks, &moved, (begun, begun + AFTER));
        let text = format!("{what}: {} lanes moved, paused for at most {:.2} s", moved.len(), most.as_secs_f64());
        let row = Row::new(text).target("< 3 s", most < TARGET_MOVED);
        Ok(vec![row, self.untouched(what, &looks, &moved, (begun, begun + AFTER))])
    }

    fn untouched(&self, what: &str, looks: &[Look], moved: &[u32], (from, to): (Duration, Duration)) -> Row {
        let others: Vec<u32> = (0..self.lanes).filter(|lane| !moved.contains(lane)).collect();
        let most = pause(looks, &others, (from, to));
        let beyond = most.saturating_sub(self.gap);
        let count = self.lanes as usize - moved.len();
        let text = format!("{what}: {count} lanes stayed, at most {:.2} s between two commits", most.as_secs_f64());
        Row::new(text).target("no more than usual", beyond <= NOTHING)
    }
}

/// The longest time between two commits of any of `lanes`.
fn pause(looks: &[Look], lanes: &[u32], (from, to): (Duration, Duration)) -> Duration {
    lanes.iter().map(|lane| longest(looks, *lane as usize, from, to)).max().unwrap_or_default()
}
