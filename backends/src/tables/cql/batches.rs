//! Batches and their facts.
//!
//! A batch is a partition: the row as it was accepted, once, and a row for each fact. Facts need no row to come first. A
//! fact's time stamp is the greater the earlier it was, so of one that is said twice the first time stays. Two more
//! tables say where to look for a batch:
//!
//! - `batch_order` has a partition for each workspace and hour, newest first, and `batch_hours` the hours of a workspace
//!   in which something was accepted. A page walks from hour to hour.
//! - [`Due`] has what may be landing. It is written before the row, so that every batch that was accepted is in it; and
//!   removed by whoever finds that the batch has ended, be it who adds the facts or who looks for overdue batches.
//!
//! Both are written before the row, and point nowhere when the row did not come: then nothing was accepted.

use super::{
    cluster::{Cluster, all},
    due::{Due, Entry, Queue},
    failure::Failure,
    json,
    keys::earlier_wins,
};
use crate::tables::{Batch, BatchPosition, BatchRow, TablesError};
use futures::{StreamExt, TryStreamExt, stream};
use scylla::statement::prepared::PreparedStatement;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tributary_schemas::{
    batch::{BatchStatus, Fact, status},
    frame::BatchEvent,
};

/// Requests of one call under way at once.
const WIDTH: usize = 32;
const HOUR: i64 = 3_600_000;
/// Hours that one request asks for.
const HOURS: usize = 64;
/// Hours that are read at once when one alone has not filled a page.
const AT_ONCE: usize = 8;
/// Hours known to be written down, before they are forgotten and written again.
const KNOWN_HOURS: usize = 10_000;
/// A row in the queue whose batch is not there belongs to one that is being accepted, or never was: after this many
/// milliseconds nobody is accepting it any more.
const NEVER_CAME: i64 = 24 * HOUR;

#[derive(Debug)]
pub(super) struct Batches {
    due: Due,
    put: PreparedStatement,
    put_place: PreparedStatement,
    put_hour: PreparedStatement,
    put_fact: PreparedStatement,
    read: PreparedStatement,
    hours: PreparedStatement,
    places: PreparedStatement,
    /// Hours that are written down for certain.
    known_hours: Mutex<HashSet<(String, i64)>>,
}

/// Body, fact, its time.
type Stored = (Option<String>, Option<String>, Option<i64>);

impl Batches {
    pub(super) async fn prepare(cluster: &Cluster, keyspace: &str) -> Result<Self, Failure> {
        let prepare = |cql: String| cluster.prepare(cql);
        Ok(Self {
            due: Due::prepare(cluster, keyspace).await?,
            put: prepare(format!("INSERT INTO {keyspace}.batches (workspace, batch_id, body) VALUES (?, ?, ?)"))
                .await?,
            put_place: prepare(format!(
                "INSERT INTO {keyspace}.batch_order (workspace, hour, created_at, batch_id) VALUES (?, ?, ?, ?)"
            ))
            .await?,
            put_hour: prepare(format!("INSERT INTO {keyspace}.batch_hours (workspace, hour) VALUES (?, ?)")).await?,
            put_fact: prepare(format!(
                "INSERT INTO {keyspace}.batches (workspace, batch_id, fact, said, at) VALUES (?, ?, ?, ?, ?) \
                 USING TIMESTAMP ?"
            ))
            .await?,
            read: prepare(format!(
                "SELECT body, said, at FROM {keyspace}.batches WHERE workspace = ? AND batch_id = ?"
            ))
            .await?,
            hours: prepare(format!(
                "SELECT hour FROM {keyspace}.batch_hours WHERE workspace = ? AND hour <= ? LIMIT {HOURS}"
            ))
            .await?,
            places: prepare(format!(
                "SELECT created_at, batch_id FROM {keyspace}.batch_order WHERE workspace = ? AND hour = ? \
                 AND (created_at, batch_id) < (?, ?) LIMIT ?"
            ))
            .await?,
            known_hours: Mutex::default(),
        })
    }

    pub(super) async fn put(&self, cluster: &Cluster, row: &BatchRow) -> Result<(), TablesError> {
        let body = json::encode(row)?;
        let entry = entry(row);
        tokio::try_join!(self.due.add(cluster, Queue::Landing, &entry, 0), self.list(cluster, row))?;
        cluster.write(&self.put, (&row.workspace, &row.batch_id, body)).await?;
        Ok(())
    }

