//! `index`: the whole pipeline on a table that has many keys already, and how soon it goes on after a restart.

use crate::{
    Input,
    backends::{Place, scratch},
    fill::fill,
    land::{Drained, drain_in_child},
    messages::Order,
    report::{Row, progress},
};

/// Records that are landed on top of what is there.
const STEP: u64 = 1_000_000;
const TARGET_GROWTH: f64 = 1.2;
const TARGET_RESTART: f64 = 10.0;

/// Measures at `small` keys and at `large`.
pub async fn run(input: &Input, small: u64, large: u64) -> anyhow::Result<Vec<Row>> {
    let dir = scratch(input)?;
    let (mut keys, mut rows, mut costs) = (0, Vec::new(), Vec::new());
    for size in [small, large] {
        while keys < size {
            progress(&format!("index: {keys} keys"));
            let step = (size - keys).min(1_000_000);
            fill(input, &dir.place, keys, step, Order::Once).await?;
            drain_in_child(&dir.place, step).await?;
            keys += step;
        }
        let start = restart(input, &dir.place, &mut keys).await?;
        fill(input, &dir.place, keys, STEP, Order::Once).await?;
        let drained = drain_in_child(&dir.place, STEP).await?;
        keys += STEP;
        let (cost, records) = drained.at_work();
        let row = Row::new(format!("land on {size} keys")).cost(records, cost).peak_mb(drained.peak_mb);
        costs.push(row.cpu_per_million());
        rows.push(row);
        let row = Row::new(format!("restart on {size} keys, until a record has landed")).cost(1, start.cost);
        rows.push(row.target("< 10 s", start.cost.wall < TARGET_RESTART));
    }
    let growth = costs.last().zip(costs.first()).map_or(0.0, |(large, small)| large / small);
    rows.push(Row::new(format!("growth of the cost: × {growth:.2}")).target("≤ 1.2", growth <= TARGET_GROWTH));
    Ok(rows)
}

/// Opens everything for one new record.
async fn restart(input: &Input, place: &Place, keys: &mut u64) -> anyhow::Result<Drained> {
    fill(input, place, *keys, 1, Order::Once).await?;
    *keys += 1;
    drain_in_child(place, 1).await
}
