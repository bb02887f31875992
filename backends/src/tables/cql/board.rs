//! Notes between processes: one row for each, in a partition for each board, with a time to live.

use super::{cluster::Cluster, failure::Failure};
use scylla::statement::prepared::PreparedStatement;
use uuid::Uuid;

/// Servers drop a note when it has been over for so many seconds, lest one whose clock is ahead drops it too soon.
const MARGIN: i64 = 60;

#[derive(Debug)]
pub(super) struct Notes {
    put: PreparedStatement,
    all: PreparedStatement,
}

impl Notes {
    pub(super) async fn prepare(cluster: &Cluster, keyspace: &str) -> Result<Self, Failure> {
        let put =
            format!("INSERT INTO {keyspace}.notes (board, process, ends_at, note) VALUES (?, ?, ?, ?) USING TTL ?");
        let all = format!("SELECT process, ends_at, note FROM {keyspace}.notes WHERE board = ?");
        Ok(Self { put: cluster.prepare(put).await?, all: cluster.prepare(all).await? })
    }

    pub(super) async fn exchange(
        &self,
        cluster: &Cluster,
        (board, process): (&str, Uuid),
        note: &[u8],
        now: i64,
        until: i64,
    ) -> Result<Vec<(Uuid, Vec<u8>)>, Failure> {
        let ttl = (until.saturating_sub(now) / 1_000_000).clamp(0, 86_400) + MARGIN;
        cluster.write(&self.put, (board, process, until, note, ttl as i32)).await?;
        let rows: Vec<(Uuid, i64, Vec<u8>)> = cluster.rows(&self.all, (board,)).await?;
        let mut living: Vec<_> =
            rows.into_iter().filter(|row| row.1 > now).map(|(process, _, note)| (process, note)).collect();
        // The server's order of ids is by their versions first.
        living.sort_unstable();
        Ok(living)
    }
}
