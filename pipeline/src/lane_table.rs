//! One workspace's table as one lane sees it: the exactly-once protocol.
//!
//! The table's log is the truth; the key index is derived from it. [`LaneTable::open`] brings the index up to the
//! table, [`LaneTable::land`] takes a chunk through resolve → write → commit → index → watermark and repeats from the
//! top when another commit came first.

use crate::{
    chunk::{Committed, DedupedChunk, TableChunk, WrittenChunk},
    chunking::landed_before,
    context::Context,
    dedup::{self, IdentityMap, Outcomes, Seen},
    index::{self, Repair},
    lake::{LakeError, Table, TableCommit},
    metrics::Rival,
    seen_keys::{Ended, SeenKeys},
    take::take_rows,
    trouble::{Trouble, patiently},
    txn_names::TxnNames,
};
use arrow::array::UInt32Array;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::time::Instant;
use tributary_backends::{
    crash,
    log::Topic,
    tables::{IndexPart, Location},
};
use uuid::Uuid;

pub(crate) struct LaneTable {
    context: Arc<Context>,
    part: IndexPart,
    names: TxnNames,
    table: Table,
    seen: SeenKeys,
    /// Version of the table up to which `seen` has what came since it was opened.
    known: u64,
}

/// A commit that was put: what it counts for if it is in the table.
struct Put {
    version: u64,
    id: Uuid,
    outcomes: Outcomes,
}

/// How far a chunk has come.
#[derive(Default)]
struct Progress {
    /// Resolved and written for the version that the table had, and not committed yet.
    ready: Option<WrittenChunk>,
    /// Commits of the chunk that have not been heard of.
    unheard: Vec<Put>,
}

impl LaneTable {
    /// Loads the table and brings the index up to it.
    pub(crate) async fn open(context: Arc<Context>, workspace: &str, lane: u32) -> Result<Self, Trouble> {
        let mut table = patiently!(context.patience, "opening a table", context.lake.table(workspace))?;
        let part = IndexPart { workspace: workspace.to_owned(), lane };
        let names = TxnNames::of(lane, context.log.id());
        let seen = patiently!(
            context.patience,
            "bringing the key index up to its table",
            index::open(&context, &mut table, &part)
        )?;
        within_the_log(&context, &table, lane, &names).await?;
        let known = table.version();
        Ok(Self { context, part, names, table, seen, known })
    }

    /// Offsets below this are in the table.
    fn position(&self) -> i64 {
        self.table.txn(&self.names.position).unwrap_or(0)
    }

    /// Takes a chunk into the table, however often it has to try. What is in already is skipped.
    pub(crate) async fn land(&mut self, chunk: &TableChunk) -> Result<(), Trouble> {
        let context = self.context.clone();
        let mut wait = context.patience.start("landing a chunk");
        let mut repairs = [Repair::Refill, Repair::Rebuild].into_iter();
        let mut progress = Progress::default();
        loop {
            let version = self.table.version();
            match self.attempt(chunk, &mut progress).await {
                // One of them may have been in the table all along.
                Ok(()) => {
                    wait.works();
                    return self.hear_of(&mut progress.unheard, chunk.next).await;
                }
                Err(Attempt::Trouble(trouble)) => {
                    progress.ready = None;
                    wait.pause(trouble).await?;
                }
                Err(Attempt::Incomplete(reason)) => {
                    progress.ready = None;
                    self.again(&reason);
                }
                Err(Attempt::Conflict(reason)) => {
                    let before = self.table.txns().clone();
                    let moved_on = self.moved_on(version).await?;
                    self.hear_of(&mut progress.unheard, chunk.next).await?;
                    let rival = self.rival(&before);
                    context.metrics.conflict(rival);
                    if rival == Rival::Lane {
                        continue;
                    }
                    progress.ready = None;
                    if moved_on {
                        self.again(&reason);
                    } else if let Some(repair) = repairs.next() {
                        self.repair(repair, &reason).await?;
                    } else {
                        let url = self.table.url();
                        return Err(Trouble::Halt(format!("{url}: {reason}, although the index is new")));
                    }
                    continue;
                }
            }
            // The answer may have been lost on its way, or the index is behind: look at what the table says now.
            self.moved_on(version).await?;
            self.hear_of(&mut progress.unheard, chunk.next).await?;
        }
    }

