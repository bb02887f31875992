//! Bytes of the key index: one keyspace, in which a part's number comes first.
//!
//! | key | value |
//! |---|---|
//! | `0`, workspace, lane | the part's number, from 1 |
//! | number | the part's [`Meta`] |
//! | number, identity (16 bytes) | [`Location`] |
//!
//! All of it in one keyspace, because one keyspace keeps the order of its writes whatever is lost: a watermark that
//! is there proves that everything written before it is there.

use crate::tables::{
    IndexPart, Location, TablesError,
    embedded::codec::{Fields, Key, Parts, damaged},
};
use tributary_schemas::identity::Identity;
use uuid::Uuid;

/// The only format of values so far.
const FORMAT: u8 = 1;
const REGISTRY: u32 = 0;
/// Bytes of a part's number before an identity.
const NUMBER_BYTES: usize = 4;
pub(super) const ENTRY_KEY_BYTES: usize = NUMBER_BYTES + 16;
const LOCATION_BYTES: usize = 1 + 16 + 4 + 8 + 8 + 8;

/// What is known of a part as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// Up to which table version it is complete.
    pub(super) watermark: Option<u64>,
    /// The highest table version of any entry ever written to it.
    pub(super) highest: u64,
}

impl Meta {
    pub(super) fn encode(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        bytes[0] = FORMAT;
        bytes[1] = u8::from(self.watermark.is_some());
        bytes[2..10].copy_from_slice(&self.watermark.unwrap_or(0).to_le_bytes());
        bytes[10..].copy_from_slice(&self.highest.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, TablesError> {
        let mut fields = Fields::of(bytes, "index part");
        fields.format(FORMAT)?;
        let [complete] = fields.take()?;
        let watermark = u64::from_le_bytes(fields.take()?);
        Ok(Self { watermark: (complete == 1).then_some(watermark), highest: u64::from_le_bytes(fields.take()?) })
    }
}

pub(super) fn registry_prefix() -> [u8; NUMBER_BYTES] {
    REGISTRY.to_be_bytes()
}

pub(super) fn part_key(part: &IndexPart) -> Result<Vec<u8>, TablesError> {
    Key::new().number(REGISTRY).text(&part.workspace).number(part.lane).done()
}

pub(super) fn read_part_key(key: &[u8]) -> Result<IndexPart, TablesError> {
    let mut parts = Parts::of(key);
    parts.number()?;
    Ok(IndexPart { workspace: parts.text()?.to_owned(), lane: parts.number()? })
}

pub(super) fn meta_key(number: u32) -> [u8; NUMBER_BYTES] {
    number.to_be_bytes()
}

pub(super) fn entry_key(number: u32, identity: &Identity) -> [u8; ENTRY_KEY_BYTES] {
    let mut key = [0; ENTRY_KEY_BYTES];
    key[..NUMBER_BYTES].copy_from_slice(&number.to_be_bytes());
    key[NUMBER_BYTES..].copy_from_slice(&identity.0);
    key
}

pub(super) fn identity_of(key: &[u8]) -> Result<Identity, TablesError> {
    let identity = key.get(NUMBER_BYTES..).and_then(|rest| <[u8; 16]>::try_from(rest).ok());
    identity.map(Identity).ok_or_else(|| damaged("index key", "it has another length"))
}

pub(super) fn encode_location(location: &Location) -> [u8; LOCATION_BYTES] {
    let mut bytes = [0; LOCATION_BYTES];
    bytes[0] = FORMAT;
    bytes[1..17].copy_from_slice(location.file.as_bytes());
    bytes[17..21].copy_from_slice(&location.row.to_le_bytes());
    bytes[21..29].copy_from_slice(&location.version.to_le_bytes());
    bytes[29..37].copy_from_slice(&location.digest.to_le_bytes());
    bytes[37..].copy_from_slice(&location.table_version.to_le_bytes());
    bytes
}

pub(super) fn decode_location(bytes: &[u8]) -> Result<Location, TablesError> {
    let mut fields = Fields::of(bytes, "index entry");
    fields.format(FORMAT)?;
    Ok(Location {
        file: Uuid::from_bytes(fields.take()?),
        row: u32::from_le_bytes(fields.take()?),
        version: i64::from_le_bytes(fields.take()?),
        digest: i64::from_le_bytes(fields.take()?),
        table_version: u64::from_le_bytes(fields.take()?),
    })
}
