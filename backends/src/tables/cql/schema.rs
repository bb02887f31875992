//! The tables of both keyspaces, and how they come about.
//!
//! Any number of processes may start at once on an empty cluster, and a newer program on the tables of an older one.
//! Servers that create one table at the same time on behalf of different processes can end up with two of it, so one
//! process works and the others wait: `migrations` holds a [`Lock`], and beside it the number of the last migration that
//! was done. Every statement does nothing when what it makes is there, or is refused for that (not every server knows
//! `ALTER TABLE … ADD IF NOT EXISTS`), so a migration that was cut off is simply done again.

use super::{
    cluster::{Cluster, rows, unreadable},
    failure::Failure,
    lock::Lock,
    options::Options,
};
use crate::tables::TablesError;
use scylla::{serialize::row::SerializeRow, value::Row};
use std::time::Duration;
use tokio::time::Instant;

/// One keyspace; migration *n* is `migrations[n - 1]`: statements, in which `{keyspace}` is its name. What was released is
/// never changed.
pub(super) struct Schema {
    pub(super) name: &'static str,
    pub(super) migrations: &'static [&'static [&'static str]],
    /// How long the lock lasts when its holder does not renew it.
    pub(super) lock: Duration,
}

/// The lock of a process that died ends after this long.
const LOCK: Duration = Duration::from_secs(60);

/// Everything but the key index.
pub(super) const STATE: Schema = Schema {
    name: "state",
    lock: LOCK,
    migrations: &[&[
        "CREATE TABLE IF NOT EXISTS {keyspace}.settings (name text PRIMARY KEY, value text)",
        // A workspace's keys are one partition, for their number is limited by one conditional write. `revision` changes
        // with every key that is made.
        "CREATE TABLE IF NOT EXISTS {keyspace}.keys (workspace text, id text, body text, revoked_at bigint, \
         last_used_at bigint, revision uuid static, PRIMARY KEY ((workspace), id))",
        "CREATE TABLE IF NOT EXISTS {keyspace}.key_ids (id text PRIMARY KEY, workspace text)",
        "CREATE TABLE IF NOT EXISTS {keyspace}.key_hashes (hash blob PRIMARY KEY, workspace text, id text)",
        // The batch as accepted, once, and a row for each fact.
        "CREATE TABLE IF NOT EXISTS {keyspace}.batches (workspace text, batch_id text, body text static, fact blob, \
         said text, at bigint, PRIMARY KEY ((workspace, batch_id), fact))",
        "CREATE TABLE IF NOT EXISTS {keyspace}.batch_order (workspace text, hour bigint, created_at bigint, batch_id \
         text, PRIMARY KEY ((workspace, hour), created_at, batch_id)) WITH CLUSTERING ORDER BY (created_at DESC, \
         batch_id DESC)",
        "CREATE TABLE IF NOT EXISTS {keyspace}.batch_hours (workspace text, hour bigint, PRIMARY KEY ((workspace), \
         hour)) WITH CLUSTERING ORDER BY (hour DESC)",
        "CREATE TABLE IF NOT EXISTS {keyspace}.rejects (workspace text, batch_id text, record_index bigint, body \
         text, PRIMARY KEY ((workspace, batch_id), record_index))",
        "CREATE TABLE IF NOT EXISTS {keyspace}.attachments (workspace text, batch_id text, record_index bigint, n \
         bigint, body text, PRIMARY KEY ((workspace, batch_id), record_index, n))",
        "CREATE TABLE IF NOT EXISTS {keyspace}.idempotency (workspace text, key text, body_hash blob, owner uuid, \
         taken_at bigint, ends_at bigint, response blob, PRIMARY KEY ((workspace, key)))",
        // Rows come and go. One that comes back, because a server slept through its removal for longer than this, is
        // found to be over and removed again.
        "CREATE TABLE IF NOT EXISTS {keyspace}.due (queue text, shard int, minute bigint, at bigint, workspace text, \
         name text, PRIMARY KEY ((queue, shard, minute), at, workspace, name)) WITH gc_grace_seconds = 10800",
        // Every few seconds another in the place of the last.
        "CREATE TABLE IF NOT EXISTS {keyspace}.notes (board text, process uuid, note blob, PRIMARY KEY \
         ((board), process)) WITH gc_grace_seconds = 3600",
        "CREATE TABLE IF NOT EXISTS {keyspace}.due_minutes (queue text, shard int, minute bigint, marked boolean, \
         PRIMARY KEY ((queue, shard), minute)) WITH gc_grace_seconds = 10800",
    ]],
};

/// The key index.
pub(super) const INDEX: Schema = Schema {
    name: "key index",
    lock: LOCK,
    migrations: &[&[
        "CREATE TABLE IF NOT EXISTS {keyspace}.parts (workspace text, lane bigint, generation uuid, bits int, dropped \
         map<uuid, int>, watermark blob, PRIMARY KEY ((workspace, lane)))",
        // Keys are overwritten at random; leveled compaction bounds the files that a read touches.
        "CREATE TABLE IF NOT EXISTS {keyspace}.locations (generation uuid, bucket int, key blob, location blob, \
         PRIMARY KEY ((generation, bucket), key)) WITH compaction = {'class': 'LeveledCompactionStrategy'}",
    ]],
};

const ASK_EVERY: Duration = Duration::from_millis(100);

/// Brings a keyspace to what this program needs.
pub(super) async fn ensure(
    cluster: &Cluster,
    schema: &Schema,
    keyspace: &str,
    options: &Options,
) -> Result<(), TablesError> {
    let ensuring = Ensuring { cluster, schema, keyspace };
    if ensuring.is_done().await? {
        return Ok(());
    }
    ensuring.make_keyspace(options).await?;
    let lock = Lock::new(cluster, keyspace, schema.lock);
    lock.make_table().await?;
    agree(cluster).await?;
    let deadline = Instant::now() + options.start_timeout + schema.lock;
    while !ensuring.is_done().await? {
        if let Some(taken) = lock.take().await? {
            if lock.keep(taken, ensuring.migrate()).await?.is_some() {
                lock.release().await?;
            }
        } else if Instant::now() > deadline {
            return Err(TablesError::Unavailable(format!(
                "another process has begun to make {keyspace} and not ended"
            )));
        } else {
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
    agree(cluster).await
}

/// Waits until all servers know the same tables, and this process knows how they are copied.
async fn agree(cluster: &Cluster) -> Result<(), TablesError> {
    let unclear = |why: String| TablesError::Unavailable(format!("the CQL servers do not agree on the tables: {why}"));
    cluster.session().await_schema_agreement().await.map_err(|error| unclear(error.to_string()))?;
    cluster.session().refresh_metadata().await.map_err(|error| unclear(error.to_string()))
}

struct Ensuring<'a> {
    cluster: &'a Cluster,
    schema: &'a Schema,
    keyspace: &'a str,
}

impl Ensuring<'_> {
    /// Whether nothing is left to do.
    async fn is_done(&self) -> Result<bool, TablesError> {
        let (done, known) = (self.version().await?, self.schema.migrations.len());
        if done > known {
            return Err(TablesError::Halted(format!(
                "the tables of the {} in {} are of version {done}, made by a newer program: run that one",
                self.schema.name, self.keyspace
            )));
        }
        Ok(done == known)
    }

    /// The last migration that was done, 0 when there is none.
    async fn version(&self) -> Result<usize, TablesError> {
        let asked = format!("SELECT version FROM {}.migrations WHERE name = 'schema'", self.keyspace);
        match self.ask(&asked, ()).await {
            Ok(rows) => {
                let first = rows.first().and_then(|row| row.columns.first());
                Ok(first.and_then(|version| version.as_ref()?.as_int()).map_or(0, |version| version as usize))
            }
            Err(Failure::Missing(_)) => Ok(0),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Only when there is none, for making one takes a right that the user may not have.
    async fn make_keyspace(&self, options: &Options) -> Result<(), TablesError> {
        let asked = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
        if !self.ask(asked, (self.keyspace,)).await?.is_empty() {
            return Ok(());
        }
        let nodes = self.cluster.nodes(options.datacenter.as_deref());
        let copies = options.replication.map_or(nodes.clamp(1, 3), |wanted| wanted as usize);
        let place = options.datacenter.as_deref().unwrap_or("replication_factor").replace('\'', "''");
        let keyspace = format!(
            "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', '{place}': {copies}}}",
            self.keyspace
        );
        self.ask(&keyspace, ()).await?;
        Ok(())
    }

    async fn migrate(&self) -> Result<(), TablesError> {
        let done = self.version().await?;
        for (n, migration) in (1..).zip(self.schema.migrations).skip(done) {
            for statement in *migration {
                match self.ask(&statement.replace("{keyspace}", self.keyspace), ()).await {
                    Ok(_) | Err(Failure::There(_)) => {}
                    Err(failure) => return Err(failure.into()),
                }
            }
            agree(self.cluster).await?;
            let note = format!("INSERT INTO {}.migrations (name, version) VALUES ('schema', {n})", self.keyspace);
            self.ask(&note, ()).await?;
            tracing::info!(keyspace = self.keyspace, version = n, "made the CQL tables");
        }
        Ok(())
    }

    async fn ask(&self, cql: &str, values: impl SerializeRow) -> Result<Vec<Row>, Failure> {
        let result = self.cluster.query(cql.into(), values).await?;
        if result.is_rows() { rows(result) } else { result.result_not_rows().map_err(unreadable).map(|()| Vec::new()) }
    }
}
