//! The tables on ScyllaDB or Cassandra, for any number of processes.
//!
//! | what the port says | how it is kept here |
//! |---|---|
//! | [`Keys`] | a workspace's keys are one partition; made on a condition [`keys`] |
//! | [`Batches`] | a batch is one partition, its facts in it; hours of places; a queue of what may be landing [`batches`], [`due`], [`listed`] |
//! | [`Idempotency`] | one row a key, changed only on conditions, dropped by its time to live [`idempotency`] |
//! | [`KeyIndex`] | 2^bits partitions a part, read with `IN`, written with unlogged batches [`index`] |
//! | [`Settings`] | the first that is written stays [`settings`] |
//! | [`Board`] | a row for each process, with a time to live [`board`] |
//!
//! **Repeating.** A call that ended in [`TablesError::Unavailable`] may have written all, some or nothing. Every one may be
//! repeated: plain writes are the same writes again, under the same time stamps where the order matters; conditional
//! ones find what the first left behind and take it for their own. How each does it is told where it is done.
//! What consistency is asked for, and why: [`cluster`]; for how long: [`patience`]. How the tables come about: [`schema`].

mod batches;
mod board;
mod cluster;
mod due;
mod failure;
mod idempotency;
mod index;
mod json;
mod keys;
mod layout;
mod listed;
mod lock;
mod options;
mod patience;
mod schema;
mod settings;
mod tls;
mod turns;

pub use options::Options;
pub use tls::Tls;

use super::{
    ApiKey, AttachmentPosition, Batch, BatchPosition, BatchRow, Batches, Board, Found, Hold, Idempotency, IndexPart,
    KeyIndex, Keys, Location, Reservation, Settings, Tables, TablesError,
};
use crate::said::Said;
use async_trait::async_trait;
use cluster::Cluster;
use failure::Failure;
use std::{sync::Arc, time::Duration};
use tributary_schemas::{
    frame::{Attachment, BatchEvent, Reject},
    identity::{Identity, Lanes},
};

/// Connects, and makes the keyspaces and tables that are not there.
///
/// # Errors
/// [`TablesError::Unavailable`] when no server answers in time; [`TablesError::Halted`] when the user is refused, the
/// options cannot be, or the tables were made by a newer program.
pub async fn open(options: Options) -> Result<Arc<dyn Tables>, TablesError> {
    options.check()?;
    let cluster = Cluster::connect(&options).await?;
    let (state, index) = (options.keyspace.clone(), options.index_keyspace());
    schema::ensure(&cluster, &schema::STATE, &state, &options).await?;
    schema::ensure(&cluster, &schema::INDEX, &index, &options).await?;
    Ok(Arc::new(Cql {
        keys: keys::Keys::prepare(&cluster, &state).await?,
        batches: batches::Batches::prepare(&cluster, &state).await?,
        rejects: listed::List::rejects(&cluster, &state).await?,
        attachments: listed::List::attachments(&cluster, &state).await?,
        idempotency: idempotency::Idempotency::prepare(&cluster, &state).await?,
        settings: settings::Settings::prepare(&cluster, &state).await?,
        index: index::Index::prepare(&cluster, &index).await?,
        notes: board::Notes::prepare(&cluster, &state).await?,
        said: Said::default(),
        cluster,
        options,
    }))
}

/// Drops keyspaces, for tests that have made them for themselves: both, or only that of the key index.
///
/// # Errors
/// As [`open`].
#[cfg(feature = "conformance")]
pub async fn drop_keyspaces(options: &Options, only_index: bool) -> Result<(), TablesError> {
    options.check()?;
    let cluster = Cluster::connect(options).await?;
    let (index, state) = (options.index_keyspace(), options.keyspace.clone());
    for keyspace in if only_index { vec![index] } else { vec![index, state] } {
        cluster.query(format!("DROP KEYSPACE IF EXISTS {keyspace}").into(), ()).await?;
    }
    Ok(())
}

