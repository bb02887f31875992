//! `worst`: every record on another date than its neighbours.

use crate::{
    Input,
    backends::scratch,
    fill::fill,
    land::drain_in_child,
    messages::Order,
    report::{Row, progress},
};

const TARGET_TIMES: f64 = 10.0;
const MEMORY_MB: f64 = 512.0;

/// Lands as many records as they are, then on different dates.
pub async fn run(input: &Input, records: u64) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    // Kept to the end: what deleting costs is not measured.
    let mut kept = Vec::new();
    for (what, order) in [("as they are", Order::Once), ("every record on another date", Order::Dates)] {
        let dir = scratch(input)?;
        progress(&format!("worst: {what}"));
        fill(input, &dir.place, 0, records, order).await?;
        let drained = drain_in_child(&dir.place, records).await?;
        let peak = drained.peak_mb;
        let row = Row::new(format!("land, {what}")).cost(records, drained.cost).peak_mb(peak);
        rows.push(row.target("< 512 MB", peak < MEMORY_MB));
        kept.push(dir);
    }
    let [ordered, worst] = [0, 1].map(|row: usize| rows.get(row).map_or(0.0, Row::cpu_per_million));
    let times = worst / ordered;
    rows.push(Row::new(format!("worst against ordered: × {times:.1}")).target("≤ 10", times <= TARGET_TIMES));
    Ok(rows)
}
