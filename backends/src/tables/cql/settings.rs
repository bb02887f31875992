//! What was written down at first start.

use super::{cluster::Cluster, failure::Failure, json};
use crate::tables::TablesError;
use scylla::statement::prepared::PreparedStatement;
use tributary_schemas::identity::Lanes;

#[derive(Debug)]
pub(super) struct Settings {
    read: PreparedStatement,
    write: PreparedStatement,
}

impl Settings {
    pub(super) async fn prepare(cluster: &Cluster, keyspace: &str) -> Result<Self, Failure> {
        let read = format!("SELECT value FROM {keyspace}.settings WHERE name = ?");
        let write = format!("INSERT INTO {keyspace}.settings (name, value) VALUES (?, ?) IF NOT EXISTS");
        Ok(Self { read: cluster.prepare_serial(&read).await?, write: cluster.prepare(write).await? })
    }

    /// The first that is written stays. Repeated after an unclear answer, the write finds its own value, or that of
    /// whoever was first; either is the answer.
    pub(super) async fn lanes(&self, cluster: &Cluster, wanted: Lanes) -> Result<Lanes, TablesError> {
        loop {
            let found: Vec<(String,)> = cluster.rows(&self.read, ("lanes",)).await?;
            if let Some((value,)) = found.first() {
                return json::decode(value, "setting");
            }
            cluster.applies(&self.write, ("lanes", json::encode(&wanted)?)).await?;
        }
    }
}
