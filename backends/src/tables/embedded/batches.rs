//! Batches, their facts, and the set of those still landing.

use super::{
    codec::{Key, Parts, damaged, decode, encode},
    failure::Classified,
    state::{State, get},
};
use crate::tables::{Batch, BatchPosition, BatchRow, TablesError};
use fjall::{OwnedWriteBatch, Readable, Snapshot};
use std::collections::BTreeMap;
use tributary_schemas::{
    batch::{BatchStatus, Fact, status},
    frame::BatchEvent,
};

/// A batch's facts with their times.
type Facts = Vec<(Fact, i64)>;

pub(super) fn put(state: &State, row: &BatchRow) -> Result<(), TablesError> {
    let id = batch_key(&row.workspace, &row.batch_id)?;
    let mut batch = state.begin();
    if let Some(old) = get(&state.batches, &id)? {
        // Another time would leave the batch in two places of the order.
        let old: BatchRow = decode(&old, "batch")?;
        batch.remove(&state.batch_order, order_key(&old)?);
        batch.remove(&state.open_batches, open_key(&old)?);
    }
    batch.insert(&state.batches, id, encode(row)?);
    let order = order_key(row)?;
    let facts = facts_of(&state.snapshot(), state, &row.workspace, &row.batch_id)?;
    if is_landing(facts.iter().map(|(fact, _)| fact)) {
        batch.insert(&state.open_batches, open_key(row)?, []);
    }
    batch.insert(&state.batch_order, order, []);
    state.commit(batch)
}

pub(super) fn one(state: &State, workspace: &str, batch_id: &str) -> Result<Option<Batch>, TablesError> {
    find(&state.snapshot(), state, workspace, batch_id)
}

/// Newest first, strictly older than `before`.
pub(super) fn page(
    state: &State,
    workspace: &str,
    limit: usize,
    before: Option<&BatchPosition>,
) -> Result<Vec<Batch>, TablesError> {
    let first = Key::new().text(workspace).done()?;
    let end = match before {
        Some(before) => Key::new().text(workspace).time(before.created_at).last(before.batch_id.as_bytes()).done()?,
        // Past every time: times have eight bytes, this has nine.
        None => Key::new().text(workspace).last(&[0xFF; 9]).done()?,
    };
    let snapshot = state.snapshot();
    let mut page = Vec::new();
    for entry in snapshot.range(&state.batch_order, first..end).rev().take(limit) {
        let key = entry.key().classified()?;
        let mut parts = Parts::of(&key);
        parts.text()?;
        parts.time()?;
        page.push(present(find(&snapshot, state, workspace, parts.last_text()?)?)?);
    }
    Ok(page)
}

/// Writes all facts at once. Of a fact said twice the earlier time stays, whatever the order in which it came.
pub(super) fn add_facts(state: &State, events: &[BatchEvent]) -> Result<(), TablesError> {
    let mut by_batch: BTreeMap<(&str, &str), Vec<&BatchEvent>> = BTreeMap::new();
    for event in events {
        by_batch.entry((&event.workspace, &event.batch_id)).or_default().push(event);
    }
    let snapshot = state.snapshot();
    let mut batch = state.begin();
    for ((workspace, batch_id), events) in by_batch {
        let mut facts: BTreeMap<Fact, i64> = facts_of(&snapshot, state, workspace, batch_id)?.into_iter().collect();
        for event in events {
            add_fact(state, &mut batch, &mut facts, event)?;
        }
        if let Some(row) = get(&state.batches, &batch_key(workspace, batch_id)?)? {
            let open = open_key(&decode(&row, "batch")?)?;
            if is_landing(facts.keys()) {
                batch.insert(&state.open_batches, open, []);
            } else {
                batch.remove(&state.open_batches, open);
            }
        }
    }
    state.commit(batch)
}

fn add_fact(
    state: &State,
    batch: &mut OwnedWriteBatch,
    facts: &mut BTreeMap<Fact, i64>,
    event: &BatchEvent,
) -> Result<(), TablesError> {
    if facts.get(&event.fact).is_some_and(|&known| known <= event.at) {
        return Ok(());
    }
    facts.insert(event.fact.clone(), event.at);
    let row = encode(&(&event.fact, event.at))?;
    let id = encode(&event.fact)?;
    let key = Key::new().text(&event.workspace).text(&event.batch_id).last(&blake3::hash(&id).as_bytes()[..16]);
    batch.insert(&state.facts, key.done()?, row);
    Ok(())
}

/// Batches created before `created_before` that are neither landed nor failed, oldest first.
pub(super) fn landing_before(state: &State, created_before: i64, limit: usize) -> Result<Vec<Batch>, TablesError> {
    let end = Key::new().time(created_before).done()?;
    let snapshot = state.snapshot();
    let mut found = Vec::new();
    for entry in snapshot.range(&state.open_batches, ..end).take(limit) {
        let key = entry.key().classified()?;
        let mut parts = Parts::of(&key);
        parts.time()?;
        let workspace = parts.text()?;
        found.push(present(find(&snapshot, state, workspace, parts.last_text()?)?)?);
    }
    Ok(found)
}

fn find(snapshot: &Snapshot, state: &State, workspace: &str, batch_id: &str) -> Result<Option<Batch>, TablesError> {
    let Some(row) = snapshot.get(&state.batches, batch_key(workspace, batch_id)?).classified()? else {
        return Ok(None);
    };
    let row = decode(&row, "batch")?;
    Ok(Some(Batch { row, facts: facts_of(snapshot, state, workspace, batch_id)? }))
}

/// In the order of their times.
fn facts_of(snapshot: &Snapshot, state: &State, workspace: &str, batch_id: &str) -> Result<Facts, TablesError> {
    let prefix = Key::new().text(workspace).text(batch_id).done()?;
    let mut facts = snapshot
        .prefix(&state.facts, prefix)
        .map(|entry| decode(&entry.value().classified()?, "fact"))
        .collect::<Result<Facts, _>>()?;
    facts.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    Ok(facts)
}

fn present(batch: Option<Batch>) -> Result<Batch, TablesError> {
    batch.ok_or_else(|| damaged("batch", "its row is missing"))
}

/// Without processors, for whether a batch has landed does not depend on them.
fn is_landing<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> bool {
    status(facts, &[]) == BatchStatus::Landing
}

fn batch_key(workspace: &str, batch_id: &str) -> Result<Vec<u8>, TablesError> {
    Key::new().text(workspace).last(batch_id.as_bytes()).done()
}

fn order_key(row: &BatchRow) -> Result<Vec<u8>, TablesError> {
    Key::new().text(&row.workspace).time(row.created_at).last(row.batch_id.as_bytes()).done()
}

fn open_key(row: &BatchRow) -> Result<Vec<u8>, TablesError> {
    Key::new().time(row.created_at).text(&row.workspace).last(row.batch_id.as_bytes()).done()
}
