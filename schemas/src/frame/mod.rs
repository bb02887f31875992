//! The Avro frames on the topics. Schemas in `avro/*.avsc`; single-object encoding (marker `C3 01`, CRC-64-AVRO
//! fingerprint, datum), or the Confluent wire format ([`SchemaIds`]), which decoders read too.

use crate::{batch::Fact, identity::Identity};
use serde::{Deserialize, Serialize};

mod record;
mod single;
mod wire;
mod workspace;

pub use record::{RECORD_SCHEMA, RecordDecoder, encode_record};
pub use wire::{
    Meaning, SchemaIds, Unasked, WIRE_BYTES, schema_fingerprint, single_object_datum, wire_header, wire_id,
};
pub use workspace::workspace_of;

/// What the API adds to an accepted record.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// Workspace of the key that sent it.
    pub workspace: &'a str,
    /// Source name of that key.
    pub source: &'a str,
    /// Batch it came in.
    pub batch_id: &'a str,
    /// Place in that batch, from 0, rejected records counted.
    pub record_index: u32,
    /// When the API took it, microseconds since the Unix epoch.
    pub received_at: i64,
    /// Who it is.
    pub identity: Identity,
    /// On the last record that its batch sends to this lane: how many lanes the batch touches.
    pub lanes_in_batch: Option<u32>,
}

/// A frame that cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[error("frame {index}: {reason}")]
pub struct FrameError {
    /// Which of the frames given, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// One rejected record (topic `rejects`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Reject {
    pub workspace: String,
    pub batch_id: String,
    /// Place in the batch, from 0.
    pub record_index: u32,
    /// Line of the body, from 1, for NDJSON.
    pub line: Option<u32>,
    pub received_at: i64,
    pub errors: Vec<RejectError>,
    /// The record as sent, cut at a bound, invalid UTF-8 replaced.
    pub payload: String,
    /// True when `payload` was cut.
    pub payload_cut: bool,
}

/// One error of a rejected record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RejectError {
    pub code: String,
    pub pointer: String,
    pub message: String,
}

/// One attachment of a record that has landed (topic `attachments`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Attachment {
    pub workspace: String,
    pub batch_id: String,
    /// Place of the record in the batch, from 0.
    pub record_index: u32,
    /// Place in the record's `_attachments`, from 0.
    pub n: u32,
    /// Of the record.
    #[serde(with = "as_fixed")]
    pub key: Identity,
    #[serde(rename = "type")]
    pub kind: String,
    pub filename: Option<String>,
    /// Bytes, as the sender said.
    pub size: Option<i64>,
    pub mime_type: Option<String>,
    pub sha1: Option<String>,
    pub md5: Option<String>,
    pub vendor_url: Option<String>,
    pub upload_intent_id: Option<String>,
}

/// A fact about one batch (topic `batch-events`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct BatchEvent {
    pub workspace: String,
    pub batch_id: String,
    /// Microseconds since the Unix epoch.
    pub at: i64,
    pub fact: Fact,
}

/// A message that could not be processed (topic `dead-letters`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct DeadLetter {
    pub topic: String,
    pub partition: u32,
    pub offset: i64,
    pub stage: String,
    pub reason: String,
    pub at: i64,
    #[serde(with = "as_bytes")]
    pub key: Vec<u8>,
    #[serde(with = "as_bytes")]
    pub payload: Vec<u8>,
}

/// Frames that are read one at a time, not as columns.
pub trait Frame: Sized {
    /// The Avro schema that is written now, as JSON.
    const SCHEMA: &'static str;
    /// Appends the frame, in single-object encoding.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads a frame of either encoding; `ids` says what the ids of the Confluent wire format mean.
    ///
    /// # Errors
    /// Unknown schema, or bytes that are not such a datum.
    fn decode_as(bytes: &[u8], ids: &dyn SchemaIds) -> Result<Self, FrameError>;
    /// Reads a frame where there is no registry.
    ///
    /// # Errors
    /// As [`Self::decode_as`].
    fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        Self::decode_as(bytes, &Unasked)
    }
}

/// Bytes as Avro `bytes`.
mod as_bytes {
    use serde::{
        Deserializer, Serializer,
        de::{SeqAccess, Visitor},
    };
    use std::fmt;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
            /// As formats without bytes, like JSON, have them.
            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vec<u8>, A::Error> {
                std::iter::from_fn(|| numbers.next_element().transpose()).collect()
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// An identity as Avro `fixed`.
mod as_fixed {
    use super::as_bytes;
    use crate::identity::Identity;
    use serde::{Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(key: &Identity, serializer: S) -> Result<S::Ok, S::Error> {
        as_bytes::serialize(&key.0, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Identity, D::Error> {
        let key = as_bytes::deserialize(deserializer)?;
        key.try_into().map(Identity).map_err(|key| D::Error::invalid_length(key.len(), &"16 bytes"))
    }
}

#[cfg(test)]
mod tests;
