//! Picks rows of a chunk, in any order.
//!
//! Arrow's own `take` copies lists and maps row by row through a builder, which for a chunk of small lists costs more
//! than all its other columns. Here the places of their elements are worked out first and the elements are then taken
//! as one column.

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, UInt32Array},
    buffer::{BooleanBuffer, NullBuffer, OffsetBuffer},
    compute::take,
    datatypes::DataType,
    error::ArrowError,
    record_batch::{RecordBatch, RecordBatchOptions},
};
use std::sync::Arc;

/// The rows at `places`, each of which must be a row of `rows`.
pub(crate) fn take_rows(rows: &RecordBatch, places: &UInt32Array) -> Result<RecordBatch, ArrowError> {
    let columns = rows.columns().iter().map(|column| take_column(column, places)).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
    RecordBatch::try_new_with_options(rows.schema(), columns, &options)
}

fn take_column(column: &ArrayRef, places: &UInt32Array) -> Result<ArrayRef, ArrowError> {
    let nulls = column.nulls().map(|nulls| take_nulls(nulls, places));
    Ok(match column.data_type() {
        DataType::List(element) => {
            let list = column.as_list::<i32>();
            let (offsets, elements) = elements(list.offsets(), places);
            Arc::new(ListArray::try_new(element.clone(), offsets, take_column(list.values(), &elements)?, nulls)?)
        }
        DataType::Map(entry, sorted) => {
            let map = column.as_map();
            let (offsets, elements) = elements(map.offsets(), places);
            let entries = take_struct(map.entries(), &elements, None)?;
            Arc::new(MapArray::try_new(entry.clone(), offsets, entries, nulls, *sorted)?)
        }
        DataType::Struct(_) => Arc::new(take_struct(column.as_struct(), places, nulls)?),
        _ => take(column, places, None)?,
    })
}

fn take_struct(
    column: &StructArray,
    places: &UInt32Array,
    nulls: Option<NullBuffer>,
) -> Result<StructArray, ArrowError> {
    let fields = column.columns().iter().map(|field| take_column(field, places)).collect::<Result<Vec<_>, _>>()?;
    StructArray::try_new(column.fields().clone(), fields, nulls)
}

/// Where the lists at `places` begin and end once their elements stand side by side, and where those elements are now.
fn elements(offsets: &OffsetBuffer<i32>, places: &UInt32Array) -> (OffsetBuffer<i32>, UInt32Array) {
    let list = |place: &u32| offsets[*place as usize] as u32..offsets[*place as usize + 1] as u32;
    let lengths = places.values().iter().map(|place| list(place).len());
    let offsets = OffsetBuffer::from_lengths(lengths);
    (offsets, places.values().iter().flat_map(list).collect::<Vec<_>>().into())
}

fn take_nulls(nulls: &NullBuffer, places: &UInt32Array) -> NullBuffer {
    let valid = |row: usize| nulls.is_valid(places.value(row) as usize);
    NullBuffer::new(BooleanBuffer::collect_bool(places.len(), valid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{array::Int64Array, compute::take_record_batch};
    use proptest::prelude::*;
    use tributary_schemas::{
        columns,
        frame::{RecordDecoder, Stamp, encode_record},
        identity::Identity,
        record,
    };

    /// Rows of the table with lists, maps and structs of every length, and nulls.
    fn rows() -> RecordBatch {
        let frames: Vec<Vec<u8>> = (0..20usize).map(frame).collect();
        let frames = RecordDecoder::new().decode(frames.iter().map(Vec::as_slice)).unwrap();
        columns::to_table(&frames, &(0..20).collect::<Vec<_>>()).unwrap()
    }

    fn frame(n: usize) -> Vec<u8> {
        let list = |text: &str, count: usize| vec![text; count].join(",");
        let pii = match n % 3 {
            0 => String::new(),
            some => format!(r#","_pii":{{"detected_entities":[{}]}}"#, list(r#"{"type":"e"}"#, some - 1)),
        };
        let json = format!(
            r#"{{"_type":"email","_schema_version":"1.0.0","_event_at":"2024-01-02T03:04:{n:02}Z","_product_id":"p",
                "_vendor_ids":{{"a":"{n}","b{n}":"2"}},"_project_ids":["x{n}","y"],"_tags":[{}],"_participants":[{}],
                "_attachments":[{}]{pii},"data":{{"n":{n}}}}}"#,
            list(&format!("\"t{n}\""), n % 4),
            list(&format!(r#"{{"id":"i{n}","role":"internal"}}"#), n % 3),
            list(r#"{"type":"file","size":1}"#, n % 2),
        );
        let record = record::parse(json.as_bytes()).unwrap();
        let identity = Identity::of(&record);
        let stamp = Stamp {
            workspace: "w",
            source: "s",
            batch_id: "b",
            record_index: n as u32,
            received_at: n as i64,
            identity,
            lanes_in_batch: None,
        };
        let mut out = Vec::new();
        encode_record(&stamp, &record, &mut out);
        out
    }

    proptest! {
        #[test]
        fn the_same_rows_as_arrow_takes(places in proptest::collection::vec(0u32..15, 0..60), start in 0usize..5) {
            // A slice, so that nothing starts where its buffers start.
            let rows = rows().slice(start, 15);
            let places = UInt32Array::from(places);
            let taken = take_rows(&rows, &places).unwrap();
            prop_assert_eq!(&taken, &take_record_batch(&rows, &places).unwrap());
            let versions: &Int64Array = taken.column_by_name("_version").unwrap().as_primitive();
            prop_assert!(versions.values().iter().zip(places.values()).all(|(v, p)| *v as usize == *p as usize + start));
        }
    }
}
