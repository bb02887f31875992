//! Notes between processes: one row for each, in a partition for each board, with a time to live. The servers stamp them and
//! drop them, so that no process has to go by another's clock.

use super::{cluster::Cluster, failure::Failure};
use scylla::statement::prepared::PreparedStatement;
use std::time::Duration;
use uuid::Uuid;

#[derive(Debug)]
pub(super) struct Notes {
    put: PreparedStatement,
    all: PreparedStatement,
}

impl Notes {
    pub(super) async fn prepare(cluster: &Cluster, keyspace: &str) -> Result<Self, Failure> {
        let put = format!("INSERT INTO {keyspace}.notes (board, process, note) VALUES (?, ?, ?) USING TTL ?");
        let all = format!("SELECT process, note, WRITETIME(note) FROM {keyspace}.notes WHERE board = ?");
        Ok(Self { put: cluster.prepare(put).await?, all: cluster.prepare(all).await? })
    }

    pub(super) async fn exchange(
        &self,
        cluster: &Cluster,
        (board, process): (&str, Uuid),
        note: &[u8],
        lives: Duration,
    ) -> Result<Vec<(Uuid, Vec<u8>)>, Failure> {
        // 0 would mean for ever.
        let seconds = lives.as_millis().div_ceil(1_000).clamp(1, 86_400) as i32;
        cluster.write(&self.put, (board, process, note, seconds)).await?;
        // A row whose note is over may still be there without it.
        let rows: Vec<(Uuid, Option<Vec<u8>>, Option<i64>)> = cluster.rows(&self.all, (board,)).await?;
        let mut living: Vec<_> =
            rows.into_iter().filter_map(|(process, note, written)| Some((written, process, note?))).collect();
        living.sort_unstable();
        Ok(living.into_iter().map(|(_, process, note)| (process, note)).collect())
    }
}
