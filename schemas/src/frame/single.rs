//! Avro through serde: written by `serde_avro_fast`, which takes a third of the time that `apache-avro` takes for a
//! record, and read, where frames are read one at a time, by `apache-avro`, which bounds what a damaged length may ask
//! for. Each is held to the other by the tests, and both to the released bytes.

use super::{
    Attachment, BatchEvent, DeadLetter, Frame, FrameError, Reject,
    wire::{SINGLE_BYTES, SchemaIds, WIRE_BYTES, header_of, single_header, wire_id},
};
use apache_avro::reader::datum::GenericDatumReader;
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm};
use serde::{Serialize, de::DeserializeOwned};
use serde_avro_fast::ser::{SerializerConfig, SerializerState};
use std::sync::LazyLock;

/// The longest string or byte array of a frame that is read one at a time: well above the largest request body.
const MAX_VALUE_BYTES: usize = 64 * 1024 * 1024;

/// A released schema, parsed once, with the ten bytes that announce it.
pub(super) struct Codec {
    writer: serde_avro_fast::Schema,
    reader: GenericDatumReader<'static>,
    header: [u8; SINGLE_BYTES],
}

impl Codec {
    /// Of one of the `.avsc` files of this crate.
    #[expect(clippy::expect_used, reason = "the schemas are part of the program; the tests parse every one")]
    pub(super) fn new(json: &str) -> Self {
        // A damaged length must not ask for more memory than any frame can need. The first caller decides.
        apache_avro::util::max_allocation_bytes(MAX_VALUE_BYTES);
        // One per schema and process, kept for ever, so that the reader can borrow from it.
        let schema = Box::leak(Box::new(apache_avro::Schema::parse_str(json).expect("a valid schema")));
        Self {
            writer: json.parse().expect("a valid schema"),
            reader: GenericDatumReader::builder(schema).human_readable(false).build().expect("a resolved schema"),
            header: single_header(fingerprint(json).expect("a valid schema")),
        }
    }

    /// What announces its data in single-object encoding.
    pub(super) fn header(&self) -> [u8; SINGLE_BYTES] {
        self.header
    }

    /// Appends the frame of `datum`.
    #[expect(clippy::expect_used, reason = "writing to memory cannot fail, and the tests hold each type to its schema")]
    pub(super) fn encode<T: Serialize>(&self, datum: &T, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
        let mut config = SerializerConfig::new(&self.writer);
        let mut state = SerializerState::from_writer(out, &mut config);
        datum.serialize(state.serializer()).expect("a datum of the schema");
    }

    fn decode<T: DeserializeOwned>(&self, frame: &[u8], ids: &dyn SchemaIds) -> Result<T, FrameError> {
        let bad = |reason: String| FrameError { index: 0, reason };
        let (header, mut datum) = match wire_id(frame) {
            Some(id) => (header_of(id, self.header, ids).map_err(bad)?, &frame[WIRE_BYTES..]),
            None => match frame.split_first_chunk() {
                Some((header, datum)) => (*header, datum),
                None => return Err(bad("it is too short for a header".to_owned())),
            },
        };
        if header != self.header {
            return Err(bad("it does not begin with the marker and fingerprint of a known schema".to_owned()));
        }
        let value = self.reader.read_deser(&mut datum).map_err(|error| bad(error.to_string()))?;
        if datum.is_empty() { Ok(value) } else { Err(bad(format!("{} bytes are left over", datum.len()))) }
    }
}

/// CRC-64-AVRO of the parsing canonical form. Taken from `arrow-avro`, because `apache-avro` 0.22 keeps
/// `{"type":"long"}` for a `long` with a logical type where the specification says `"long"`.
pub(super) fn fingerprint(json: &str) -> Result<u64, String> {
    match AvroSchema::new(json.to_owned()).fingerprint(FingerprintAlgorithm::Rabin) {
        Ok(Fingerprint::Rabin(fingerprint)) => Ok(fingerprint),
        // Asked for Rabin.
        Ok(other) => Err(format!("{other:?} is not the fingerprint that was asked for")),
        Err(error) => Err(error.to_string()),
    }
}

/// Ties a frame to its schema.
macro_rules! frame {
    ($frame:ty, $schema:literal) => {
        impl Frame for $frame {
            const SCHEMA: &'static str = include_str!($schema);
            fn encode(&self, out: &mut Vec<u8>) {
                <$frame>::codec().encode(self, out);
            }
            fn decode_as(bytes: &[u8], ids: &dyn SchemaIds) -> Result<Self, FrameError> {
                <$frame>::codec().decode(bytes, ids)
            }
        }

        impl $frame {
            fn codec() -> &'static Codec {
                static CODEC: LazyLock<Codec> = LazyLock::new(|| Codec::new(<$frame>::SCHEMA));
                &CODEC
            }
        }
    };
}

frame!(Reject, "../../avro/reject.avsc");
frame!(Attachment, "../../avro/attachment.avsc");
frame!(BatchEvent, "../../avro/batch_event.avsc");
frame!(DeadLetter, "../../avro/dead_letter.avsc");