/// Brings the keyspace of `options` to these migrations, for tests of how tables come about and change: under a lock that
/// lasts so long, at least a second. In a statement `{keyspace}` is the keyspace's name.
///
/// # Errors
/// As [`open`].
#[cfg(feature = "conformance")]
pub async fn migrate(
    options: &Options,
    migrations: &'static [&'static [&'static str]],
    lock: std::time::Duration,
) -> Result<(), TablesError> {
    options.check()?;
    let cluster = Cluster::connect(options).await?;
    let schema = schema::Schema { name: "tests", migrations, lock };
    schema::ensure(&cluster, &schema, &options.keyspace, options).await
}

#[derive(Debug)]
struct Cql {
    cluster: Cluster,
    options: Options,
    keys: keys::Keys,
    batches: batches::Batches,
    rejects: listed::List,
    attachments: listed::List,
    idempotency: idempotency::Idempotency,
    settings: settings::Settings,
    index: index::Index,
    notes: board::Notes,
    said: Said,
}

impl Cql {
    /// Makes the tables of the key index again when they are found to be gone. Their parts then have no watermark,
    /// which is how their owners know that they must make them again from the lake.
    async fn make_index_again(&self, why: &str) -> Result<(), TablesError> {
        // Every call comes here until its tables can be made.
        if let Some(unsaid) = self.said.may_say("") {
            tracing::error!(unsaid, why, "the key index is gone; it is made anew from the lake");
        }
        schema::ensure(&self.cluster, &schema::INDEX, &self.options.index_keyspace(), &self.options).await
    }
}

/// Does something with the index, twice when its tables had to be made again.
macro_rules! index {
    ($self:ident, $work:expr) => {
        match $work.await {
            Err(Failure::Missing(why)) => {
                $self.make_index_again(&why).await?;
                Ok($work.await?)
            }
            other => Ok(other?),
        }
    };
}

#[async_trait]
impl Keys for Cql {
    async fn create_key(&self, key: ApiKey, limit: usize) -> Result<(), TablesError> {
        self.keys.create(&self.cluster, &key, limit).await
    }

    async fn keys(&self, workspace: Option<&str>) -> Result<Vec<ApiKey>, TablesError> {
        self.keys.list(&self.cluster, workspace).await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>, TablesError> {
        self.keys.by_hash(&self.cluster, hash).await
    }

    async fn revoke_key(&self, id: &str, at: i64) -> Result<bool, TablesError> {
        self.keys.revoke(&self.cluster, id, at).await
    }

    async fn touch_key(&self, id: &str, at: i64) -> Result<(), TablesError> {
        self.keys.touch(&self.cluster, id, at).await
    }
}

#[async_trait]
impl Batches for Cql {
    async fn put_batch(&self, row: BatchRow) -> Result<(), TablesError> {
        self.batches.put(&self.cluster, &row).await
    }

    async fn batch(&self, workspace: &str, batch_id: &str) -> Result<Option<Batch>, TablesError> {
        self.batches.one(&self.cluster, workspace, batch_id).await
    }

    async fn batches(
        &self,
        workspace: &str,
        limit: usize,
        before: Option<&BatchPosition>,
    ) -> Result<Vec<Batch>, TablesError> {
        self.batches.page(&self.cluster, workspace, limit, before).await
    }

    async fn add_facts(&self, events: &[BatchEvent]) -> Result<(), TablesError> {
        self.batches.add_facts(&self.cluster, events).await
    }

    async fn landing_before(&self, created_before: i64, limit: usize) -> Result<Vec<Batch>, TablesError> {
        self.batches.landing_before(&self.cluster, created_before, limit).await
    }

    async fn put_rejects(&self, rejects: &[Reject]) -> Result<(), TablesError> {
        self.rejects.put(&self.cluster, rejects).await
    }

    async fn rejects(
        &self,
        workspace: &str,
        batch_id: &str,
        after: Option<u32>,
        limit: usize,
    ) -> Result<Vec<Reject>, TablesError> {
        self.rejects.page(&self.cluster, workspace, batch_id, after, limit).await
    }

    async fn put_attachments(&self, attachments: &[Attachment]) -> Result<(), TablesError> {
        self.attachments.put(&self.cluster, attachments).await
    }

    async fn attachments(
        &self,
        workspace: &str,
        batch_id: &str,
        after: Option<AttachmentPosition>,
        limit: usize,
    ) -> Result<Vec<Attachment>, TablesError> {
        self.attachments.page(&self.cluster, workspace, batch_id, after, limit).await
    }
}

#[async_trait]
impl Idempotency for Cql {
    async fn reserve(&self, hold: &Hold, now: i64, lease_until: i64) -> Result<Reservation, TablesError> {
        self.idempotency.reserve(&self.cluster, hold, now, lease_until).await
    }

    async fn complete(&self, hold: &Hold, response: &[u8], expires_at: i64) -> Result<bool, TablesError> {
        self.idempotency.complete(&self.cluster, hold, response, expires_at).await
    }

    async fn release(&self, hold: &Hold) -> Result<(), TablesError> {
        self.idempotency.release(&self.cluster, hold).await
    }

    async fn expire(&self, now: i64) -> Result<u64, TablesError> {
        self.idempotency.expire(&self.cluster, now).await
    }
}

#[async_trait]
impl KeyIndex for Cql {
    async fn lookup(&self, part: &IndexPart, keys: &[Identity]) -> Result<Found, TablesError> {
        index!(self, self.index.lookup(&self.cluster, part, keys))
    }

    async fn upsert(&self, part: &IndexPart, entries: &[(Identity, Location)]) -> Result<(), TablesError> {
        index!(self, self.index.upsert(&self.cluster, part, entries))
    }

    async fn watermark(&self, part: &IndexPart) -> Result<Option<u64>, TablesError> {
        index!(self, self.index.watermark(&self.cluster, part))
    }

    async fn set_watermark(&self, part: &IndexPart, table_version: u64) -> Result<(), TablesError> {
        index!(self, self.index.set_watermark(&self.cluster, part, table_version))
    }

    async fn scan(
        &self,
        part: &IndexPart,
        each: &mut (dyn for<'a> FnMut(&'a [(Identity, Location)]) + Send),
    ) -> Result<Option<u64>, TablesError> {
        match self.index.scan(&self.cluster, part, each).await {
            // What was given cannot be taken back, so it is for the caller to begin again.
            Err(Failure::Missing(why)) => {
                self.make_index_again(&why).await?;
                Err(TablesError::Unavailable("the key index was dropped during a scan".to_owned()))
            }
            other => Ok(other?),
        }
    }

    async fn clear(&self, part: &IndexPart) -> Result<(), TablesError> {
        index!(self, self.index.clear(&self.cluster, part))
    }
}

#[async_trait]
impl Settings for Cql {
    async fn lanes(&self, wanted: Lanes) -> Result<Lanes, TablesError> {
        self.settings.lanes(&self.cluster, wanted).await
    }
}

#[async_trait]
impl Board for Cql {
    async fn exchange(
        &self,
        board: &str,
        process: uuid::Uuid,
        note: &[u8],
        lives: Duration,
    ) -> Result<Vec<(uuid::Uuid, Vec<u8>)>, TablesError> {
        Ok(self.notes.exchange(&self.cluster, (board, process), note, lives).await?)
    }
}

impl Tables for Cql {}
