//! Rows of a chunk, ordered and cut into one run for each partition, column by column.

use super::LakeError;
use arrow::{
    array::{Array, ArrayRef, AsArray, UInt32Array},
    compute::{cast, take_record_batch},
    datatypes::{DataType, Int64Type, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use std::{collections::HashMap, sync::Arc};
use tributary_schemas::columns::PARTITION_COLUMNS;

/// Consecutive rows of one partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Values of the partition columns, in their order.
    pub(super) values: Vec<String>,
    pub(super) start: usize,
    pub(super) rows: usize,
}

/// A chunk in the order in which it is written.
#[derive(Debug)]
pub(super) struct Ordered {
    /// The rows without their partition columns.
    pub(super) rows: RecordBatch,
    pub(super) runs: Vec<Run>,
    /// Row of the input at each row of the output; `None` when nothing moved.
    pub(super) order: Option<Vec<u32>>,
}

/// Orders rows by partition, within it by `event_at`, within that as they came.
pub(super) fn order(batch: &RecordBatch) -> Result<Ordered, LakeError> {
    let groups = group_ids(batch)?;
    let times = event_times(batch)?;
    let key = |row: u32| (groups[row as usize], times[row as usize], row);
    let count = u32::try_from(batch.num_rows()).map_err(|_| LakeError::Halted("a chunk of 2^32 rows".to_owned()))?;
    let mut order: Vec<u32> = (0..count).collect();
    let sorted = order.is_sorted_by_key(|row| key(*row));
    if !sorted {
        order.sort_unstable_by_key(|row| key(*row));
    }
    let runs = runs(batch, &order, &groups)?;
    let rows = without_partition_columns(batch)?;
    if sorted {
        return Ok(Ordered { rows, runs, order: None });
    }
    let rows = take_record_batch(&rows, &UInt32Array::from(order.clone())).map_err(rejected)?;
    Ok(Ordered { rows, runs, order: Some(order) })
}

/// The schema of the files: the rows' own without the partition columns.
pub(super) fn file_schema(schema: &Schema) -> SchemaRef {
    let kept = schema.fields().iter().filter(|field| !PARTITION_COLUMNS.contains(&field.name().as_str()));
    Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>()))
}

fn without_partition_columns(batch: &RecordBatch) -> Result<RecordBatch, LakeError> {
    let schema = batch.schema();
    let kept = schema.fields().iter().zip(batch.columns());
    let kept = kept.filter(|(field, _)| !PARTITION_COLUMNS.contains(&field.name().as_str()));
    let columns: Vec<ArrayRef> = kept.map(|(_, column)| column.clone()).collect();
    RecordBatch::try_new(file_schema(&schema), columns).map_err(rejected)
}

/// A number for each row that is the same for rows of the same partition, ascending in no particular order.
fn group_ids(batch: &RecordBatch) -> Result<Vec<u64>, LakeError> {
    let mut ids = vec![0u64; batch.num_rows()];
    for name in PARTITION_COLUMNS {
        let column = column(batch, name)?;
        let ranks = ranks(column)?;
        let distinct = ranks.iter().max().map_or(1, |max| u64::from(*max) + 1);
        for (id, rank) in ids.iter_mut().zip(ranks) {
            // Three columns of at most 2^32 ranks could pass 2^64 only with more partitions than rows exist.
            *id = id.wrapping_mul(distinct).wrapping_add(u64::from(rank));
        }
        densify(&mut ids);
    }
    Ok(ids)
}

/// Renumbers ids without gaps in their order, so that they stay below the number of rows.
fn densify(ids: &mut [u64]) {
    let Some(first) = ids.first().copied() else { return };
    if ids.iter().all(|id| *id == first) {
        ids.fill(0);
        return;
    }
    let mut distinct = ids.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.last().is_some_and(|last| *last as usize == distinct.len() - 1) {
        return;
    }
    for id in ids {
        *id = distinct.partition_point(|known| known < id) as u64;
    }
}

/// A number for each value of a partition column; dates keep their order.
fn ranks(column: &ArrayRef) -> Result<Vec<u32>, LakeError> {
    if column.data_type() == &DataType::Date32 {
        let days = column.as_primitive::<arrow::datatypes::Date32Type>().values();
        // Shifted so that days before 1970 come first.
        return Ok(days.iter().map(|day| day.cast_unsigned() ^ (1 << 31)).collect());
    }
    let text = cast(column, &DataType::Utf8).map_err(rejected)?;
    let text = text.as_string::<i32>();
    let mut known = HashMap::new();
    let mut ranks = Vec::with_capacity(text.len());
    let mut last: Option<(&str, u32)> = None;
    for row in 0..text.len() {
        let value = text.value(row);
        let rank = match last {
            Some((same, rank)) if same == value => rank,
            _ => {
                let next = known.len() as u32;
                *known.entry(value).or_insert(next)
            }
        };
        last = Some((value, rank));
        ranks.push(rank);
    }
    Ok(ranks)
}

fn event_times(batch: &RecordBatch) -> Result<Vec<i64>, LakeError> {
    let micros = cast(column(batch, "event_at")?, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    let micros = micros.and_then(|times| cast(&times, &DataType::Int64)).map_err(rejected)?;
    Ok(micros.as_primitive::<Int64Type>().values().to_vec())
}

fn runs(batch: &RecordBatch, order: &[u32], groups: &[u64]) -> Result<Vec<Run>, LakeError> {
    let options = FormatOptions::default();
    let columns: Result<Vec<_>, _> = PARTITION_COLUMNS.iter().map(|name| column(batch, name)).collect();
    let columns = columns?;
    let formatters: Result<Vec<_>, _> =
        columns.iter().map(|column| ArrayFormatter::try_new(column, &options)).collect();
    let formatters = formatters.map_err(rejected)?;
    let mut runs = Vec::new();
    let mut start = 0;
    for same in order.chunk_by(|a, b| groups[*a as usize] == groups[*b as usize]) {
        let row = same[0] as usize;
        let values = formatters.iter().map(|column| column.value(row).to_string()).collect();
        runs.push(Run { values, start, rows: same.len() });
        start += same.len();
    }
    Ok(runs)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, LakeError> {
    let column = batch.column_by_name(name);
    let column = column.ok_or_else(|| LakeError::Halted(format!("rows without column {name}")))?;
    if column.null_count() > 0 {
        return Err(LakeError::Halted(format!("rows without a value of {name}")));
    }
    Ok(column)
}

fn rejected(error: arrow::error::ArrowError) -> LakeError {
    LakeError::Halted(format!("rows that are no rows of the table: {error}"))
}