    /// Writes where the batch stands in its workspace's order.
    async fn list(&self, cluster: &Cluster, row: &BatchRow) -> Result<(), Failure> {
        let hour = row.created_at.div_euclid(HOUR);
        let known = (row.workspace.clone(), hour);
        if !self.known_hours().contains(&known) {
            cluster.write(&self.put_hour, (&row.workspace, hour)).await?;
            let mut hours = self.known_hours();
            if hours.len() >= KNOWN_HOURS {
                hours.clear();
            }
            hours.insert(known);
        }
        cluster.write(&self.put_place, (&row.workspace, hour, row.created_at, &row.batch_id)).await
    }

    fn known_hours(&self) -> MutexGuard<'_, HashSet<(String, i64)>> {
        self.known_hours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn one(
        &self,
        cluster: &Cluster,
        workspace: &str,
        batch_id: &str,
    ) -> Result<Option<Batch>, TablesError> {
        let rows: Vec<Stored> = cluster.rows(&self.read, (workspace, batch_id)).await?;
        let Some((Some(body), ..)) = rows.first() else { return Ok(None) };
        let row = json::decode(body, "batch")?;
        let facts = rows.iter().filter_map(|(_, said, at)| Some((said.as_ref()?, (*at)?)));
        let facts = facts.map(|(said, at)| Ok((json::decode(said, "fact")?, at)));
        let mut facts = facts.collect::<Result<Vec<(Fact, i64)>, TablesError>>()?;
        facts.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        Ok(Some(Batch { row, facts }))
    }

    /// Newest first, strictly older than `before`.
    pub(super) async fn page(
        &self,
        cluster: &Cluster,
        workspace: &str,
        limit: usize,
        before: Option<&BatchPosition>,
    ) -> Result<Vec<Batch>, TablesError> {
        // There is no batch at the end of time.
        let (at, id) = before.map_or((i64::MAX, ""), |before| (before.created_at, before.batch_id.as_str()));
        let (mut page, mut from) = (Vec::new(), at.div_euclid(HOUR));
        while page.len() < limit {
            let hours: Vec<(i64,)> = cluster.rows(&self.hours, (workspace, from)).await?;
            let Some(&(last,)) = hours.last() else { break };
            let (first, rest) = hours.split_at(1);
            for (hours, at_once) in [(first, 1), (rest, AT_ONCE)] {
                let walk = Walk { batches: self, cluster, workspace, before: (at, id), limit };
                walk.hours(hours, at_once, &mut page).await?;
            }
            from = last - 1;
        }
        Ok(page)
    }

    /// Adds facts. Those of one batch are written together.
    pub(super) async fn add_facts(&self, cluster: &Cluster, events: &[BatchEvent]) -> Result<(), TablesError> {
        let mut by_batch: BTreeMap<(&str, &str), Vec<&BatchEvent>> = BTreeMap::new();
        for event in events {
            by_batch.entry((&event.workspace, &event.batch_id)).or_default().push(event);
        }
        let by_batch: Vec<_> = by_batch.into_iter().collect();
        let added = (0..by_batch.len()).map(|n| {
            let by_batch = &by_batch;
            async move {
                let ((workspace, batch_id), events) = &by_batch[n];
                let rows = events.iter().map(|event| fact_row(event)).collect::<Result<Vec<_>, TablesError>>()?;
                cluster.write_together(&self.put_fact, &rows).await?;
                match self.one(cluster, workspace, batch_id).await? {
                    Some(batch) if !is_landing(&batch) => {
                        Ok(self.due.remove(cluster, Queue::Landing, &entry(&batch.row)).await?)
                    }
                    // Without a row yet, or landing: whoever looks for overdue batches will find out.
                    _ => Ok::<_, TablesError>(()),
                }
            }
        });
        all(WIDTH, added).await.map(drop)
    }

