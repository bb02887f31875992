//! Bytes of released frames. Logs hold them, so they must decode for ever; a new version adds a line and removes none.

use super::*;
use crate::record::tests::FULL;

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The frame on the line of this name.
fn golden(name: &str) -> Vec<u8> {
    let lines = include_str!("../../../testdata/frames.txt");
    let line = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    bytes(line.unwrap_or_else(|| panic!("no frame {name}")))
}

fn encoded(frame: &impl Frame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    out
}

/// Computed apart from both Avro libraries: CRC-64-AVRO of the parsing canonical form, little endian.
#[test]
fn headers_are_those_of_the_specification() {
    for (name, header) in [
        ("attachment.1", "c3010bee07020bf47933"),
        ("batch_event.1", "c3010c465b31d508ccf4"),
        ("dead_letter.1", "c3017e3a8af93e75c0ea"),
        ("record.1", "c3012509f0b66e88a10b"),
        ("reject.1", "c301ffc546c09e7c38de"),
    ] {
        assert_eq!(hex(&golden(name)[..10]), header, "{name}");
    }
}

#[test]
fn a_record_of_version_1() {
    let wanted = golden("record.1");
    assert_eq!(hex(&frame(FULL, 1)), hex(&wanted), "the released version is what is written");
    let batch = RecordDecoder::new().decode([wanted.as_slice()]).unwrap();
    let shown: Vec<_> = batch
        .columns()
        .iter()
        .zip(batch.schema().fields())
        .map(|(column, field)| {
            format!("{}={}", field.name(), arrow::util::display::array_value_to_string(column, 0).unwrap())
        })
        .collect();
    assert_eq!(shown.join("\n"), include_str!("../../../testdata/record.1.txt").trim_end());
}

#[test]
fn other_frames_of_version_1() {
    let reject = reject();
    assert_eq!(Reject::decode(&golden("reject.1")).unwrap(), reject);
    assert_eq!(hex(&encoded(&reject)), hex(&golden("reject.1")));
    let attachment = attachment();
    assert_eq!(Attachment::decode(&golden("attachment.1")).unwrap(), attachment);
    assert_eq!(hex(&encoded(&attachment)), hex(&golden("attachment.1")));
    let event = BatchEvent {
        workspace: "w".into(),
        batch_id: "b".into(),
        at: 1,
        fact: Fact::Landed { lane: 3, lanes_in_batch: 4 },
    };
    assert_eq!(BatchEvent::decode(&golden("batch_event.1")).unwrap(), event);
    assert_eq!(hex(&encoded(&event)), hex(&golden("batch_event.1")));
    let letter = letter();
    assert_eq!(DeadLetter::decode(&golden("dead_letter.1")).unwrap(), letter);
    assert_eq!(hex(&encoded(&letter)), hex(&golden("dead_letter.1")));
}
