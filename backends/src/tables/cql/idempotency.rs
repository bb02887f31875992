//! Idempotency keys: held while a request is processed, then with its response until that expires.
//!
//! Every change of a key is a conditional write, for twins race. Each of them names what it found, and leaves behind what
//! tells its own outcome: the owner of the hold. So one whose answer did not come is repeated: if it was applied, the
//! repetition is refused, and the row shows the owner who asks.
//!
//! The servers drop rows by their time to live: what is in the queue when it is due, the key itself an hour later. When
//! [`Idempotency::expire`] comes, there is next to nothing left for it to do.

use super::{
    cluster::{Cluster, all},
    due::{Due, Entry, Queue},
    failure::Failure,
    turns::Turns,
};
use crate::tables::{Hold, Reservation, TablesError};
use scylla::statement::prepared::PreparedStatement;
use uuid::Uuid;

/// Rows that one look at a partition takes.
const SWEEP: usize = 1_000;
/// Requests of one call under way at once.
const WIDTH: usize = 8;
/// Keys stay so many seconds longer than they are good for, lest a server whose clock is ahead drops one too soon.
const MARGIN: i32 = 3_600;
const LEAST_SECONDS: i64 = 60;
/// Servers take a time to live of up to twenty years.
const MOST_SECONDS: i64 = 366 * 86_400;

#[derive(Debug)]
pub(super) struct Idempotency {
    due: Due,
    read: PreparedStatement,
    take: PreparedStatement,
    take_over: PreparedStatement,
    complete: PreparedStatement,
    complete_anew: PreparedStatement,
    release: PreparedStatement,
    expire: PreparedStatement,
    turns: Turns,
}

/// What is stored under a key.
#[derive(Debug)]
struct Stored {
    body_hash: Vec<u8>,
    owner: Uuid,
    /// None when it has outlived its lease, as that of a response may.
    taken_at: Option<i64>,
    /// When the lease ends, or the response expires.
    ends_at: i64,
    response: Option<Vec<u8>>,
}

type Row = (Option<Vec<u8>>, Option<Uuid>, Option<i64>, Option<i64>, Option<Vec<u8>>);

impl Idempotency {
    pub(super) async fn prepare(cluster: &Cluster, keyspace: &str) -> Result<Self, Failure> {
        let (table, of) = (format!("{keyspace}.idempotency"), "WHERE workspace = ? AND key = ?");
        let prepare = |cql: String| cluster.prepare(cql);
        let columns = "workspace, key, body_hash, owner, taken_at, ends_at";
        let read = format!("SELECT body_hash, owner, taken_at, ends_at, response FROM {table} {of}");
        Ok(Self {
            due: Due::prepare(cluster, keyspace).await?,
            read: cluster.prepare_serial(&read).await?,
            take: prepare(format!(
                "INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?"
            ))
            .await?,
            take_over: prepare(format!(
                "UPDATE {table} USING TTL ? SET body_hash = ?, owner = ?, taken_at = ?, ends_at = ?, response = null \
                 {of} IF owner = ? AND ends_at = ?"
            ))
            .await?,
            complete: prepare(format!(
                "UPDATE {table} USING TTL ? SET body_hash = ?, owner = ?, ends_at = ?, response = ? {of} IF owner = ?"
            ))
            .await?,
            complete_anew: prepare(format!(
                "INSERT INTO {table} ({columns}, response) VALUES (?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?"
            ))
            .await?,
            release: prepare(format!("DELETE FROM {table} {of} IF owner = ? AND response = null")).await?,
            expire: prepare(format!("DELETE FROM {table} {of} IF ends_at = ?")).await?,
            turns: Turns::new(),
        })
    }

    pub(super) async fn reserve(
        &self,
        cluster: &Cluster,
        hold: &Hold,
        now: i64,
        lease_until: i64,
    ) -> Result<Reservation, TablesError> {
        let _turn = self.turns.of(&hold.workspace, &hold.key).await;
        let ttl = seconds(lease_until.saturating_sub(now));
        loop {
            let taken = (&hold.workspace, &hold.key, hold.body_hash, hold.owner, now, lease_until, ttl + MARGIN);
            if cluster.applies(&self.take, taken).await? {
                self.note(cluster, hold, lease_until, ttl).await?;
                return Ok(Reservation::Fresh);
            }
            let Some(old) = self.find(cluster, hold).await? else { continue };
            if old.ends_at <= now {
                // Over: whether it is ours now, the next reading tells.
                self.take_over(cluster, hold, &old, hold, (now, lease_until)).await?;
                continue;
            }
            if old.body_hash != hold.body_hash {
                return Ok(Reservation::Mismatch);
            }
            if let Some(response) = old.response {
                return Ok(Reservation::Stored(response));
            }
            if old.owner == hold.owner {
                // This call's own write, or the same call again, which begins another lease.
                let is_same = (old.taken_at, old.ends_at) == (Some(now), lease_until);
                if is_same || self.take_over(cluster, hold, &old, hold, (now, lease_until)).await? {
                    self.note(cluster, hold, lease_until, ttl).await?;
                    return Ok(Reservation::Fresh);
                }
                continue;
            }
            if let Some(taken_at) = old.taken_at.filter(|&taken_at| now < taken_at) {
                // The clock went back: the lease goes on from now, or it would last for as long as the jump is.
                let ends_at = now.saturating_add(old.ends_at.saturating_sub(taken_at));
                let holder = Hold { owner: old.owner, ..hold.clone() };
                if self.take_over(cluster, hold, &old, &holder, (now, ends_at)).await? {
                    self.note(cluster, hold, ends_at, ttl).await?;
                }
            }
            return Ok(Reservation::InFlight);
        }
    }

