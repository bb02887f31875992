//! Frames of every topic, from a log that may have been damaged: see fuzz/README.md.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{fmt::Debug, sync::LazyLock};
use tributary_schemas::{
    columns,
    frame::{Attachment, BatchEvent, DeadLetter, Frame, RecordDecoder, Reject, Stamp, encode_record},
    identity::Identity,
    record,
};

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let json = br#"{"_type":"call","_schema_version":"1.0.0","_event_at":"2024-01-01T00:00:00Z",
        "_vendor_ids":{"a":"b"},"_product_id":"p","_project_id":"q","data":{}}"#;
    let record = record::parse(json).expect("a good record");
    let stamp = Stamp {
        workspace: "w",
        source: "s",
        batch_id: "b",
        record_index: 0,
        received_at: 0,
        identity: Identity::of(&record),
        lanes_in_batch: Some(1),
    };
    let mut frame = Vec::new();
    encode_record(&stamp, &record, &mut frame);
    frame
});

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = RecordDecoder::new();
    match decoder.decode([GOOD.as_slice(), bytes, GOOD.as_slice()]) {
        Ok(rows) => {
            let rows = columns::to_table(&rows, &[0, 1, 2]).expect("rows of the table");
            assert_eq!(rows.num_rows(), 3);
        }
        Err(error) => {
            assert_eq!(error.index, 1);
            let again = decoder.decode([GOOD.as_slice()]).expect("usable again");
            assert_eq!(again.num_rows(), 1);
        }
    }
    comes_back::<Reject>(bytes);
    comes_back::<Attachment>(bytes);
    comes_back::<BatchEvent>(bytes);
    comes_back::<DeadLetter>(bytes);
});

fn comes_back<F: Frame + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(frame) = F::decode(bytes) {
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(F::decode(&again).expect("a frame that was just written"), frame);
    }
}
