//! The Confluent wire format: a zero byte, the id that a schema registry gave the schema (big endian), the datum.
//!
//! Only the header differs from single-object encoding, so logs turn one into the other at their edge, and every decoder
//! of this crate reads both. What an id means is for the log to find out ([`SchemaIds`]), for that is I/O.

use super::{FrameError, single::fingerprint};
use std::fmt::Debug;

/// Bytes before the datum, single-object encoding.
pub(super) const SINGLE_BYTES: usize = 10;
/// Bytes before the datum, Confluent wire format.
pub const WIRE_BYTES: usize = 5;

const MARKER: [u8; 2] = [0xC3, 0x01];
const MAGIC: u8 = 0;

/// What the ids of a registry mean.
pub trait SchemaIds: Debug + Send + Sync + 'static {
    /// The schema with this id. Asked for every frame that has an id, so it must be quick.
    fn meaning(&self, id: u32) -> Meaning;
}

/// What an id means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The schema of this fingerprint ([`schema_fingerprint`]).
    Schema(u64),
    /// The registry knows no such id, or not for an Avro schema.
    Nothing,
    /// There is no registry to ask: a frame is held to be of its topic's schema, which it then must fit to the byte.
    Unasked,
}

/// There is no registry.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unasked;

impl SchemaIds for Unasked {
    fn meaning(&self, _: u32) -> Meaning {
        Meaning::Unasked
    }
}

/// The schema's id in the header of a frame in the Confluent wire format; `None` for all other bytes.
pub fn wire_id(frame: &[u8]) -> Option<u32> {
    let [MAGIC, id @ ..] = frame.first_chunk::<WIRE_BYTES>()? else { return None };
    Some(u32::from_be_bytes(*id))
}

/// The header of frames whose schema has this id.
pub fn wire_header(id: u32) -> [u8; WIRE_BYTES] {
    let [a, b, c, d] = id.to_be_bytes();
    [MAGIC, a, b, c, d]
}

/// The datum of a frame in single-object encoding; `None` for all other bytes.
pub fn single_object_datum(frame: &[u8]) -> Option<&[u8]> {
    if frame.starts_with(&MARKER) { frame.get(SINGLE_BYTES..) } else { None }
}

/// The fingerprint (CRC-64-AVRO of the parsing canonical form) of a schema as JSON.
///
/// # Errors
/// It is not an Avro schema.
pub fn schema_fingerprint(json: &str) -> Result<u64, FrameError> {
    fingerprint(json).map_err(|reason| FrameError { index: 0, reason })
}

/// The header of frames in single-object encoding.
pub(super) fn single_header(fingerprint: u64) -> [u8; SINGLE_BYTES] {
    let mut header = [0; SINGLE_BYTES];
    header[..2].copy_from_slice(&MARKER);
    header[2..].copy_from_slice(&fingerprint.to_le_bytes());
    header
}

/// The header in single-object encoding that stands for `id` in a topic whose schema has the header `own`.
pub(super) fn header_of(id: u32, own: [u8; SINGLE_BYTES], ids: &dyn SchemaIds) -> Result<[u8; SINGLE_BYTES], String> {
    match ids.meaning(id) {
        Meaning::Schema(fingerprint) => Ok(single_header(fingerprint)),
        Meaning::Unasked => Ok(own),
        Meaning::Nothing => Err(format!("the schema registry has no Avro schema with the id {id}")),
    }
}