    /// Puts a hold of `new` in the place of what was found.
    async fn take_over(
        &self,
        cluster: &Cluster,
        hold: &Hold,
        old: &Stored,
        new: &Hold,
        (taken_at, ends_at): (i64, i64),
    ) -> Result<bool, Failure> {
        let ttl = seconds(ends_at.saturating_sub(taken_at)) + MARGIN;
        let (found, key) = ((old.owner, old.ends_at), (&hold.workspace, &hold.key));
        let values = (ttl, new.body_hash, new.owner, taken_at, ends_at, key.0, key.1, found.0, found.1);
        cluster.applies(&self.take_over, values).await
    }

    /// Stores the response unless another request holds the key by now; whether it did.
    pub(super) async fn complete(
        &self,
        cluster: &Cluster,
        hold: &Hold,
        response: &[u8],
        expires_at: i64,
    ) -> Result<bool, TablesError> {
        let _turn = self.turns.of(&hold.workspace, &hold.key).await;
        let ttl = seconds(expires_at.saturating_sub(cluster.world.now_micros()));
        self.note(cluster, hold, expires_at, ttl).await?;
        loop {
            let (workspace, key) = (&hold.workspace, &hold.key);
            let lives = ttl + MARGIN;
            let done = (lives, hold.body_hash, hold.owner, expires_at, response, workspace, key, hold.owner);
            if cluster.applies(&self.complete, done).await? {
                return Ok(true);
            }
            match self.find(cluster, hold).await? {
                Some(found) if found.owner != hold.owner => return Ok(false),
                Some(_) => continue,
                None => {}
            }
            // The lease has ended, and nobody has taken the key since.
            let times = (expires_at, expires_at);
            let anew = (workspace, key, hold.body_hash, hold.owner, times.0, times.1, response, lives);
            if cluster.applies(&self.complete_anew, anew).await? {
                return Ok(true);
            }
        }
    }

    pub(super) async fn release(&self, cluster: &Cluster, hold: &Hold) -> Result<(), TablesError> {
        let _turn = self.turns.of(&hold.workspace, &hold.key).await;
        cluster.applies(&self.release, (&hold.workspace, &hold.key, hold.owner)).await?;
        Ok(())
    }

    /// Drops what ended before `now`; how many.
    pub(super) async fn expire(&self, cluster: &Cluster, now: i64) -> Result<u64, TablesError> {
        let mut total = 0;
        for slot in self.due.slots(cluster, Queue::Idempotency, now).await? {
            let mut after: Option<Entry> = None;
            loop {
                let entries = self.due.entries(cluster, Queue::Idempotency, slot, after.as_ref(), SWEEP).await?;
                let Some(last) = entries.last().cloned() else { break };
                let over = entries.partition_point(|entry| entry.at < now);
                let dropped = all(WIDTH, (0..over).map(|n| self.drop(cluster, &entries[n]))).await?;
                total += dropped.into_iter().filter(|dropped| *dropped).count() as u64;
                if entries.len() < SWEEP || last.at >= now {
                    break;
                }
                after = Some(last);
            }
        }
        Ok(total)
    }

    /// Drops a key that ends when the queue says so; whether it did.
    async fn drop(&self, cluster: &Cluster, over: &Entry) -> Result<bool, Failure> {
        let dropped = cluster.applies(&self.expire, (&over.workspace, &over.name, over.at)).await?;
        self.due.remove(cluster, Queue::Idempotency, over).await?;
        Ok(dropped)
    }

    /// What is there, after every conditional write before this has come to its end.
    async fn find(&self, cluster: &Cluster, hold: &Hold) -> Result<Option<Stored>, Failure> {
        let rows: Vec<Row> = cluster.rows(&self.read, (&hold.workspace, &hold.key)).await?;
        Ok(rows.into_iter().next().and_then(|(body_hash, owner, taken_at, ends_at, response)| {
            Some(Stored { body_hash: body_hash?, owner: owner?, taken_at, ends_at: ends_at?, response })
        }))
    }

    async fn note(&self, cluster: &Cluster, hold: &Hold, at: i64, ttl: i32) -> Result<(), Failure> {
        let entry = Entry { at, workspace: hold.workspace.clone(), name: hold.key.clone() };
        self.due.add(cluster, Queue::Idempotency, &entry, ttl).await
    }
}

/// Seconds to live of what lasts so many microseconds.
fn seconds(micros: i64) -> i32 {
    (micros / 1_000_000 + 1).clamp(LEAST_SECONDS, MOST_SECONDS) as i32
}
