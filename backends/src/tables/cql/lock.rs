//! The lock under which one process of many changes the tables of a keyspace.
//!
//! It is a row of `migrations`, taken by a conditional write, that ends by itself when its holder has died. Whoever works
//! renews it, and leaves the work where it is when that has not succeeded in time: so two never work at once, as long as
//! servers do what they are asked for within the time for which the lock lasts.

use super::{
    cluster::{Cluster, applied, rows},
    failure::Failure,
};
use crate::tables::TablesError;
use scylla::{
    response::query_result::QueryResult,
    serialize::row::SerializeRow,
    statement::{Consistency, Statement},
    value::Row,
};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

/// It is renewed so often while it lasts, and the last of these parts is not relied on.
const PARTS: u32 = 6;

pub(super) struct Lock<'a> {
    cluster: &'a Cluster,
    /// The table `migrations` of the keyspace.
    table: String,
    owner: Uuid,
    /// At least a second.
    lasts: Duration,
}

impl<'a> Lock<'a> {
    pub(super) fn new(cluster: &'a Cluster, keyspace: &str, lasts: Duration) -> Self {
        Self { cluster, table: format!("{keyspace}.migrations"), owner: cluster.world.uuid_v7(), lasts }
    }

    /// Makes the table, under an id that follows from its name, so that making it twice makes the same one.
    pub(super) async fn make_table(&self) -> Result<(), Failure> {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(self.table.as_bytes()).as_bytes()[..16]);
        let (table, id) = (&self.table, uuid::Builder::from_custom_bytes(id).into_uuid());
        let columns = "name text PRIMARY KEY, version int, owner uuid";
        self.ask(&format!("CREATE TABLE IF NOT EXISTS {table} ({columns}) WITH id = {id}"), ()).await.map(drop)
    }

    /// Since when this process has it, unless another one does.
    pub(super) async fn take(&self) -> Result<Option<Instant>, Failure> {
        let (table, seconds, asked) = (&self.table, self.lasts.as_secs(), Instant::now());
        let take = format!("INSERT INTO {table} (name, owner) VALUES ('lock', ?) IF NOT EXISTS USING TTL {seconds}");
        match self.ask(&take, (self.owner,)).await {
            // Too many at once, or an unclear end: what is there says it.
            Ok(_) | Err(Failure::Unavailable(_)) => {}
            Err(failure) => return Err(failure),
        }
        let mut held = Statement::new(format!("SELECT owner FROM {table} WHERE name = 'lock'"));
        held.set_consistency(Consistency::Serial);
        let found: Vec<Row> = match self.cluster.query(held, ()).await {
            Ok(found) => rows(found)?,
            Err(Failure::Unavailable(_)) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let owner = found.first().and_then(|row| row.columns.first()).and_then(|owner| owner.as_ref()?.as_uuid());
        Ok((owner == Some(self.owner)).then_some(asked))
    }

    /// Does the work, and has the lock all the while; gives nothing back when the lock was lost, and the work with it.
    pub(super) async fn keep<T>(
        &self,
        taken: Instant,
        work: impl Future<Output = Result<T, TablesError>>,
    ) -> Result<Option<T>, TablesError> {
        tokio::select! {
            biased;
            lost = self.renew(taken) => Ok(lost.map(|()| None)?),
            done = work => done.map(Some),
        }
    }

    /// Ends when the lock is lost.
    async fn renew(&self, taken: Instant) -> Result<(), Failure> {
        let (table, seconds) = (&self.table, self.lasts.as_secs());
        let renew = format!("UPDATE {table} USING TTL {seconds} SET owner = ? WHERE name = 'lock' IF owner = ?");
        let part = self.lasts / PARTS;
        let mut ends = taken + self.lasts;
        loop {
            sleep(part).await;
            let asked = Instant::now();
            match timeout_at(ends - part, self.ask(&renew, (self.owner, self.owner))).await {
                Ok(Ok(answer)) => match applied(answer)? {
                    true => ends = asked + self.lasts,
                    false => return Ok(()),
                },
                Ok(Err(Failure::Unavailable(_))) => {}
                Ok(Err(failure)) => return Err(failure),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Gives it up. When that fails, it ends by itself.
    pub(super) async fn release(&self) -> Result<(), Failure> {
        let give = format!("DELETE FROM {} WHERE name = 'lock' IF owner = ?", self.table);
        match self.ask(&give, (self.owner,)).await {
            Ok(_) | Err(Failure::Unavailable(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn ask(&self, cql: &str, values: impl SerializeRow) -> Result<QueryResult, Failure> {
        self.cluster.query(cql.into(), values).await
    }
}
