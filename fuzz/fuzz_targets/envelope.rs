//! One record, from a stranger: see fuzz/README.md.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tributary_schemas::{
    columns,
    frame::{RecordDecoder, Stamp, encode_record},
    identity::Identity,
    limits::{MAX_MESSAGE_CHARS, MAX_RECORD_ERRORS},
    record::{self, Record},
};

fuzz_target!(|bytes: &[u8]| {
    match record::parse(bytes) {
        Ok(record) => accepted(bytes, &record),
        Err(errors) => {
            assert!((1..=MAX_RECORD_ERRORS + 1).contains(&errors.len()));
            for error in errors {
                assert!(error.message.starts_with(&error.pointer));
                assert!(error.message.chars().count() <= MAX_MESSAGE_CHARS);
                // The thorough reader names every reason; this is its last resort.
                assert!(!error.message.starts_with("expected a valid record, got one that is not"), "{}", error.message);
            }
        }
    }
});

fn accepted(bytes: &[u8], record: &Record<'_>) {
    let data = record.data.get();
    let start = data.as_ptr() as usize - bytes.as_ptr() as usize;
    assert_eq!(&bytes[start..start + data.len()], data.as_bytes());
    assert!(record.vendor_ids.is_sorted() && !record.vendor_ids.is_empty() && !record.project_ids.is_empty());
    let identity = Identity::of(record);
    let stamp = Stamp {
        workspace: "w",
        source: "s",
        batch_id: "b",
        record_index: 0,
        received_at: 0,
        identity,
        lanes_in_batch: None,
    };
    let mut frame = Vec::new();
    encode_record(&stamp, record, &mut frame);
    let rows = RecordDecoder::new().decode([frame.as_slice()]).expect("a frame that was just written");
    assert_eq!(columns::to_table(&rows, &[0]).expect("rows of the table").num_rows(), 1);
}
