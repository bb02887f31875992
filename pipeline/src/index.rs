//! The key index as something derived from the lake: brought up to a table, or rebuilt from it.
//!
//! **What a lane looks up is all there is.** An entry that is not found makes a second row, so a lane goes by what it found
//! only when the part was complete at the lane's own table version the whole time (`Found::complete_to`). For that to be
//! true, with lanes that are paused anywhere, with two that rebuild, and with a kill at any line, three things suffice:
//!
//! * *A watermark is set only by who knows that the part has all up to it*: who has just written an entry for each live row
//!   ([`refill`]), or what came since a watermark that was there ([`add_since`]), or its own commit on top of the
//!   version to which it had brought the part or found it brought.
//! * *What is dropped takes its watermark along.* `clear` begins another generation without one; what somebody still writes
//!   to the last generation, entries or watermark, is seen by nobody. So a part that is being filled, or whose filling was
//!   cut off by a kill, has no watermark until whoever fills it has come to the end. Of two that fill a generation each
//!   writes all of it; of two that drop, the first one's filling goes where nobody looks.
//! * *A look-up is of one generation*, with the watermark that this one had before the first key was read.
//!
//! Within a generation entries are only added, and the newest table version of each stays, so late writes and watermarks that
//! come late, and so are low, change nothing: whoever reads one adds what came since. A lane that finds no watermark
//! fills the part itself. A lane that has looked up, and is paused until the part was dropped ten times over, still knows what
//! was true of its version; the commit, which is created once, tells whether that one is still the newest.
//!
//! A process knows which generation it writes to by its last look (a scan is none, so it may go on beside the work). So it
//! has one task at a time for a part: a lane's begins when the one before it has ended (`consumer`). Commands run in the
//! process of the lanes only where it is the only one, and those that rebuild have the lanes rest.

use crate::{
    context::Context,
    filter::SeenFilter,
    lake::{KeyRow, Lake, LiveFile, Table},
    metrics::Metrics,
    seen_keys::SeenKeys,
    trouble::Trouble,
    txn_names::TxnNames,
};
use std::{collections::BTreeSet, sync::Arc};
use tributary_backends::tables::{IndexPart, Location, Tables};
use tributary_schemas::identity::Identity;

/// Entries written at once while a part is rebuilt: a few MB.
const SLICE: usize = 50_000;

/// Brings a part up to the table's newest version, and gives what is known of its identities: all of them, or what a reading
/// gives that goes on beside the work when they are many.
pub(crate) async fn open(context: &Arc<Context>, table: &mut Table, part: &IndexPart) -> Result<SeenKeys, Trouble> {
    let Context { tables, metrics, config, .. } = &**context;
    if live_rows(table, part.lane) <= config.read_first {
        return catch_up(&**tables, table, part, metrics).await.map(SeenKeys::whole);
    }
    bring_up(&**tables, table, part, metrics).await?;
    Ok(SeenKeys::read(context, table, part))
}

/// Brings a part up to the table's newest version, from its watermark where that can be trusted and from nothing where
/// it cannot: where it is ahead of the table, as after the lake was restored from a copy.
async fn bring_up(tables: &dyn Tables, table: &mut Table, part: &IndexPart, metrics: &Metrics) -> Result<(), Trouble> {
    // The watermark before the version, so that another owner's commit in between cannot make it seem ahead.
    let watermark = tables.watermark(part).await?;
    table.refresh().await?;
    match watermark {
        Some(watermark) if watermark <= table.version() => add_since(tables, table, part, watermark, &mut |_| ()).await,
        None => refill(tables, table, part).await.map(drop),
        Some(watermark) => {
            tracing::warn!(?part, watermark, version = table.version(), "the index is ahead of its table");
            metrics.index_rebuilds.inc();
            rebuild(tables, table, part).await.map(drop)
        }
    }
}

/// Brings a part up to the table's newest version, and gives the filter of all its identities once it has as many entries as
/// the lane has live rows: a lost entry would make a second row of its identity.
pub(crate) async fn catch_up(
    tables: &dyn Tables,
    table: &mut Table,
    part: &IndexPart,
    metrics: &Metrics,
) -> Result<SeenFilter, Trouble> {
    let mut repairs = [Repair::Refill, Repair::Rebuild].into_iter();
    loop {
        bring_up(tables, table, part, metrics).await?;
        let (live, version) = (live_rows(table, part.lane), table.version());
        let Scan { filter, entries, complete_to, .. } = scan(tables, part, live, version).await?;
        let is_complete = complete_to.is_some_and(|to| to >= version);
        if is_complete && entries == live {
            return Ok(filter);
        }
        table.refresh().await?;
        if !is_complete || table.version() != version {
            // Somebody rebuilds it, or another owner is at work still.
            continue;
        }
        tracing::warn!(?part, entries, live, "the index has not one entry for each live row");
        metrics.index_rebuilds.inc();
        match repairs.next() {
            Some(repair) => repair.run(tables, table, part).await?,
            None => {
                let (url, lane) = (table.url(), part.lane);
                return Err(Trouble::Halt(format!(
                    "{url} has {live} live rows of lane {lane} but {entries} identities: run `tributary lake check`"
                )));
            }
        }
    }
}

