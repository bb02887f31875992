//! What a batch lists beside its records: rejected ones, and attachments. A batch's rows are one partition, which its
//! limits bound (1,000 of each), in the order of their places.

use super::{
    cluster::{Cluster, all},
    failure::Failure,
    json,
};
use crate::tables::{AttachmentPosition, TablesError};
use scylla::{serialize::row::SerializeRow, statement::prepared::PreparedStatement};
use serde::{Serialize, de::DeserializeOwned};
use tributary_schemas::frame::{Attachment, Reject};

/// Requests of one call under way at once.
const WIDTH: usize = 16;
/// Bytes of rows that are written together: more than servers like to hold in one piece, less than they refuse.
const TOGETHER: usize = 64 * 1_024;

/// A row that stands at a place of a batch.
pub(super) trait Listed: Serialize + DeserializeOwned + Send + Sync {
    /// Names it in errors.
    const NAME: &'static str;
    type Place: Send;
    type Row: SerializeRow + Send + Sync;
    type After: SerializeRow + Send + Sync;

    fn of_batch(&self) -> (&str, &str);
    fn row(&self, body: String) -> Self::Row;
    /// Values of the statement that reads a page.
    fn after(workspace: &str, batch_id: &str, place: Option<Self::Place>, limit: i32) -> Self::After;
}

impl Listed for Reject {
    const NAME: &'static str = "rejected record";
    type Place = u32;
    type Row = (String, String, i64, String);
    type After = (String, String, i64, i32);

    fn of_batch(&self) -> (&str, &str) {
        (&self.workspace, &self.batch_id)
    }

    fn row(&self, body: String) -> Self::Row {
        (self.workspace.clone(), self.batch_id.clone(), self.record_index.into(), body)
    }

    fn after(workspace: &str, batch_id: &str, place: Option<u32>, limit: i32) -> Self::After {
        (workspace.to_owned(), batch_id.to_owned(), place.map_or(-1, i64::from), limit)
    }
}

impl Listed for Attachment {
    const NAME: &'static str = "attachment";
    type Place = AttachmentPosition;
    type Row = (String, String, i64, i64, String);
    type After = (String, String, i64, i64, i32);

    fn of_batch(&self) -> (&str, &str) {
        (&self.workspace, &self.batch_id)
    }

    fn row(&self, body: String) -> Self::Row {
        (self.workspace.clone(), self.batch_id.clone(), self.record_index.into(), self.n.into(), body)
    }

    fn after(workspace: &str, batch_id: &str, place: Option<AttachmentPosition>, limit: i32) -> Self::After {
        let (index, n) = place.map_or((-1, -1), |place| (place.record_index.into(), place.n.into()));
        (workspace.to_owned(), batch_id.to_owned(), index, n, limit)
    }
}

/// One table of rows.
#[derive(Debug)]
pub(super) struct List {
    put: PreparedStatement,
    page: PreparedStatement,
}

impl List {
    pub(super) async fn rejects(cluster: &Cluster, keyspace: &str) -> Result<Self, Failure> {
        Self::prepare(cluster, &format!("{keyspace}.rejects"), "record_index", "record_index > ?").await
    }

    pub(super) async fn attachments(cluster: &Cluster, keyspace: &str) -> Result<Self, Failure> {
        let table = format!("{keyspace}.attachments");
        Self::prepare(cluster, &table, "record_index, n", "(record_index, n) > (?, ?)").await
    }

    async fn prepare(cluster: &Cluster, table: &str, place: &str, after: &str) -> Result<Self, Failure> {
        let marks = "?, ".repeat(place.split(", ").count());
        let put = format!("INSERT INTO {table} (workspace, batch_id, {place}, body) VALUES (?, ?, {marks}?)");
        let page = format!("SELECT body FROM {table} WHERE workspace = ? AND batch_id = ? AND {after} LIMIT ?");
        Ok(Self { put: cluster.prepare(put).await?, page: cluster.prepare(page).await? })
    }

    /// Writes all rows; what stands at the same place already is overwritten.
    pub(super) async fn put<T: Listed>(&self, cluster: &Cluster, rows: &[T]) -> Result<(), TablesError> {
        let bodies = rows.iter().map(json::encode).collect::<Result<Vec<_>, _>>()?;
        let mut pieces: Vec<Vec<T::Row>> = Vec::new();
        let (mut of_last, mut bytes) = (None, 0);
        for (row, body) in rows.iter().zip(bodies) {
            let is_same = of_last == Some(row.of_batch());
            bytes += body.len();
            match pieces.last_mut() {
                Some(piece) if is_same && bytes <= TOGETHER => piece.push(row.row(body)),
                _ => {
                    (of_last, bytes) = (Some(row.of_batch()), body.len());
                    pieces.push(vec![row.row(body)]);
                }
            }
        }
        let writes = (0..pieces.len()).map(|n| cluster.write_together(&self.put, &pieces[n]));
        all(WIDTH, writes).await?;
        Ok(())
    }

    /// Rows of a batch behind `after`, in order.
    pub(super) async fn page<T: Listed>(
        &self,
        cluster: &Cluster,
        workspace: &str,
        batch_id: &str,
        after: Option<T::Place>,
        limit: usize,
    ) -> Result<Vec<T>, TablesError> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let rows: Vec<(String,)> = cluster.rows(&self.page, T::after(workspace, batch_id, after, limit)).await?;
        rows.iter().map(|(body,)| json::decode(body, T::NAME)).collect()
    }
}
