//! API keys.
//!
//! A workspace's keys are one partition with a `revision`, which changes with every key that is made. A key is made on
//! the condition that the revision is still the one at which its maker counted: so of makers at the same time one goes
//! first, and the others count again. Two more tables find a key by its hash and by its id. They are written before the
//! key, for a key that was made must work and must be revocable; a row in them without its key means nothing.
//!
//! A revocation is a plain write under a time stamp that is the greater the earlier it was, so the first one stays.

use super::{cluster::Cluster, failure::Failure, json, turns::Turns};
use crate::tables::{ApiKey, TablesError};
use scylla::statement::{Consistency, prepared::PreparedStatement};
use uuid::Uuid;

/// A use within this many microseconds of the one noted is not noted again.
const TOUCH_EVERY: i64 = 60_000_000;

#[derive(Debug)]
pub(super) struct Keys {
    of_workspace: PreparedStatement,
    count: PreparedStatement,
    all: PreparedStatement,
    one: PreparedStatement,
    by_id: PreparedStatement,
    by_hash: PreparedStatement,
    name_id: PreparedStatement,
    name_hash: PreparedStatement,
    create: PreparedStatement,
    revoke: PreparedStatement,
    touch: PreparedStatement,
    turns: Turns,
}

/// Body, when it was revoked, when it was last used. A row without a body is no key.
type Stored = (Option<String>, Option<i64>, Option<i64>);
/// A key and its workspace's revision.
type Counted = (Option<String>, Option<i64>, Option<i64>, Option<Uuid>);

impl Keys {
    pub(super) async fn prepare(cluster: &Cluster, keyspace: &str) -> Result<Self, Failure> {
        let stored = "SELECT body, revoked_at, last_used_at";
        let prepare = |cql: String| cluster.prepare(cql);
        let count = format!("{stored}, revision FROM {keyspace}.keys WHERE workspace = ?");
        let mut touch = prepare(format!(
            "UPDATE {keyspace}.keys USING TIMESTAMP ? SET last_used_at = ? WHERE workspace = ? AND id = ?"
        ))
        .await?;
        // A note that is lost breaks no promise.
        touch.set_consistency(Consistency::LocalOne);
        Ok(Self {
            of_workspace: prepare(format!("{stored} FROM {keyspace}.keys WHERE workspace = ?")).await?,
            count: cluster.prepare_serial(&count).await?,
            all: prepare(format!("{stored} FROM {keyspace}.keys")).await?,
            one: prepare(format!("{stored} FROM {keyspace}.keys WHERE workspace = ? AND id = ?")).await?,
            by_id: prepare(format!("SELECT workspace FROM {keyspace}.key_ids WHERE id = ?")).await?,
            by_hash: prepare(format!("SELECT workspace, id FROM {keyspace}.key_hashes WHERE hash = ?")).await?,
            name_id: prepare(format!("INSERT INTO {keyspace}.key_ids (id, workspace) VALUES (?, ?)")).await?,
            name_hash: prepare(format!("INSERT INTO {keyspace}.key_hashes (hash, workspace, id) VALUES (?, ?, ?)"))
                .await?,
            create: prepare(format!(
                "UPDATE {keyspace}.keys SET revision = ?, body = ? WHERE workspace = ? AND id = ? IF revision = ?"
            ))
            .await?,
            revoke: prepare(format!(
                "UPDATE {keyspace}.keys USING TIMESTAMP ? SET revoked_at = ? WHERE workspace = ? AND id = ?"
            ))
            .await?,
            touch,
            turns: Turns::new(),
        })
    }

    pub(super) async fn create(&self, cluster: &Cluster, key: &ApiKey, limit: usize) -> Result<(), TablesError> {
        self.check_names(cluster, key).await?;
        let body = json::encode(key)?;
        let _turn = self.turns.of(&key.workspace, "").await;
        let mut named = false;
        // A turn that is lost was won by another process, so this ends at the limit at the latest.
        loop {
            let (keys, revision) = self.count(cluster, &key.workspace).await?;
            if let Some(existing) = keys.iter().find(|existing| existing.id == key.id) {
                // The same call again, or its own write of which it did not hear: it must not take a second place, nor
                // undo what came since. Its names may be missing no more than its row.
                return if existing.hash == key.hash { Ok(()) } else { Err(taken(&key.id)) };
            }
            if keys.iter().filter(|key| key.revoked_at.is_none()).count() >= limit {
                return Err(TablesError::KeyLimit { workspace: key.workspace.clone(), limit });
            }
            if !named {
                cluster.write(&self.name_id, (&key.id, &key.workspace)).await?;
                cluster.write(&self.name_hash, (key.hash, &key.workspace, &key.id)).await?;
                named = true;
            }
            let values = (cluster.world.uuid_v7(), &body, &key.workspace, &key.id, revision);
            if cluster.applies(&self.create, values).await? {
                return Ok(());
            }
        }
    }