/// What can be done about a part that does not agree with its table, the gentle way first.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Repair {
    /// Writes an entry for each live row; heals what is lost or stale.
    Refill,
    /// Drops the part before; heals entries of rows that are gone, too.
    Rebuild,
}

impl Repair {
    pub(crate) async fn run(self, tables: &dyn Tables, table: &mut Table, part: &IndexPart) -> Result<(), Trouble> {
        match self {
            Self::Refill => refill(tables, table, part).await.map(drop),
            Self::Rebuild => rebuild(tables, table, part).await.map(drop),
        }
    }
}

/// Live rows in the files of one lane.
pub(crate) fn live_rows(table: &Table, lane: u32) -> u64 {
    rows_of(files_of(table, lane))
}

/// The files of one lane.
pub(crate) fn files_of(table: &Table, lane: u32) -> impl Iterator<Item = &LiveFile> {
    table.files().into_iter().filter(move |file| file.lane == lane)
}

/// Live rows in these files.
pub(crate) fn rows_of<'f>(files: impl IntoIterator<Item = &'f LiveFile>) -> u64 {
    files.into_iter().map(|file| file.rows.saturating_sub(file.deleted)).sum()
}

/// Brings a part from its watermark, and the filter over it from version `known`, to the version that the table has
/// moved to meanwhile. The two differ when another owner has moved the watermark: its keys are not in this filter.
pub(crate) async fn advance(
    context: &Arc<Context>,
    table: &mut Table,
    part: &IndexPart,
    (seen, known): (&mut SeenKeys, u64),
) -> Result<(), Trouble> {
    let tables = &*context.tables;
    match tables.watermark(part).await? {
        Some(watermark) if watermark <= table.version() => {
            add_since(tables, table, part, watermark.min(known), &mut |identity| seen.insert(identity)).await
        }
        _ => {
            *seen = open(context, table, part).await?;
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

/// All identities of a part.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) filter: SeenFilter,
    /// How many there are.
    pub(crate) entries: u64,
    /// How many of them are not newer than the version for which it was read.
    pub(crate) old: u64,
    /// Up to which version of the table there are no others.
    pub(crate) complete_to: Option<u64>,
}

/// Reads a part that has been brought up to `version`, and of which so many entries are expected.
pub(crate) async fn scan(tables: &dyn Tables, part: &IndexPart, expected: u64, version: u64) -> Result<Scan, Trouble> {
    let mut filter = SeenFilter::with_capacity(usize::try_from(expected).unwrap_or_default());
    let (mut entries, mut old) = (0, 0);
    let mut keep = |slice: &[(Identity, Location)]| {
        entries += slice.len() as u64;
        for (identity, location) in slice {
            old += u64::from(location.table_version <= version);
            filter.insert(identity);
        }
    };
    let complete_to = tables.scan(part, &mut keep).await?;
    Ok(Scan { filter, entries, old, complete_to })
}

/// Drops a part and reads it back from the lake. A crash in between leaves a part without a watermark, which is filled
/// again.
async fn rebuild(tables: &dyn Tables, table: &mut Table, part: &IndexPart) -> Result<u64, Trouble> {
    tables.clear(part).await?;
    table.refresh().await?;
    refill(tables, table, part).await
}

/// Writes an entry for each live row, file by file, and then the watermark; how many.
async fn refill(tables: &dyn Tables, table: &Table, part: &IndexPart) -> Result<u64, Trouble> {
    let mut files: Vec<_> = files_of(table, part.lane).map(|file| file.id).collect();
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

/// Rebuilds the index of every table, or of one workspace's; the number of entries written. Lanes may run meanwhile.
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
        let Some(mut table) = lake.existing(&workspace).await? else { continue };
        for lane in lanes(&table) {
            written += rebuild(tables, &mut table, &IndexPart { workspace: workspace.clone(), lane }).await?;
        }
    }
    Ok(written)
}

/// Lanes that have ever committed to a table.
pub(crate) fn lanes(table: &Table) -> BTreeSet<u32> {
    let committed = table.txns().keys().filter_map(|name| TxnNames::lane_of(name));
    committed.chain(table.files().into_iter().map(|file| file.lane)).collect()
}

/// Live rows that the lanes' counters speak of.
pub(crate) fn landed(table: &Table) -> u64 {
    lanes(table).into_iter().map(|lane| TxnNames::of(lane, "").outcomes(table).landed).sum()
}
