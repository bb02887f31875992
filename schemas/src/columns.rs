//! Arrow schemas: of decoded frames, and of the lake's `records` table; and the way from the one to the other.

use crate::frame::RecordDecoder;
use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, Int64Array, ListArray, MapArray, StructArray, TimestampMicrosecondArray,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType},
    error::ArrowError,
    record_batch::RecordBatch,
};
use std::sync::{Arc, LazyLock};

/// Partition columns of the `records` table, in path order.
pub const PARTITION_COLUMNS: [&str; 2] = ["source", "type"];

const MICROS_PER_DAY: i64 = 86_400_000_000;

static FRAME: LazyLock<SchemaRef> = LazyLock::new(|| RecordDecoder::new().schema());
static TABLE: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(table_fields())));

/// Columns that [`crate::frame::RecordDecoder`] gives: every field of the frame (`avro/record.avsc`) by its name, `key`
/// as 16 fixed bytes, `event_at` and `received_at` as UTC microseconds.
pub fn frame_schema() -> SchemaRef {
    FRAME.clone()
}

/// Columns of the `records` table *with* its partition columns, in the table's order: `key` binary, `event_at`, `date`
/// (the UTC date of `event_at`), `received_at`, `batch_id`, `record_index`, `product_id`, `project_ids`, `nature`,
/// `thread_id`, `vendor_ids` map, `participants`, `attachments`, `tags`, `pii`, `schema_version`, `data`, `_version`,
/// `_digest`, `source`, `type`.
///
/// All but `thread_id` and `pii` are never null. Fields inside lists, maps and structs are all nullable, because Delta
/// knows no "not null" in there; their names are those of Delta's Parquet files (`element`, `key_value`).
pub fn table_schema() -> SchemaRef {
    TABLE.clone()
}

fn table_fields() -> Vec<Field> {
    let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let column = |name: &str, of: DataType| Field::new(name, of, false);
    vec![
        column("key", DataType::Binary),
        column("event_at", utc()),
        column("date", DataType::Date32),
        column("received_at", utc()),
        column("batch_id", DataType::Utf8),
        column("record_index", DataType::Int64),
        column("product_id", DataType::Utf8),
        column("project_ids", list(DataType::Utf8)),
        column("nature", DataType::Utf8),
        Field::new("thread_id", DataType::Utf8, true),
        column("vendor_ids", text_map()),
        column("participants", list(texts(&["id", "role", "name", "email", "type"]))),
        column("attachments", list(attachment())),
        column("tags", list(DataType::Utf8)),
        Field::new("pii", pii(), true),
        column("schema_version", DataType::Utf8),
        column("data", DataType::Utf8),
        column("_version", DataType::Int64),
        column("_digest", DataType::Int64),
        column("source", DataType::Utf8),
        column("type", DataType::Utf8),
    ]
}

fn list(of: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", of, true)))
}

fn text_map() -> DataType {
    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry.into()), false)), false)
}

fn structure(fields: Vec<(&str, DataType)>) -> DataType {
    DataType::Struct(fields.into_iter().map(|(name, of)| Field::new(name, of, true)).collect())
}

fn texts(names: &[&str]) -> DataType {
    structure(names.iter().map(|name| (*name, DataType::Utf8)).collect())
}

fn attachment() -> DataType {
    structure(vec![
        ("type", DataType::Utf8),
        ("filename", DataType::Utf8),
        ("size", DataType::Int64),
        ("mime_type", DataType::Utf8),
        ("sha1", DataType::Utf8),
        ("md5", DataType::Utf8),
        ("vendor_url", DataType::Utf8),
        ("upload_intent_id", DataType::Utf8),
    ])
}

fn pii() -> DataType {
    let entity =
        structure(vec![("type", DataType::Utf8), ("value", DataType::Utf8), ("confidence", DataType::Float64)]);
    structure(vec![
        ("contains_email", DataType::Boolean),
        ("contains_phone", DataType::Boolean),
        ("sensitive_score", DataType::Float64),
        ("detected_entities", list(entity)),
        ("redaction_status", DataType::Utf8),
    ])
}

/// Decoded frames ([`frame_schema`]) with their log offsets → rows of the table ([`table_schema`]). Buffers are shared,
/// not copied.
///
/// # Errors
/// `frames` has other columns than [`frame_schema`], or another number of rows than `versions`.
pub fn to_table(frames: &RecordBatch, versions: &[i64]) -> Result<RecordBatch, ArrowError> {
    let schema = table_schema();
    let from = |name: &str| {
        let missing = || ArrowError::SchemaError(format!("the frames have no column {name}"));
        frames.column_by_name(name).ok_or_else(missing)
    };
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "_version" => Ok(Arc::new(Int64Array::from(versions.to_vec())) as ArrayRef),
        "_digest" => from("digest").cloned(),
        "date" => dates(from("event_at")?),
        name => relabel(from(name)?, field.data_type()),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema, columns)
}

/// The UTC date of each time.
fn dates(times: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let times: &TimestampMicrosecondArray = times
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| ArrowError::SchemaError("event_at is not in microseconds".to_owned()))?;
    // A microsecond count has fewer days than an i32 can count.
    let date = |at: i64| i32::try_from(at.div_euclid(MICROS_PER_DAY)).unwrap_or_default();
    Ok(Arc::new(times.unary::<_, arrow::datatypes::Date32Type>(date)) as ArrayRef)
}

/// The same values under another type that differs only in names, nullability, or fixed against variable length.
fn relabel(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(match (array.data_type(), to) {
        (from, to) if from == to => array.clone(),
        (DataType::FixedSizeBinary(width), DataType::Binary) => {
            let width = usize::try_from(*width).unwrap_or_default();
            let values = array.as_fixed_size_binary();
            let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(width, values.len()));
            let bytes = values.values().slice_with_length(0, width * values.len());
            Arc::new(BinaryArray::try_new(offsets, bytes, values.nulls().cloned())?)
        }
        (DataType::List(_), DataType::List(element)) => {
            let list = array.as_list::<i32>();
            let values = relabel(list.values(), element.data_type())?;
            Arc::new(ListArray::try_new(element.clone(), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => Arc::new(restructure(array.as_struct(), fields)?),
        (DataType::Map(..), DataType::Map(entry, sorted)) => {
            let map = array.as_map();
            let DataType::Struct(fields) = entry.data_type() else {
                return Err(ArrowError::SchemaError("a map's entries are not structs".to_owned()));
            };
            let entries = restructure(map.entries(), fields)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(entry.clone(), offsets, entries, nulls, *sorted)?)
        }
        (from, to) => return Err(ArrowError::SchemaError(format!("{from} cannot stand for {to}"))),
    })
}

fn restructure(array: &StructArray, fields: &Fields) -> Result<StructArray, ArrowError> {
    let columns = array.columns().iter().zip(fields).map(|(column, field)| relabel(column, field.data_type()));
    StructArray::try_new(fields.clone(), columns.collect::<Result<_, _>>()?, array.nulls().cloned())
}

#[cfg(test)]
mod tests;