    /// Two writers of one table meet with every commit.
    fn again(&self, reason: &str) {
        let table = self.table.url();
        if let Some(unsaid) = self.context.patience.may_say(&format!("resolving a chunk of {table} again")) {
            tracing::info!(%table, unsaid, "resolving a chunk again: {reason}");
        }
    }

    /// Steps 1 to 6 of the protocol, once. What is `ready` to be committed has lost to other lanes only: they touch neither
    /// the keys nor the files of this one, so what was resolved and written for an older version holds for the newest too.
    async fn attempt(&mut self, chunk: &TableChunk, progress: &mut Progress) -> Result<(), Attempt> {
        let Progress { ready, unheard } = progress;
        let written = match ready {
            Some(written) => written,
            None => {
                let Some(deduped) = self.resolve(chunk).await? else { return Ok(()) };
                crash::point("lane.after_resolve");
                let written = self.write(deduped).await?;
                crash::point("lane.after_parquet");
                ready.insert(written)
            }
        };
        let committed = self.commit(written, unheard).await?;
        crash::point("lane.after_table_commit");
        self.index(&committed).await?;
        Ok(())
    }

    /// Step 1: what is new in the chunk, and what it replaces. `None` when the table has all of it.
    async fn resolve(&mut self, chunk: &TableChunk) -> Result<Option<DedupedChunk>, Attempt> {
        self.judge_reading().await?;
        let position = self.position();
        let skipped = landed_before(&chunk.offsets, position);
        let dead = chunk.dead.iter().filter(|offset| **offset >= position).count() as u64;
        self.context.metrics.replayed.inc_by(skipped as u64);
        let seen: Vec<Seen> = chunk.seen.get(skipped..).unwrap_or_default().to_vec();
        if seen.is_empty() && dead == 0 {
            return Ok(None);
        }
        let started = Instant::now();
        let existing = self.existing(&seen).await?;
        let rows = chunk.rows.slice(skipped, seen.len());
        let next = chunk.next;
        let deduped = tokio::task::spawn_blocking(move || {
            let dedup::Resolution { keep, replaced, mut outcomes } = dedup::resolve(&seen, &existing);
            outcomes.dead_lettered += dead;
            let key = |place: &u32| {
                let seen = seen.get(*place as usize)?;
                Some((seen.identity, seen.digest, seen.version))
            };
            let keys = keep.iter().filter_map(key).collect();
            let whole = keep.len() == rows.num_rows();
            let rows = if whole { rows } else { take_rows(&rows, &UInt32Array::from(keep))? };
            Ok::<_, arrow::error::ArrowError>(DedupedChunk { next, outcomes, rows, keys, replaced })
        });
        let deduped = deduped.await.map_err(Attempt::halt)?.map_err(Attempt::halt)?;
        self.context.metrics.stage("resolve", started.elapsed());
        Ok(Some(deduped))
    }

    /// Where the lake has the identities that it may have. Those that were never seen cost no read.
    async fn existing(&self, seen: &[Seen]) -> Result<IdentityMap<Location>, Attempt> {
        let mut wanted: Vec<_> =
            seen.iter().map(|record| record.identity).filter(|identity| self.seen.may_contain(identity)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(IdentityMap::default());
        }
        let found = self.context.tables.lookup(&self.part, &wanted).await.map_err(Attempt::trouble)?;
        if found.complete_to != Some(self.table.version()) {
            // Another owner has moved the index, or is building it anew: what was found may lack something.
            let reason = format!("the index is complete up to {:?}, and not to this version", found.complete_to);
            return Err(Attempt::Incomplete(reason));
        }
        let existing: IdentityMap<Location> =
            wanted.into_iter().zip(found.locations).filter_map(|(identity, found)| Some((identity, found?))).collect();
        if let Some(stale) = existing.values().find(|row| self.table.file(&row.file).is_none()) {
            return Err(Attempt::Conflict(format!("the index points into file {}, which is not live", stale.file)));
        }
        Ok(existing)
    }

