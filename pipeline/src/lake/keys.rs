//! Keys of live rows, read back for the index and for checks: only the columns that the index holds.

use super::{
    KeyRow, LakeError, LiveFile, Table, deletion, load, parquet_object::ParquetObject, partition, state::Entry,
};
use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Int64Type},
    record_batch::RecordBatch,
};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use roaring::RoaringTreemap;
use std::collections::HashSet;
use tributary_backends::tables::Location;
use tributary_schemas::identity::Identity;
use uuid::Uuid;

/// Files that are read at once.
const FILES_AT_ONCE: usize = 8;
/// Files whose deletion vectors are in memory at once.
const FILES_PER_ROUND: usize = 256;

/// Gives the keys of live rows of `files` to `each`, a slice of one file at a time.
pub(super) async fn read(
    table: &Table,
    files: &[&Entry],
    each: &mut (dyn FnMut(&[KeyRow]) + Send),
) -> Result<(), LakeError> {
    for round in files.chunks(FILES_PER_ROUND) {
        let vectors: Vec<_> = round.iter().filter_map(|file| file.vector.as_ref()).collect();
        let mut vectors = deletion::read(&table.store, &table.url, &vectors).await?.into_iter();
        let files = round.iter().map(|file| {
            let marked = file.vector.as_ref().and_then(|_| vectors.next()).unwrap_or_default();
            rows_of(table, &file.live, marked)
        });
        let files: Vec<_> = files.collect();
        let mut slices = stream::iter(files).buffer_unordered(FILES_AT_ONCE).try_flatten();
        while let Some(rows) = std::pin::pin!(&mut slices).try_next().await? {
            each(&rows);
        }
    }
    Ok(())
}

/// UUIDs of the files that came in after version `after`; `None` when the log does not reach back that far. A file that
/// only got another deletion vector has not come in.
pub(super) async fn added_since(table: &Table, after: u64) -> Result<Option<HashSet<Uuid>>, LakeError> {
    let mut added = HashSet::new();
    let versions = after.saturating_add(1)..=table.state.version;
    let mut commits = stream::iter(versions)
        .map(|version| load::commit(&table.store, &table.root, version))
        .buffered(super::store::CONCURRENCY);
    while let Some(commit) = commits.try_next().await? {
        let Some(actions) = commit else { return Ok(None) };
        let removed: HashSet<&str> =
            actions.iter().filter_map(|action| Some(action.remove.as_ref()?.path.as_str())).collect();
        let new = actions.iter().filter_map(|action| Some(action.add.as_ref()?.path.as_str()));
        for path in new.filter(|path| !removed.contains(path)) {
            let named = partition::from_log_path(path).and_then(|path| partition::parse_file_path(&path));
            added.extend(named.map(|(_, id, _)| id));
        }
    }
    Ok(Some(added))
}

/// Opens one file; its live rows, a slice at a time.
async fn rows_of(
    table: &Table,
    file: &LiveFile,
    marked: RoaringTreemap,
) -> Result<impl Stream<Item = Result<Vec<KeyRow>, LakeError>> + use<>, LakeError> {
    let path = super::below(&table.root, &file.path)?;
    let reader =
        ParquetObject { objects: table.store.objects(), path: path.clone(), size: file.size, tail: Bytes::new() };
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await;
    let builder = builder.map_err(|error| LakeError::of_parquet(&path, error))?;
    let rows = builder.metadata().file_metadata().num_rows();
    if u64::try_from(rows) != Ok(file.rows) {
        return Err(LakeError::corrupt(format!("/{path}"), format!("it has {rows} rows, the log says {}", file.rows)));
    }
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["key", "_version", "_digest"]);
    let batches = builder.with_projection(mask).build().map_err(|error| LakeError::of_parquet(&path, error))?;
    let (id, table_version) = (file.id, table.state.version);
    let mut next_row = 0u32;
    Ok(batches.map(move |batch| {
        let batch = batch.map_err(|error| LakeError::of_parquet(&path, error))?;
        let first_row = next_row;
        next_row += batch.num_rows() as u32;
        let location = Location { file: id, row: first_row, version: 0, digest: 0, table_version };
        let rows = key_rows(&batch, &marked, location);
        rows.ok_or_else(|| LakeError::corrupt(format!("/{path}"), "a key, _version or _digest is not what was written"))
    }))
}

/// Unmarked rows of a batch whose first row is at `first`; `None` when a column is not what it must be.
fn key_rows(batch: &RecordBatch, marked: &RoaringTreemap, first: Location) -> Option<Vec<KeyRow>> {
    let keys = batch.column_by_name("key")?;
    let versions = batch.column_by_name("_version")?.as_primitive_opt::<Int64Type>()?;
    let digests = batch.column_by_name("_digest")?.as_primitive_opt::<Int64Type>()?;
    if keys.null_count() + versions.null_count() + digests.null_count() > 0 {
        return None;
    }
    let key = |row: usize| match keys.data_type() {
        DataType::Binary => keys.as_binary::<i32>().value(row).try_into().ok(),
        DataType::FixedSizeBinary(16) => keys.as_fixed_size_binary().value(row).try_into().ok(),
        _ => None,
    };
    let mut rows = Vec::with_capacity(batch.num_rows());
    for (index, row) in (0..batch.num_rows()).zip(first.row..) {
        if !marked.contains(u64::from(row)) {
            let location = Location { row, version: versions.value(index), digest: digests.value(index), ..first };
            rows.push(KeyRow { identity: Identity(key(index)?), location });
        }
    }
    Some(rows)
}
