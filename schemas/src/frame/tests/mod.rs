use super::*;
use crate::{columns, record};

mod golden;
mod round_trip;
mod wire;

use arrow::{
    array::AsArray,
    datatypes::{Int64Type, TimestampMicrosecondType},
};

const MINIMAL: &str = r#"{"_type":"EMAIL","_schema_version":"1.0.0","_event_at":"2024-01-02T03:04:05.5Z",
    "_vendor_ids":{"b":"2","a":"1"},"_product_id":"p","_project_id":"q","data": {"n" : 1.0} }"#;

fn frame(json: &str, record_index: u32) -> Vec<u8> {
    let record = record::parse(json.as_bytes()).unwrap();
    let stamp = Stamp {
        workspace: "w",
        source: "s",
        batch_id: "b",
        record_index,
        received_at: 1_700_000_000_000_001,
        identity: Identity::of(&record),
        lanes_in_batch: (record_index == 1).then_some(3),
    };
    let mut out = Vec::new();
    encode_record(&stamp, &record, &mut out);
    out
}

fn reject() -> Reject {
    Reject {
        workspace: "w".into(),
        batch_id: "b".into(),
        record_index: 4,
        line: Some(5),
        received_at: -1,
        errors: vec![RejectError { code: "VALIDATION_ERROR".into(), pointer: "/_type".into(), message: "…".into() }],
        payload: "{}".into(),
        payload_cut: true,
    }
}

fn attachment() -> Attachment {
    Attachment {
        workspace: "w".into(),
        batch_id: "b".into(),
        record_index: u32::MAX,
        n: 9,
        key: Identity(*b"0123456789abcdef"),
        kind: "audio".into(),
        filename: Some("…".into()),
        size: Some(i64::MAX),
        mime_type: Some("audio/ogg".into()),
        sha1: None,
        md5: Some(String::new()),
        vendor_url: Some("https://example.org/f".into()),
        upload_intent_id: None,
    }
}

fn letter() -> DeadLetter {
    DeadLetter {
        topic: "records".into(),
        partition: 1,
        offset: i64::MAX,
        stage: "decode".into(),
        reason: "r".into(),
        at: 2,
        key: vec![0, 255],
        payload: vec![],
    }
}

#[test]
fn a_record_comes_back_as_columns() {
    let frames = [frame(MINIMAL, 0), frame(MINIMAL, 1)];
    let batch = RecordDecoder::new().decode(frames.iter().map(Vec::as_slice)).unwrap();
    assert_eq!(batch.schema(), columns::frame_schema());
    assert_eq!(batch.num_rows(), 2);
    let table = columns::to_table(&batch, &[7, 8]).unwrap();
    assert_eq!(table.schema(), columns::table_schema());
    let text = |name: &str| table.column_by_name(name).unwrap().as_string::<i32>().value(1).to_owned();
    assert_eq!(text("data"), r#"{"n" : 1.0}"#);
    assert_eq!(text("type"), "email");
    assert_eq!(text("nature"), "evidence");
    let at = table.column_by_name("event_at").unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(at, 1_704_164_646_000_000);
    let version = table.column_by_name("_version").unwrap().as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(version, [7, 8]);
    let date = table.column_by_name("date").unwrap();
    assert_eq!(arrow::util::display::array_value_to_string(date, 0).unwrap(), "2024-01-02");
    let ids = arrow::util::display::array_value_to_string(table.column_by_name("vendor_ids").unwrap(), 0).unwrap();
    assert_eq!(ids, "{a: 1, b: 2}");
}

#[test]
fn every_frame_comes_back() {
    let reject = reject();
    let mut out = Vec::new();
    reject.encode(&mut out);
    assert_eq!(Reject::decode(&out).unwrap(), reject);
    let attachment = attachment();
    let mut out = Vec::new();
    attachment.encode(&mut out);
    assert_eq!(Attachment::decode(&out).unwrap(), attachment);
    let json = serde_json::to_vec(&attachment).unwrap();
    assert_eq!(serde_json::from_slice::<Attachment>(&json).unwrap(), attachment, "as the tables keep it");
    for fact in [
        Fact::Landed { lane: 3, lanes_in_batch: u32::MAX },
        Fact::Processing { processor: "p".into() },
        Fact::Processed { processor: "p".into() },
        Fact::Failed { reason: "r".into() },
    ] {
        let event = BatchEvent { workspace: "w".into(), batch_id: "b".into(), at: 1, fact };
        let mut out = Vec::new();
        event.encode(&mut out);
        assert_eq!(BatchEvent::decode(&out).unwrap(), event);
    }
    let letter = letter();
    let mut out = Vec::new();
    letter.encode(&mut out);
    assert_eq!(DeadLetter::decode(&out).unwrap(), letter);
}

#[test]
fn a_bad_frame_is_named() {
    let good = frame(MINIMAL, 0);
    let mut text = good.clone();
    let at = text.windows(3).position(|window| window == br#"{"n"#.as_slice()).unwrap();
    text[at + 2] = 0xFF;
    let mut decoder = RecordDecoder::new();
    let (cut, long, twice) = (&good[..good.len() - 1], [&good[..], b"x"].concat(), [&good[..], &good[..]].concat());
    let unknown = [b"\xC3\x01nothing!", &good[10..]].concat();
    for bad in [&b""[..], b"\xC3", b"garbage", cut, &long, &twice, &unknown, &text, &good[..10]] {
        for before in [0, 1, 3] {
            let frames = std::iter::repeat_n(good.as_slice(), before).chain([bad, good.as_slice()]);
            let error = decoder.decode(frames).unwrap_err();
            assert_eq!(error.index, before, "{error} for {bad:?}");
        }
        assert_eq!(decoder.decode([good.as_slice()]).unwrap().num_rows(), 1, "usable again");
    }
    assert_eq!(decoder.decode([]).unwrap().num_rows(), 0);
}