    /// Refuses a key whose id or hash is that of another: ids and keys are random, so this is a mistake.
    async fn check_names(&self, cluster: &Cluster, key: &ApiKey) -> Result<(), TablesError> {
        if let Some(other) = self.by_hash(cluster, &key.hash).await?
            && other.id != key.id
        {
            return Err(TablesError::Halted("this key belongs to another id already: make a new one".to_owned()));
        }
        match self.by_id(cluster, &key.id).await? {
            Some(other) if other.workspace != key.workspace || other.hash != key.hash => Err(taken(&key.id)),
            _ => Ok(()),
        }
    }

    async fn count(&self, cluster: &Cluster, workspace: &str) -> Result<(Vec<ApiKey>, Option<Uuid>), TablesError> {
        let rows: Vec<Counted> = cluster.rows(&self.count, (workspace,)).await?;
        let revision = rows.first().and_then(|row| row.3);
        let keys = rows.into_iter().filter_map(|(body, revoked, used, _)| read((body, revoked, used)).transpose());
        Ok((keys.collect::<Result<_, _>>()?, revision))
    }

    /// Oldest first.
    pub(super) async fn list(&self, cluster: &Cluster, workspace: Option<&str>) -> Result<Vec<ApiKey>, TablesError> {
        let mut rows: Vec<Stored> = Vec::new();
        let each = |page| {
            rows.extend(super::cluster::rows::<Stored>(page)?);
            Ok(())
        };
        match workspace {
            Some(workspace) => cluster.pages(&self.of_workspace, (workspace,), each).await?,
            None => cluster.pages(&self.all, (), each).await?,
        }
        let keys: Result<Vec<_>, _> = rows.into_iter().filter_map(|row| read(row).transpose()).collect();
        let mut keys = keys?;
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(keys)
    }

    pub(super) async fn by_hash(&self, cluster: &Cluster, hash: &[u8; 32]) -> Result<Option<ApiKey>, TablesError> {
        let named: Vec<(String, String)> = cluster.rows(&self.by_hash, (hash,)).await?;
        let Some((workspace, id)) = named.first() else { return Ok(None) };
        Ok(self.one(cluster, workspace, id).await?.filter(|key| key.hash == *hash))
    }

    async fn by_id(&self, cluster: &Cluster, id: &str) -> Result<Option<ApiKey>, TablesError> {
        let named: Vec<(String,)> = cluster.rows(&self.by_id, (id,)).await?;
        let Some((workspace,)) = named.first() else { return Ok(None) };
        self.one(cluster, workspace, id).await
    }

    async fn one(&self, cluster: &Cluster, workspace: &str, id: &str) -> Result<Option<ApiKey>, TablesError> {
        let rows: Vec<Stored> = cluster.rows(&self.one, (workspace, id)).await?;
        rows.into_iter().next().map_or(Ok(None), read)
    }

    /// False when there is no such key.
    pub(super) async fn revoke(&self, cluster: &Cluster, id: &str, at: i64) -> Result<bool, TablesError> {
        let Some(key) = self.by_id(cluster, id).await? else { return Ok(false) };
        if key.revoked_at.is_none() {
            cluster.write(&self.revoke, (earlier_wins(at), at, &key.workspace, id)).await?;
        }
        Ok(true)
    }

    pub(super) async fn touch(&self, cluster: &Cluster, id: &str, at: i64) -> Result<(), TablesError> {
        let Some(key) = self.by_id(cluster, id).await? else { return Ok(()) };
        if key.last_used_at.is_none_or(|noted| at.saturating_sub(noted) >= TOUCH_EVERY) {
            cluster.write(&self.touch, (at, at, &key.workspace, id)).await?;
        }
        Ok(())
    }
}

/// The time stamp under which the earlier of two writes stays.
pub(super) fn earlier_wins(at: i64) -> i64 {
    at.saturating_neg()
}

fn read((body, revoked_at, last_used_at): Stored) -> Result<Option<ApiKey>, TablesError> {
    let Some(body) = body else { return Ok(None) };
    let key: ApiKey = json::decode(&body, "API key")?;
    Ok(Some(ApiKey {
        revoked_at: revoked_at.or(key.revoked_at),
        last_used_at: last_used_at.or(key.last_used_at),
        ..key
    }))
}

fn taken(id: &str) -> TablesError {
    TablesError::Halted(format!("there is another key {id} already: make a new one"))
}
