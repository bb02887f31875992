//! One atomic change of a table: deletion vectors first, then the commit file, created only where there is none.
//!
//! Our own code against the Delta protocol rather than the kernel's transaction: the kernel takes the scan rows of
//! every file that gets a deletion vector, so it would replay the whole log before each commit, which this handle has
//! in memory already; it takes time from outside `World`; and its put does not tell "lost" from "unclear".

use super::{
    LakeError, Table, TableCommit, WrittenFile,
    actions::{self, Action, Remove, Txn},
    deletion, load, partition,
    state::Entry,
    stats,
};
use bytes::Bytes;
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use tributary_backends::crash;
use uuid::Uuid;

/// What a live file becomes.
struct Touched {
    before: Entry,
    /// All rows that are marked afterwards.
    marked: RoaringTreemap,
}

/// Commits on top of the handle's version and moves the handle there. `id` is this commit's alone.
pub(super) async fn commit(table: &mut Table, id: Uuid, commit: TableCommit) -> Result<u64, LakeError> {
    let now = table.world.now_micros() / 1_000;
    let touched = touch(table, &commit.deletes).await?;
    let operation = if touched.is_empty() { "WRITE" } else { "MERGE" };
    let mut actions = txns(&commit.txns, now);
    actions.extend(put_vectors(table, touched, now).await?);
    actions.extend(commit.adds.iter().map(|WrittenFile(entry)| added(entry)));
    crash::point("lane.after_deletion_vectors");
    let version = table.state.version + 1;
    put(table, version, actions::to_commit(now, operation, id, &actions)).await?;
    table.state.apply(version, actions)?;
    Ok(version)
}

/// The files that lose rows, with existing marks ∪ new ones.
async fn touch(table: &Table, deletes: &BTreeMap<Uuid, Vec<u32>>) -> Result<Vec<Touched>, LakeError> {
    let mut touched = Vec::with_capacity(deletes.len());
    for (id, rows) in deletes.iter().filter(|(_, rows)| !rows.is_empty()) {
        let Some(before) = table.state.files.get(id) else {
            return Err(LakeError::Conflict(format!("file {id} is not live in version {}", table.state.version)));
        };
        let marked: RoaringTreemap = rows.iter().map(|row| u64::from(*row)).collect();
        if marked.max().is_some_and(|row| row >= before.live.rows) {
            return Err(LakeError::Halted(format!(
                "row {:?} of {} is to be deleted, which has {}: rebuild the index",
                marked.max(),
                before.live.path,
                before.live.rows
            )));
        }
        touched.push(Touched { before: before.clone(), marked });
    }
    let existing: Vec<_> = touched.iter().filter_map(|touched| touched.before.vector.as_ref()).collect();
    let mut existing = deletion::read(&table.store, &table.url, &existing).await?.into_iter();
    for touched in touched.iter_mut().filter(|touched| touched.before.vector.is_some()) {
        let existing = existing.next().unwrap_or_default();
        if !touched.marked.is_disjoint(&existing) {
            // To mark it once more would leave the row that replaced it live: two rows of one identity.
            return Err(LakeError::Conflict(format!("a row of {} is deleted already", touched.before.live.path)));
        }
        touched.marked |= existing;
    }
    Ok(touched)
}

/// Writes all vectors as one file; the actions that put them in force. A file without a live row simply goes.
async fn put_vectors(table: &Table, touched: Vec<Touched>, now: i64) -> Result<Vec<Action>, LakeError> {
    let mut actions: Vec<_> = touched.iter().map(|touched| removed(&touched.before, now)).collect();
    let (kept, rows): (Vec<Entry>, Vec<RoaringTreemap>) = touched
        .into_iter()
        .filter(|touched| touched.marked.len() < touched.before.live.rows)
        .map(|touched| (touched.before, touched.marked))
        .unzip();
    if kept.is_empty() {
        return Ok(actions);
    }
    let file = deletion::to_file(table.world.uuid_v7(), rows)?;
    let path = super::below(&table.root, &file.name)?;
    table.store.put(&path, file.bytes.into()).await?;
    for (mut entry, vector) in kept.into_iter().zip(file.vectors) {
        entry.stats = entry.stats.map(|stats| stats::loosened(&stats).into_boxed_str());
        entry.vector = Some(vector);
        actions.push(added(&entry));
    }
    Ok(actions)
}

fn txns(txns: &BTreeMap<String, i64>, now: i64) -> Vec<Action> {
    let txn =
        |(app_id, version): (&String, &i64)| Txn { app_id: app_id.clone(), version: *version, last_updated: Some(now) };
    txns.iter().map(|entry| Action { txn: Some(txn(entry)), ..Action::default() }).collect()
}

fn added(entry: &Entry) -> Action {
    Action { add: Some(entry.to_add()), ..Action::default() }
}

fn removed(entry: &Entry, now: i64) -> Action {
    let remove = Remove {
        path: partition::to_log_path(&entry.live.path),
        deletion_timestamp: Some(now),
        data_change: true,
        extended_file_metadata: Some(true),
        partition_values: Some(entry.partition_values()),
        size: Some(entry.live.size),
        deletion_vector: entry.vector.clone(),
    };
    Action { remove: Some(remove), ..Action::default() }
}

/// The one put that everything hangs on. Only what is there afterwards says how it ended: an answer may be lost, the
/// client may have asked again after a lost answer and met the commit of its first try, and a store may refuse for a
/// conflict with a put that then fails. No two commits have the same bytes, since each has an id of its own.
async fn put(table: &Table, version: u64, body: Result<Vec<u8>, serde_json::Error>) -> Result<(), LakeError> {
    let body = body.map_err(|error| LakeError::Halted(format!("a commit that is no JSON: {error}")))?;
    let body = Bytes::from(body);
    let path = load::commit_path(&table.root, version);
    let Err(error) = table.store.create(&path, body.clone()).await else { return Ok(()) };
    match table.store.get(&path).await {
        Ok(Some(found)) if found == body => Ok(()),
        Ok(Some(found)) => {
            let by = actions::writer(&found);
            Err(LakeError::Conflict(format!("version {version} exists already, written by {by}")))
        }
        // Should our put come to pass after all, then the next try, which has the same name, meets it.
        Ok(None) => Err(LakeError::not_put(&path, error)),
        Err(also) => Err(LakeError::Conflict(format!("version {version} may be there: {error}; {also}"))),
    }
}
