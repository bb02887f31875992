//! The key index as something derived from the lake: brought up to a table, or rebuilt from it.

use crate::{
    filter::SeenFilter,
    lake::{KeyRow, Lake, Table},
    lane_table::TxnNames,
    metrics::Metrics,
    trouble::Trouble,
};
use std::collections::BTreeSet;
use tributary_backends::tables::{IndexPart, Location, Tables};
use tributary_schemas::identity::Identity;

/// Entries written at once while a part is rebuilt: a few MB.
const SLICE: usize = 50_000;

/// Brings a part up to the table's version, from its watermark where that can be trusted and from nothing where it
/// cannot, and gives the filter of all its identities.
///
/// A part is trusted when its watermark is not ahead of the table (as after the lake was restored from a copy), and
/// when it has as many entries as the lane has live rows: a lost entry would make a second row of its identity.
pub(crate) async fn catch_up(
    tables: &dyn Tables,
    table: &Table,
    part: &IndexPart,
    metrics: &Metrics,
) -> Result<SeenFilter, Trouble> {
    let live = live_rows(table, part.lane);
    match tables.watermark(part).await? {
        Some(watermark) if watermark == table.version() => {}
        Some(watermark) if watermark < table.version() => {
            add_since(tables, table, part, watermark, &mut |_| ()).await?
        }
        None if live == 0 => {}
        found => {
            if found.is_some() {
                tracing::warn!(?part, ?found, version = table.version(), "the index is ahead of its table: rebuilding");
                metrics.index_rebuilds.inc();
            }
            rebuild(tables, table, part).await?;
        }
    }
    let (filter, entries) = scan(tables, part, live).await?;
    if entries == live {
        return Ok(filter);
    }
    tracing::warn!(?part, entries, live, "the index has not one entry for each live row: rebuilding");
    metrics.index_rebuilds.inc();
    rebuild(tables, table, part).await?;
    let (filter, entries) = scan(tables, part, live).await?;
    if entries == live {
        return Ok(filter);
    }
    let url = table.url();
    Err(Trouble::Halt(format!(
        "{url} has {live} live rows of lane {} but {entries} identities: run `tributary lake check`",
        part.lane
    )))
}

/// Live rows in the files of one lane.
pub(crate) fn live_rows(table: &Table, lane: u32) -> u64 {
    table.files().iter().filter(|file| file.lane == lane).map(|file| file.rows.saturating_sub(file.deleted)).sum()
}

/// Brings a part, and the filter over it, from its watermark to the version that the table has moved to meanwhile.
pub(crate) async fn advance(
    tables: &dyn Tables,
    table: &Table,
    part: &IndexPart,
    filter: &mut SeenFilter,
    metrics: &Metrics,
) -> Result<(), Trouble> {
    match tables.watermark(part).await? {
        Some(watermark) if watermark <= table.version() => {
            add_since(tables, table, part, watermark, &mut |identity| filter.insert(identity)).await
        }
        _ => {
            *filter = catch_up(tables, table, part, metrics).await?;
            Ok(())
        }
    }
}

/// Adds what came into the table after the watermark: a few chunks at most, all in memory.
async fn add_since(
    tables: &dyn Tables,
    table: &Table,
    part: &IndexPart,
    watermark: u64,
    added: &mut (dyn FnMut(&Identity) + Send),
) -> Result<(), Trouble> {
    let mut entries = Vec::new();
    let mut keep = |rows: &[KeyRow]| entries.extend(rows.iter().map(|row| (row.identity, row.location)));
    table.keys_since(part.lane, Some(watermark), &mut keep).await?;
    for slice in entries.chunks(SLICE) {
        slice.iter().for_each(|(identity, _)| added(identity));
        tables.upsert(part, slice).await?;
    }
    tables.set_watermark(part, table.version()).await?;
    Ok(())
}

async fn scan(tables: &dyn Tables, part: &IndexPart, expected: u64) -> Result<(SeenFilter, u64), Trouble> {
    let mut filter = SeenFilter::with_capacity(usize::try_from(expected).unwrap_or_default());
    let mut entries = 0;
    let mut keep = |slice: &[(Identity, Location)]| {
        entries += slice.len() as u64;
        slice.iter().for_each(|(identity, _)| filter.insert(identity));
    };
    tables.scan(part, &mut keep).await?;
    Ok((filter, entries))
}

/// Drops a part and reads it back from the lake, file by file. A crash in between leaves a part without a watermark,
/// which is rebuilt again.
pub(crate) async fn rebuild(tables: &dyn Tables, table: &Table, part: &IndexPart) -> Result<u64, Trouble> {
    tables.clear(part).await?;
    let mut files: Vec<_> =
        table.files().into_iter().filter(|file| file.lane == part.lane).map(|file| file.id).collect();
    files.sort_unstable();
    let (mut pending, mut written): (Vec<(Identity, Location)>, u64) = (Vec::new(), 0);
    for file in files {
        let mut keep = |rows: &[KeyRow]| pending.extend(rows.iter().map(|row| (row.identity, row.location)));
        table.keys_of(&file, &mut keep).await?;
        if pending.len() >= SLICE {
            tables.upsert(part, &pending).await?;
            written += pending.len() as u64;
            pending.clear();
        }
    }
    if !pending.is_empty() {
        tables.upsert(part, &pending).await?;
        written += pending.len() as u64;
    }
    tables.set_watermark(part, table.version()).await?;
    Ok(written)
}

/// Rebuilds the index of every table, or of one workspace's, while no lane runs; the number of entries written.
///
/// # Errors
/// What a backend said, in words; nothing is lost, run it again.
pub async fn rebuild_index(lake: &Lake, tables: &dyn Tables, workspace: Option<&str>) -> Result<u64, Trouble> {
    let workspaces = match workspace {
        Some(workspace) => vec![workspace.to_owned()],
        None => lake.workspaces().await?,
    };
    let mut written = 0;
    for workspace in workspaces {
        let Some(table) = lake.existing(&workspace).await? else { continue };
        for lane in lanes(&table) {
            written += rebuild(tables, &table, &IndexPart { workspace: workspace.clone(), lane }).await?;
        }
    }
    Ok(written)
}

/// Lanes that have ever committed to a table.
pub(crate) fn lanes(table: &Table) -> BTreeSet<u32> {
    let committed = table.txns().keys().filter_map(|name| name.strip_prefix("lane-")?.parse().ok());
    committed.chain(table.files().into_iter().map(|file| file.lane)).collect()
}

/// Live rows that the lanes' counters speak of.
pub(crate) fn landed(table: &Table) -> u64 {
    lanes(table).into_iter().map(|lane| TxnNames::of(lane).outcomes(table).landed).sum()
}
