//! Attachments of a chunk: columns → messages of topic `attachments`.
//!
//! Every attachment of every record is said, whatever became of the record, and said again when the chunk comes again:
//! (batch, record, place) names it, so whoever reads the topic may read it twice.

use super::{missing, text};
use crate::context::encode;
use arrow::{
    array::{Array, AsArray, Int64Array, ListArray, StringArray, StructArray},
    datatypes::Int64Type,
    error::ArrowError,
    record_batch::RecordBatch,
};
use bytes::Bytes;
use tributary_schemas::{frame::Attachment, identity::Identity};

/// Messages are made this many bytes at a time, so that a chunk full of attachments does not hold them all at once.
/// So few in tests that their kills fall between two slices as well.
const SLICE_BYTES: usize = if cfg!(test) { 100 } else { 512 * 1024 };

/// The attachments that a chunk has still to say. Shares the chunk's columns.
#[derive(Debug)]
pub(crate) struct Attachments {
    workspaces: StringArray,
    batches: StringArray,
    record_indexes: Int64Array,
    lists: ListArray,
    items: Items,
    /// Rows with at least one, and whose they are.
    rows: std::vec::IntoIter<(u32, Identity)>,
}

impl Attachments {
    /// Those of the given rows of decoded frames; `None`, without a look at the rows, when no frame has any.
    ///
    /// # Errors
    /// Columns that are not those of the frames' schema.
    pub(super) fn of(
        frames: &RecordBatch,
        rows: impl Iterator<Item = (u32, Identity)>,
    ) -> Result<Option<Self>, ArrowError> {
        let lists = frames.column_by_name("attachments").and_then(|column| column.as_list_opt::<i32>());
        let lists = lists.ok_or_else(|| missing("attachments"))?;
        if lists.values().is_empty() {
            return Ok(None);
        }
        let record_indexes = frames.column_by_name("record_index").and_then(|column| column.as_primitive_opt());
        let items = lists.values().as_struct_opt().ok_or_else(|| missing("attachments"))?;
        let rows: Vec<_> = rows.filter(|(row, _)| lists.value_length(*row as usize) > 0).collect();
        Ok(Some(Self {
            workspaces: text(frames, "workspace")?.clone(),
            batches: text(frames, "batch_id")?.clone(),
            record_indexes: record_indexes.ok_or_else(|| missing("record_index"))?.clone(),
            lists: lists.clone(),
            items: Items::of(items)?,
            rows: rows.into_iter(),
        }))
    }

    /// The next messages (key, value), in the order of the rows; none when all have been given.
    pub(crate) fn next_messages(&mut self) -> Vec<(Bytes, Bytes)> {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while bytes < SLICE_BYTES
            && let Some((row, key)) = self.rows.next()
        {
            let row = row as usize;
            let batch_id = Bytes::copy_from_slice(self.batches.value(row).as_bytes());
            for n in 0..self.lists.value_length(row) {
                let value = encode(&self.one(row, n, key));
                bytes += batch_id.len() + value.len();
                messages.push((batch_id.clone(), value));
            }
        }
        messages
    }

    /// The `n`-th of a row.
    fn one(&self, row: usize, n: i32, key: Identity) -> Attachment {
        let items = &self.items;
        // Offsets are never negative.
        let at = (self.lists.value_offsets()[row] + n).unsigned_abs() as usize;
        let text = |column: &StringArray| column.is_valid(at).then(|| column.value(at).to_owned());
        Attachment {
            workspace: self.workspaces.value(row).to_owned(),
            batch_id: self.batches.value(row).to_owned(),
            // The API writes no larger ones.
            record_index: u32::try_from(self.record_indexes.value(row)).unwrap_or(u32::MAX),
            n: n.unsigned_abs(),
            key,
            kind: items.kind.value(at).to_owned(),
            filename: text(&items.filename),
            size: items.size.is_valid(at).then(|| items.size.value(at)),
            mime_type: text(&items.mime_type),
            sha1: text(&items.sha1),
            md5: text(&items.md5),
            vendor_url: text(&items.vendor_url),
            upload_intent_id: text(&items.upload_intent_id),
        }
    }
}

/// The fields of all attachments of all rows, one after another.
#[derive(Debug)]
struct Items {
    kind: StringArray,
    filename: StringArray,
    size: Int64Array,
    mime_type: StringArray,
    sha1: StringArray,
    md5: StringArray,
    vendor_url: StringArray,
    upload_intent_id: StringArray,
}

impl Items {
    fn of(fields: &StructArray) -> Result<Self, ArrowError> {
        let text = |name: &str| {
            let column = fields.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            column.cloned().ok_or_else(|| missing(name))
        };
        let size = fields.column_by_name("size").and_then(|column| column.as_primitive_opt::<Int64Type>());
        Ok(Self {
            kind: text("type")?,
            filename: text("filename")?,
            size: size.cloned().ok_or_else(|| missing("size"))?,
            mime_type: text("mime_type")?,
            sha1: text("sha1")?,
            md5: text("md5")?,
            vendor_url: text("vendor_url")?,
            upload_intent_id: text("upload_intent_id")?,
        })
    }
}

#[cfg(test)]
mod tests;
