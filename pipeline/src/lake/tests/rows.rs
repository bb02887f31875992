//! Small rows with a column of every kind that the table has.

use arrow::{
    array::{
        ArrayRef, BinaryArray, Date32Array, Int64Array, ListBuilder, MapBuilder, StringArray, StringBuilder,
        StructArray, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
};
use std::sync::Arc;
use tributary_schemas::identity::Identity;

/// What a test row says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Its identity.
    pub(super) number: u64,
    pub(super) version: i64,
    /// Days since 1970-01-01 of its event.
    pub(super) day: i32,
}

pub(super) fn number_of(identity: &Identity) -> u64 {
    u64::from_be_bytes(identity.0[..8].try_into().unwrap())
}

pub(super) fn schema() -> SchemaRef {
    batch(&[]).schema()
}

pub(super) fn batch(rows: &[Row]) -> RecordBatch {
    let keys: BinaryArray = rows.iter().map(|row| Some([row.number.to_be_bytes(), [7; 8]].concat())).collect();
    let day_micros = 86_400_000_000i64;
    // Later rows of a day come earlier in it, so that the order by event time is not the order of arrival.
    let times =
        rows.iter().map(|row| i64::from(row.day) * day_micros + (row.number % 1_000) as i64 * 1_000_000 + 500_001);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let versions = Int64Array::from_iter_values(rows.iter().map(|row| row.version));
    let digests = Int64Array::from_iter_values(rows.iter().map(|row| row.version * 31));
    let products = StringArray::from_iter_values(rows.iter().map(|row| format!("product-{}", row.number % 3)));
    let data = StringArray::from_iter_values(rows.iter().map(|row| format!("{{\"n\":{}}}", row.number)));
    let sources =
        StringArray::from_iter_values(rows.iter().map(|row| if row.number % 5 == 4 { "a b%/ü" } else { "crm" }));
    let types = StringArray::from_iter_values(rows.iter().map(|_| "email"));
    let columns: Vec<(Field, ArrayRef)> = vec![
        (Field::new("key", DataType::Binary, false), Arc::new(keys)),
        (
            Field::new("event_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Arc::new(times),
        ),
        (Field::new("product_id", DataType::Utf8, false), Arc::new(products)),
        nested("tags", list(rows)),
        nested("vendor_ids", map(rows)),
        nested("pii", pii(rows)),
        (Field::new("data", DataType::Utf8, false), Arc::new(data)),
        (Field::new("_version", DataType::Int64, false), Arc::new(versions)),
        (Field::new("_digest", DataType::Int64, false), Arc::new(digests)),
        (Field::new("source", DataType::Utf8, false), Arc::new(sources)),
        (Field::new("type", DataType::Utf8, false), Arc::new(types)),
        (
            Field::new("date", DataType::Date32, false),
            Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.day))),
        ),
    ];
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn nested(name: &str, array: ArrayRef) -> (Field, ArrayRef) {
    (Field::new(name, array.data_type().clone(), true), array)
}

fn list(rows: &[Row]) -> ArrayRef {
    let mut tags = ListBuilder::new(StringBuilder::new());
    for row in rows {
        for tag in 0..row.number % 3 {
            tags.values().append_value(format!("tag-{tag}"));
        }
        tags.append(row.number % 4 != 0);
    }
    Arc::new(tags.finish())
}

fn map(rows: &[Row]) -> ArrayRef {
    let mut ids = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in rows {
        ids.keys().append_value("crm");
        ids.values().append_value(row.number.to_string());
        ids.append(true).unwrap();
    }
    Arc::new(ids.finish())
}

fn pii(rows: &[Row]) -> ArrayRef {
    let field = Arc::new(Field::new("redaction_status", DataType::Utf8, true));
    let status: StringArray = rows.iter().map(|row| (row.number % 2 == 0).then_some("redacted")).collect();
    Arc::new(StructArray::from(vec![(field, Arc::new(status) as ArrayRef)]))
}