    /// Step 2.
    async fn write(&self, deduped: DedupedChunk) -> Result<WrittenChunk, Attempt> {
        let started = Instant::now();
        let files = if deduped.rows.num_rows() == 0 {
            crate::lake::WrittenFiles { places: Vec::new(), files: Vec::new() }
        } else {
            self.table.write(self.part.lane, &deduped.rows).await.map_err(Attempt::lake)?
        };
        self.context.metrics.stage("write", started.elapsed());
        Ok(WrittenChunk { deduped, files })
    }

    /// Steps 3 and 4: deletion vectors, then one put that has the rows, the marks, the position and the counters.
    async fn commit(&mut self, written: &WrittenChunk, unheard: &mut Vec<Put>) -> Result<Committed, Attempt> {
        let started = Instant::now();
        let WrittenChunk { deduped, files } = written;
        let mut deletes: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for row in &deduped.replaced {
            deletes.entry(row.file).or_default().push(row.row);
        }
        let mut totals = self.names.outcomes(&self.table);
        totals += deduped.outcomes;
        let txns = self.names.txns(deduped.next, &totals);
        let id = self.context.world.uuid_v7();
        unheard.push(Put { version: self.table.version() + 1, id, outcomes: deduped.outcomes });
        let commit = TableCommit { adds: files.files.clone(), deletes, txns };
        let version = self.table.commit_as(id, commit).await.map_err(Attempt::lake)?;
        unheard.clear();
        self.context.metrics.count_all(&deduped.outcomes);
        let entry = |(&(identity, digest, version_of_row), &(file, row))| {
            (identity, Location { file, row, version: version_of_row, digest, table_version: version })
        };
        let entries: Vec<_> = deduped.keys.iter().zip(&files.places).map(entry).collect();
        // From here on the rows exist, whatever becomes of the index.
        for (identity, _) in &entries {
            self.seen.insert(identity);
        }
        self.known = version;
        self.context.metrics.stage("commit", started.elapsed());
        Ok(Committed { version, entries })
    }

    /// Step 6: the index, then its watermark. The chunk is in the table, so only these two are tried again.
    async fn index(&self, committed: &Committed) -> Result<(), Trouble> {
        let Context { tables, patience, metrics, .. } = &*self.context;
        let started = Instant::now();
        if !committed.entries.is_empty() {
            patiently!(patience, "writing the key index", tables.upsert(&self.part, &committed.entries))?;
        }
        crash::point("lane.after_index");
        patiently!(patience, "moving the index watermark", tables.set_watermark(&self.part, committed.version))?;
        crash::point("lane.after_watermark");
        metrics.stage("index", started.elapsed());
        Ok(())
    }

    /// Brings handle, index and filter to the newest version. False when all of them were there already: nobody else
    /// has committed, and nobody has touched the index.
    async fn moved_on(&mut self, from: u64) -> Result<bool, Trouble> {
        let Context { tables, patience, .. } = &*self.context;
        patiently!(patience, "reading a table's newest version", self.table.refresh())?;
        let watermark = patiently!(patience, "reading the index watermark", tables.watermark(&self.part))?;
        if self.table.version() == from && self.known == from && watermark == Some(from) {
            return Ok(false);
        }
        patiently!(
            patience,
            "bringing the key index up to its table",
            index::advance(&self.context, &mut self.table, &self.part, (&mut self.seen, self.known))
        )?;
        self.known = self.table.version();
        Ok(true)
    }

