use super::*;
use crate::{
    frame::{Stamp, encode_record},
    identity::Identity,
    record::parse,
};
use arrow::array::types::Date32Type;

fn frames(lines: &str) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (index, line) in lines.lines().enumerate() {
        let record = parse(line.as_bytes()).unwrap();
        let stamp = Stamp {
            workspace: "default",
            source: "podcasts",
            batch_id: "batch",
            record_index: u32::try_from(index).unwrap(),
            received_at: 1_700_000_000_123_456,
            identity: Identity::of(&record),
            lanes_in_batch: None,
        };
        let mut frame = Vec::new();
        encode_record(&stamp, &record, &mut frame);
        frames.push(frame);
    }
    frames
}

#[test]
fn the_sample_becomes_rows_of_the_table() {
    let sample = include_str!("../../testdata/sample.ndjson");
    let frames = frames(sample);
    let decoded = RecordDecoder::new().decode(frames.iter().map(Vec::as_slice)).unwrap();
    let versions: Vec<i64> = (100..).take(frames.len()).collect();
    let rows = to_table(&decoded, &versions).unwrap();
    assert_eq!(rows.schema(), table_schema());
    let column = |name: &str| rows.column_by_name(name).unwrap();
    for (row, line) in sample.lines().enumerate() {
        let record = parse(line.as_bytes()).unwrap();
        assert_eq!(column("key").as_binary::<i32>().value(row), Identity::of(&record).0);
        assert_eq!(column("data").as_string::<i32>().value(row), record.data.get());
        assert_eq!(column("type").as_string::<i32>().value(row), record.kind.as_str());
        let names = column("participants").as_list::<i32>().value(row);
        let names = names.as_struct().column_by_name("name").unwrap().as_string::<i32>();
        let expected: Vec<_> = record.participants.iter().map(|participant| participant.name.as_deref()).collect();
        assert_eq!(names.iter().collect::<Vec<_>>(), expected);
        assert_eq!(column("date").as_primitive::<Date32Type>().value(row), (record.event_at / 86_400) as i32);
    }
}

#[test]
fn dates_hold_from_year_1_to_9999() {
    let record = |at: &str| {
        format!(
            r#"{{"_type":"call","_schema_version":"1.0.0","_event_at":"{at}","_vendor_ids":{{"a":"b"}},"_product_id":"p","_project_id":"q","data":{{}}}}"#
        )
    };
    let times = ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"];
    let frames = frames(&times.map(record).join("\n"));
    let decoded = RecordDecoder::new().decode(frames.iter().map(Vec::as_slice)).unwrap();
    let rows = to_table(&decoded, &[0; 4]).unwrap();
    let shown = |name: &str| -> Vec<_> {
        let column = rows.column_by_name(name).unwrap();
        (0..4).map(|row| arrow::util::display::array_value_to_string(column, row).unwrap()).collect()
    };
    assert_eq!(shown("date"), times.map(|time| time[..10].to_owned()));
    assert_eq!(shown("event_at"), times);
}

#[test]
fn only_frames_become_rows() {
    let no_rows = RecordBatch::new_empty(frame_schema());
    assert_eq!(to_table(&no_rows, &[]).unwrap().num_rows(), 0);
    assert!(to_table(&no_rows, &[1]).is_err());
    assert!(to_table(&RecordBatch::new_empty(table_schema()), &[]).is_err());
}

#[test]
fn the_partition_columns_come_last_and_few_columns_may_be_null() {
    let schema = table_schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names[names.len() - PARTITION_COLUMNS.len()..], PARTITION_COLUMNS);
    for field in table_schema().fields() {
        assert_eq!(field.is_nullable(), ["thread_id", "pii"].contains(&field.name().as_str()), "{field}");
    }
}
