//! Arrow schemas: of decoded frames, and of the lake's `records` table.

use arrow::datatypes::SchemaRef;

/// Partition columns of the `records` table, in path order.
pub const PARTITION_COLUMNS: [&str; 3] = ["source", "type", "date"];

/// Columns that [`crate::frame::RecordDecoder`] gives: every field of the frame, `event_at` and `received_at` as
/// UTC microseconds.
pub fn frame_schema() -> SchemaRef {
    todo!()
}

/// Columns of the `records` table *with* its partition columns, in the table's order: `key` binary, `event_at`,
/// `received_at`, `batch_id`, `record_index`, `product_id`, `project_ids`, `nature`, `thread_id`, `vendor_ids` map,
/// `participants`, `attachments`, `tags`, `pii`, `schema_version`, `data`, `_version`, `_digest`, `source`, `type`, `date`.
pub fn table_schema() -> SchemaRef {
    todo!()
}

/// The same without the partition columns: what a Parquet file holds.
pub fn file_schema() -> SchemaRef {
    todo!()
}