    /// When the index has been read beside the work: takes what was read, or does something about it.
    async fn judge_reading(&mut self) -> Result<(), Trouble> {
        if !self.seen.is_to_be_judged() {
            return Ok(());
        }
        // Entries of another owner's rows may have been read.
        self.moved_on(self.table.version()).await?;
        let files: Vec<_> = index::files_of(&self.table, self.part.lane).collect();
        match self.seen.judge(&files).await? {
            Ended::Well => {}
            Ended::InVain => self.seen = SeenKeys::read(&self.context, &self.table, &self.part),
            Ended::Wrong(reason) => self.repair(Repair::Refill, &reason).await?,
        }
        Ok(())
    }

    /// Who has moved the table since it was `before`.
    fn rival(&self, before: &BTreeMap<String, i64>) -> Rival {
        let moved = self.table.txns().iter().filter(|(name, value)| before.get(*name) != Some(value));
        let lanes: BTreeSet<u32> = moved.filter_map(|(name, _)| TxnNames::lane_of(name)).collect();
        if lanes.is_empty() || lanes.contains(&self.part.lane) { Rival::Other } else { Rival::Lane }
    }

    /// The index points at what is not there, and nobody has moved it.
    async fn repair(&mut self, repair: Repair, reason: &str) -> Result<(), Trouble> {
        tracing::warn!(table = %self.table.url(), lane = self.part.lane, ?repair, "repairing the index: {reason}");
        let Context { tables, patience, metrics, .. } = &*self.context;
        metrics.index_rebuilds.inc();
        patiently!(patience, "repairing the index", repair.run(&**tables, &mut self.table, &self.part))?;
        let filter = patiently!(
            patience,
            "reading a repaired index",
            index::catch_up(&**tables, &mut self.table, &self.part, metrics)
        )?;
        self.seen = SeenKeys::whole(filter);
        self.known = self.table.version();
        Ok(())
    }

    /// Once the table has the chunk up to `next`: counts it if one of the commits of which nothing was heard has put it
    /// there. What another owner has put there is counted by that one.
    async fn hear_of(&self, unheard: &mut Vec<Put>, next: i64) -> Result<(), Trouble> {
        if self.position() < next {
            return Ok(());
        }
        for Put { version, id, outcomes } in std::mem::take(unheard) {
            if patiently!(self.context.patience, "looking for a commit", self.table.has_commit(version, id))? {
                self.context.metrics.count_all(&outcomes);
            }
        }
        Ok(())
    }
}

/// A position past the log's end would make the lane skip everything that is appended up to there.
async fn within_the_log(context: &Context, table: &Table, lane: u32, names: &TxnNames) -> Result<(), Trouble> {
    let Some(position) = table.txn(&names.position) else { return Ok(()) };
    let high = patiently!(context.patience, "reading watermarks", context.log.watermarks(Topic::Records, lane))?.high;
    if position <= high {
        return Ok(());
    }
    Err(Trouble::Halt(format!(
        "{} has lane {lane} up to offset {position}, but the log ends at {high}: the log was replaced by an older copy of \
         itself. Restore the newer one, or remove the log's `id` file so that it counts as another log",
        table.url()
    )))
}

/// Why an attempt to land a chunk ended.
enum Attempt {
    /// Refresh, and look at what the table says.
    Conflict(String),
    /// The index was not all there while it was asked.
    Incomplete(String),
    /// A backend's fault.
    Trouble(Trouble),
}

impl Attempt {
    fn lake(error: LakeError) -> Self {
        match error {
            LakeError::Conflict(reason) => Self::Conflict(reason),
            error => Self::Trouble(error.into()),
        }
    }

    fn trouble(error: impl Into<Trouble>) -> Self {
        Self::Trouble(error.into())
    }

    fn halt(error: impl std::fmt::Display) -> Self {
        Self::Trouble(Trouble::Halt(error.to_string()))
    }
}

impl From<Trouble> for Attempt {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}