    /// Batches created before `created_before` that are neither landed nor failed, by the minute oldest first.
    pub(super) async fn landing_before(
        &self,
        cluster: &Cluster,
        created_before: i64,
        limit: usize,
    ) -> Result<Vec<Batch>, TablesError> {
        let mut found = Vec::new();
        for slot in self.due.slots(cluster, Queue::Landing, created_before).await? {
            let mut after: Option<Entry> = None;
            loop {
                let wanted = limit.saturating_sub(found.len());
                if wanted == 0 {
                    return Ok(found);
                }
                let entries = self.due.entries(cluster, Queue::Landing, slot, after.as_ref(), wanted).await?;
                let Some(last) = entries.last().cloned() else { break };
                let is_last = entries.len() < wanted || last.at >= created_before;
                let due = entries.into_iter().filter(|entry| entry.at < created_before);
                let landing = all(WIDTH, due.map(|entry| self.check(cluster, entry))).await?;
                found.extend(landing.into_iter().flatten());
                if is_last {
                    break;
                }
                after = Some(last);
            }
        }
        Ok(found)
    }

    /// The batch of a row of the queue, when it is landing. Otherwise the row goes, unless the batch may still come.
    async fn check(&self, cluster: &Cluster, due: Entry) -> Result<Option<Batch>, TablesError> {
        let batch = self.one(cluster, &due.workspace, &due.name).await?;
        let here = batch.filter(|batch| batch.row.created_at == due.at);
        let over = match &here {
            Some(batch) => !is_landing(batch),
            None => due.at < cluster.world.now_micros() / 1_000 - NEVER_CAME,
        };
        if over {
            self.due.remove(cluster, Queue::Landing, &due).await?;
        }
        Ok(here.filter(|_| !over))
    }
}

/// One page's way through the hours.
struct Walk<'a> {
    batches: &'a Batches,
    cluster: &'a Cluster,
    workspace: &'a str,
    before: (i64, &'a str),
    limit: usize,
}

impl Walk<'_> {
    /// Adds what these hours have, newest first, until the page is full.
    async fn hours(&self, hours: &[(i64,)], at_once: usize, page: &mut Vec<Batch>) -> Result<(), TablesError> {
        let first = hours.iter().copied().map(|(hour,)| async move {
            Ok::<_, TablesError>((hour, self.places(hour, self.before.0, self.before.1).await?))
        });
        let mut first = std::pin::pin!(stream::iter(first).buffered(at_once));
        while page.len() < self.limit {
            let Some((hour, mut places)) = first.try_next().await? else { break };
            loop {
                let full = places.len() == self.limit;
                let last = places.last().cloned();
                self.fetch(places, page).await?;
                match last {
                    // Some places led nowhere.
                    Some((at, id)) if full && page.len() < self.limit => places = self.places(hour, at, &id).await?,
                    _ => break,
                }
            }
        }
        page.truncate(self.limit);
        Ok(())
    }

    async fn places(&self, hour: i64, at: i64, id: &str) -> Result<Vec<(i64, String)>, Failure> {
        let limit = i32::try_from(self.limit).unwrap_or(i32::MAX);
        self.cluster.rows(&self.batches.places, (self.workspace, hour, at, id, limit)).await
    }

    async fn fetch(&self, places: Vec<(i64, String)>, page: &mut Vec<Batch>) -> Result<(), TablesError> {
        let wanted = self.limit - page.len();
        let batches = (0..places.len()).map(|n| self.batches.one(self.cluster, self.workspace, &places[n].1));
        let mut batches = std::pin::pin!(stream::iter(batches).buffered(wanted.clamp(1, WIDTH)));
        for (at, _) in &places {
            let Some(batch) = batches.try_next().await? else { break };
            // Without a row it was not accepted; with another time it stands elsewhere.
            page.extend(batch.filter(|batch| batch.row.created_at == *at));
            if page.len() >= self.limit {
                break;
            }
        }
        Ok(())
    }
}

type FactRow = (String, String, [u8; 16], String, i64, i64);

/// Under the hash of what it says, for that may be longer than a key can be.
fn fact_row(event: &BatchEvent) -> Result<FactRow, TablesError> {
    let said = json::encode(&event.fact)?;
    let mut fact = [0; 16];
    fact.copy_from_slice(&blake3::hash(said.as_bytes()).as_bytes()[..16]);
    Ok((event.workspace.clone(), event.batch_id.clone(), fact, said, event.at, earlier_wins(event.at)))
}

fn entry(row: &BatchRow) -> Entry {
    Entry { at: row.created_at, workspace: row.workspace.clone(), name: row.batch_id.clone() }
}

/// Without processors, for whether a batch has landed does not depend on them.
fn is_landing(batch: &Batch) -> bool {
    status(batch.facts.iter().map(|(fact, _)| fact), &[]) == BatchStatus::Landing
}
