//! The Confluent wire format, beside single-object encoding and among it.

use super::*;
use std::sync::Arc;

/// 7 is the schema of records, 8 that of rejects; the registry knows no other.
#[derive(Debug)]
struct Registry;

impl SchemaIds for Registry {
    fn meaning(&self, id: u32) -> Meaning {
        match id {
            7 => Meaning::Schema(schema_fingerprint(RECORD_SCHEMA).unwrap()),
            8 => Meaning::Schema(schema_fingerprint(Reject::SCHEMA).unwrap()),
            9 => Meaning::Schema(schema_fingerprint(r#""string""#).unwrap()),
            _ => Meaning::Nothing,
        }
    }
}

/// As it would be with this id.
fn with_id(frame: &[u8], id: u32) -> Vec<u8> {
    [&wire_header(id)[..], single_object_datum(frame).unwrap()].concat()
}

#[test]
fn the_header_is_a_zero_and_the_id_in_big_endian() {
    assert_eq!(wire_header(0x0102_0304), [0, 1, 2, 3, 4]);
    assert_eq!(wire_id(&[0, 1, 2, 3, 4, 99]), Some(0x0102_0304));
    let record = frame(MINIMAL, 0);
    for other in [&record[..], b"", b"\0\0\0\0", b"\x01\0\0\0\x07"] {
        assert_eq!(wire_id(other), None, "{other:?}");
    }
    assert_eq!(single_object_datum(&with_id(&record, 7)), None);
}

#[test]
fn records_of_both_encodings_stand_side_by_side() {
    let single: Vec<_> = (0..4).map(|index| frame(MINIMAL, index)).collect();
    let mixed = [single[0].clone(), with_id(&single[1], 7), with_id(&single[2], 7), single[3].clone()];
    let wanted = RecordDecoder::new().decode(single.iter().map(Vec::as_slice)).unwrap();
    for mut decoder in [RecordDecoder::new(), RecordDecoder::with_ids(Arc::new(Registry))] {
        assert_eq!(decoder.decode(mixed.iter().map(Vec::as_slice)).unwrap(), wanted);
    }
}

#[test]
fn other_frames_are_read_from_both() {
    let (reject, mut single) = (reject(), Vec::new());
    reject.encode(&mut single);
    assert_eq!(Reject::decode_as(&single, &Registry).unwrap(), reject);
    assert_eq!(Reject::decode_as(&with_id(&single, 8), &Registry).unwrap(), reject);
    assert_eq!(Reject::decode(&with_id(&single, 12_345)).unwrap(), reject, "nobody to ask: the topic's schema");
}

#[test]
fn what_the_registry_does_not_know_or_calls_another_schema_is_refused() {
    let good = frame(MINIMAL, 0);
    let mut decoder = RecordDecoder::with_ids(Arc::new(Registry));
    for (id, word) in [(1, "no Avro schema with the id 1"), (8, "fingerprint"), (9, "fingerprint")] {
        let bad = with_id(&good, id);
        let error = decoder.decode([&good[..], &bad, &good]).unwrap_err();
        assert_eq!(error.index, 1);
        assert!(error.reason.contains(word), "{error}");
        assert_eq!(decoder.decode([&with_id(&good, 7)[..], &good]).unwrap().num_rows(), 2, "usable again");
    }
    let mut single = Vec::new();
    reject().encode(&mut single);
    for (id, word) in [(1, "no Avro schema with the id 1"), (7, "fingerprint")] {
        let error = Reject::decode_as(&with_id(&single, id), &Registry).unwrap_err();
        assert!(error.reason.contains(word), "{error}");
    }
}

#[test]
fn a_datum_that_does_not_fit_is_refused_also_when_nobody_can_be_asked() {
    let good = with_id(&frame(MINIMAL, 0), 7);
    let (cut, long) = (&good[..good.len() - 1], [&good[..], b"x"].concat());
    for bad in [cut, &long, &good[..WIRE_BYTES], b"\0garbage"] {
        let error = RecordDecoder::new().decode([&good[..], bad, &good]).unwrap_err();
        assert_eq!(error.index, 1, "{error} for {bad:?}");
        assert!(BatchEvent::decode(bad).is_err());
    }
}

#[test]
fn a_schema_is_known_by_its_canonical_form() {
    let compact: serde_json::Value = serde_json::from_str(RECORD_SCHEMA).unwrap();
    assert_eq!(schema_fingerprint(&compact.to_string()).unwrap(), schema_fingerprint(RECORD_SCHEMA).unwrap());
    assert!(schema_fingerprint("{}").is_err() && schema_fingerprint("no JSON").is_err());
}
