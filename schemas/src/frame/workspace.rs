//! Whose record a frame of topic `records` is, without reading the rest: the workspace is the first field of every version
//! of its schema.

/// Marker and fingerprint of single-object encoding.
const SINGLE_OBJECT: ([u8; 2], usize) = ([0xC3, 0x01], 10);
/// Marker and schema id of the Confluent wire format.
const CONFLUENT: ([u8; 1], usize) = ([0x00], 5);

/// The workspace; `None` when these bytes are no frame. It may be any text: whoever can write to the log chose it.
pub fn workspace_of(frame: &[u8]) -> Option<&str> {
    let header = match frame {
        frame if frame.starts_with(&SINGLE_OBJECT.0) => SINGLE_OBJECT.1,
        frame if frame.starts_with(&CONFLUENT.0) => CONFLUENT.1,
        _ => return None,
    };
    let (length, text) = length(frame.get(header..)?)?;
    std::str::from_utf8(text.get(..length)?).ok()
}

/// An Avro length, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    // Ten bytes hold every number of 64 bits.
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F).checked_shl(u32::try_from(at * 7).ok()?)?;
        if byte & 0x80 == 0 {
            // Zigzag: odd ones are negative, which no length is.
            let length = if value.is_multiple_of(2) { usize::try_from(value / 2).ok()? } else { return None };
            return Some((length, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::{Stamp, encode_record},
        identity::Identity,
        record,
    };
    use proptest::prelude::*;

    fn frame(workspace: &str) -> Vec<u8> {
        let json = br#"{"_type":"email","_schema_version":"1.0.0","_event_at":"2024-01-02T03:04:05Z","_product_id":"p",
            "_vendor_ids":{"a":"b"},"_project_id":"q","data":{}}"#;
        let record = record::parse(json).expect("a record");
        let identity = Identity::of(&record);
        let (source, batch_id) = ("s", "b");
        let stamp =
            Stamp { workspace, source, batch_id, record_index: 0, received_at: 0, identity, lanes_in_batch: None };
        let mut out = Vec::new();
        encode_record(&stamp, &record, &mut out);
        out
    }

    #[test]
    fn it_is_the_first_field() {
        let long = "w".repeat(70_000);
        for workspace in ["", "acme", "ä\u{1b}[2J\n", &long] {
            let frame = frame(workspace);
            assert_eq!(workspace_of(&frame), Some(workspace));
            let confluent = [&[0, 0, 0, 0, 7], &frame[10..]].concat();
            assert_eq!(workspace_of(&confluent), Some(workspace));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..40), cut in 0usize..40) {
            let _ = workspace_of(&bytes);
            let _ = workspace_of(&[&[0xC3, 0x01], &bytes[..]].concat());
            let frame = frame("acme");
            let _ = workspace_of(&frame[..cut]);
        }
    }
}
