//! Rows of a chunk, ordered and cut into one run for each file, column by column.
//!
//! A file holds rows of one partition, and of one date or of several neighbouring ones: a date with [`DATE_ROWS`] rows
//! has a file of its own, dates with fewer share one. A back-fill in which every record has another date thus makes a
//! few files, not one for each record, and readers still skip files by the bounds of `date` and `event_at`.

use super::LakeError;
use crate::take::take_rows;
use arrow::{
    array::{Array, ArrayRef, AsArray, UInt32Array},
    compute::cast,
    datatypes::{DataType, Int64Type, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use std::{collections::HashMap, sync::Arc};
use tributary_schemas::columns::PARTITION_COLUMNS;

/// So many rows fill a file: the next date starts another. Large enough that a file is worth opening, small enough that
/// one date of a back-fill does not cost reading many.
const DATE_ROWS: usize = 8_192;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Consecutive rows of one partition that make one file.
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
    let runs = runs(batch, &order, &groups, &times)?;
    let rows = without_partition_columns(batch)?;
    if sorted {
        return Ok(Ordered { rows, runs, order: None });
    }
    let rows = take_rows(&rows, &UInt32Array::from(order.clone())).map_err(rejected)?;
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
            // Dense ids and ranks are both below the number of rows, which is below 2^32.
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

/// A number for each value of a partition column.
fn ranks(column: &ArrayRef) -> Result<Vec<u32>, LakeError> {
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

fn runs(batch: &RecordBatch, order: &[u32], groups: &[u64], times: &[i64]) -> Result<Vec<Run>, LakeError> {
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
        let values: Vec<String> = formatters.iter().map(|column| column.value(row).to_string()).collect();
        let dates = same.chunk_by(|a, b| date(times[*a as usize]) == date(times[*b as usize])).map(<[u32]>::len);
        for rows in fill_files(dates) {
            runs.push(Run { values: values.clone(), start, rows });
            start += rows;
        }
    }
    Ok(runs)
}

fn date(micros: i64) -> i64 {
    micros.div_euclid(MICROS_PER_DAY)
}

/// Rows of each date in order → rows of each file.
fn fill_files(dates: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut files: Vec<usize> = Vec::new();
    for rows in dates {
        match files.last_mut() {
            Some(open) if *open < DATE_ROWS && rows < DATE_ROWS => *open += rows,
            _ => files.push(rows),
        }
    }
    files
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

#[cfg(test)]
mod tests {
    use super::{DATE_ROWS, fill_files};
    use proptest::prelude::*;

    #[test]
    fn sparse_dates_share_a_file_and_a_full_one_has_its_own() {
        let files = |dates: &[usize]| fill_files(dates.iter().copied());
        assert_eq!(files(&[]), Vec::<usize>::new());
        assert_eq!(files(&[1; 1_000]), [1_000]);
        assert_eq!(files(&[1, 2, DATE_ROWS, 3, 4]), [3, DATE_ROWS, 7]);
        assert_eq!(files(&[DATE_ROWS - 1, 1, 1]), [DATE_ROWS, 1]);
    }

    proptest! {
        #[test]
        fn no_row_is_lost_and_no_file_much_too_large(dates in proptest::collection::vec(1usize..20_000, 0..50)) {
            let files = fill_files(dates.iter().copied());
            prop_assert_eq!(files.iter().sum::<usize>(), dates.iter().sum::<usize>());
            prop_assert!(files.iter().all(|rows| *rows < 2 * DATE_ROWS || dates.contains(rows)));
        }
    }
}
