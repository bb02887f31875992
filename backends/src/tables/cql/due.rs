//! What has to be looked at when a time has come: batches that have not landed, idempotency keys that end.
//!
//! A queue whose rows are deleted is slow to read from its beginning: every row that ever was leaves a mark behind. So
//! the rows of a minute, spread over [`SHARDS`] shards by their names, are a partition of their own, and `due_minutes`
//! says which of these partitions there are. One that is found empty is closed, and never read again.
//!
//! **Nothing is lost when one is closed while a row comes in**, without any lock. [`Due::add`] writes the row, and then
//! the minute. [`Due::entries`] reads the minute with the time of its last writing, then the rows, and deletes the minute
//! as of that time. A row that was not seen was written after the rows were read, so its minute is written later still,
//! and the deletion does not reach it. (Clocks of two servers would have to differ by the age of the minute for it to go
//! wrong; those of a CQL cluster must be far closer anyway.)
//!
//! Rows are hints: whoever finds one asks the batch, or the key, whether it is still so. Hence a row that is left behind,
//! or comes back, does no harm.

use super::{
    cluster::{Cluster, all},
    failure::Failure,
};
use scylla::statement::prepared::PreparedStatement;
use xxhash_rust::xxh3::xxh3_64;

/// Partitions of one minute: a thousand rows a second are then some 7,500 in each.
const SHARDS: i32 = 8;
/// Minutes of one shard that one call looks at; the next call goes on where they have been closed.
const MINUTES: i32 = 1_000;

/// Which one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Queue {
    /// Batches that may not have landed, at their creation in milliseconds.
    Landing,
    /// Idempotency keys, at the microsecond when they end.
    Idempotency,
}

impl Queue {
    fn name(self) -> &'static str {
        match self {
            Self::Landing => "landing",
            Self::Idempotency => "idempotency",
        }
    }

    fn minute(self, at: i64) -> i64 {
        at.div_euclid(match self {
            Self::Landing => 60_000,
            Self::Idempotency => 60_000_000,
        })
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: i64,
    pub(super) workspace: String,
    pub(super) name: String,
}

impl Entry {
    /// Never to be changed: it is where the row is looked for.
    fn shard(&self) -> i32 {
        (xxh3_64(self.name.as_bytes()) % SHARDS as u64) as i32
    }
}

/// One partition, with the time of its minute's last writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    minute: i64,
    shard: i32,
    marked_at: i64,
}

#[derive(Debug)]
pub(super) struct Due {
    add: PreparedStatement,
    mark: PreparedStatement,
    remove: PreparedStatement,
    minutes: PreparedStatement,
    entries: PreparedStatement,
    close: PreparedStatement,
}

impl Due {
    pub(super) async fn prepare(cluster: &Cluster, keyspace: &str) -> Result<Self, Failure> {
        let (due, minutes) = (format!("{keyspace}.due"), format!("{keyspace}.due_minutes"));
        let prepare = |cql: String| cluster.prepare(cql);
        let slot = "WHERE queue = ? AND shard = ? AND minute = ?";
        Ok(Self {
            add: prepare(format!(
                "INSERT INTO {due} (queue, shard, minute, at, workspace, name) VALUES (?, ?, ?, ?, ?, ?) USING TTL ?"
            ))
            .await?,
            mark: prepare(format!(
                "INSERT INTO {minutes} (queue, shard, minute, marked) VALUES (?, ?, ?, true) USING TTL ?"
            ))
            .await?,
            remove: prepare(format!("DELETE FROM {due} {slot} AND at = ? AND workspace = ? AND name = ?")).await?,
            minutes: prepare(format!(
                "SELECT minute, WRITETIME(marked) FROM {minutes} WHERE queue = ? AND shard = ? AND minute <= ? \
                 LIMIT {MINUTES}"
            ))
            .await?,
            entries: prepare(format!(
                "SELECT at, workspace, name FROM {due} {slot} AND (at, workspace, name) > (?, ?, ?) LIMIT ?"
            ))
            .await?,
            close: prepare(format!("DELETE FROM {minutes} USING TIMESTAMP ? {slot}")).await?,
        })
    }

    /// Adds a row, which after `ttl` seconds (0: never) is gone by itself.
    pub(super) async fn add(&self, cluster: &Cluster, queue: Queue, entry: &Entry, ttl: i32) -> Result<(), Failure> {
        let (name, shard, minute) = (queue.name(), entry.shard(), queue.minute(entry.at));
        cluster.write(&self.add, (name, shard, minute, entry.at, &entry.workspace, &entry.name, ttl)).await?;
        cluster.write(&self.mark, (name, shard, minute, ttl)).await
    }

    pub(super) async fn remove(&self, cluster: &Cluster, queue: Queue, entry: &Entry) -> Result<(), Failure> {
        let slot = (queue.name(), entry.shard(), queue.minute(entry.at));
        let values = (slot.0, slot.1, slot.2, entry.at, &entry.workspace, &entry.name);
        cluster.write(&self.remove, values).await
    }

    /// Partitions with rows from before `before`, perhaps; the oldest first.
    pub(super) async fn slots(&self, cluster: &Cluster, queue: Queue, before: i64) -> Result<Vec<Slot>, Failure> {
        let Some(last) = before.checked_sub(1).map(|last| queue.minute(last)) else { return Ok(Vec::new()) };
        let shards = (0..SHARDS).map(|shard| async move {
            let minutes: Vec<(i64, i64)> = cluster.rows(&self.minutes, (queue.name(), shard, last)).await?;
            Ok::<_, Failure>(minutes.into_iter().map(move |(minute, marked_at)| Slot { minute, shard, marked_at }))
        });
        let mut slots: Vec<Slot> = all(SHARDS as usize, shards).await?.into_iter().flatten().collect();
        slots.sort_unstable();
        Ok(slots)
    }

    /// Up to `limit` rows of a partition behind `after`, the oldest first. One without rows is closed.
    pub(super) async fn entries(
        &self,
        cluster: &Cluster,
        queue: Queue,
        slot: Slot,
        after: Option<&Entry>,
        limit: usize,
    ) -> Result<Vec<Entry>, Failure> {
        let (at, workspace, name) =
            after.map_or((i64::MIN, "", ""), |after| (after.at, after.workspace.as_str(), after.name.as_str()));
        let limit = i32::try_from(limit.max(1)).unwrap_or(i32::MAX);
        let values = (queue.name(), slot.shard, slot.minute, at, workspace, name, limit);
        let rows: Vec<(i64, String, String)> = cluster.rows(&self.entries, values).await?;
        if rows.is_empty() && after.is_none() {
            cluster.write(&self.close, (slot.marked_at, queue.name(), slot.shard, slot.minute)).await?;
        }
        Ok(rows.into_iter().map(|(at, workspace, name)| Entry { at, workspace, name }).collect())
    }
}
