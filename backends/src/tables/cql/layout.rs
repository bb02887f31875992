//! Bytes of the key index, and the arithmetic of its partitions.

use super::{cluster::unreadable, failure::Failure};
use crate::tables::Location;
use std::collections::HashMap;
use tributary_schemas::identity::Identity;
use uuid::Uuid;

/// Bits of a new part: 256 partitions, so that a chunk of 10,000 keys reads and writes about 40 keys at once.
pub(super) const BITS: i32 = 8;
const MOST_BITS: i32 = 16;
/// A partition that is to be made anew is given room for this many entries, about 3 MB.
const ENTRIES: f64 = 32_768.0;
/// The only format of locations so far.
const FORMAT: u8 = 1;
const LOCATION_BYTES: usize = 1 + 16 + 4 + 8 + 8 + 8;

/// One making of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) id: Uuid,
    pub(super) bits: i32,
}

/// Values of the statement that writes an entry.
pub(super) type Row = (Uuid, i32, [u8; 16], [u8; LOCATION_BYTES], i64);

impl Generation {
    pub(super) fn buckets(self) -> i32 {
        1 << self.bits
    }

    /// Its partition of the entry: the first bits of the identity.
    pub(super) fn bucket(self, Identity(bytes): &Identity) -> i32 {
        i32::from(u16::from_be_bytes([bytes[0], bytes[1]])) >> (MOST_BITS - self.bits)
    }

    pub(super) fn row(self, (identity, location): &(Identity, Location)) -> Row {
        let stamp = i64::try_from(location.table_version).unwrap_or(i64::MAX);
        (self.id, self.bucket(identity), identity.0, encode(location), stamp)
    }
}

/// Generation, its bits, those that are dropped, watermark: a part's row.
type Stored = (Option<Uuid>, Option<i32>, Option<HashMap<Uuid, i32>>, Option<Vec<u8>>);

/// What is known of a part.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) generation: Option<Generation>,
    /// Generations whose partitions may still be there, with their bits.
    pub(super) dropped: HashMap<Uuid, i32>,
    pub(super) watermark: Option<u64>,
}

impl Part {
    pub(super) fn read((id, bits, dropped, watermark): Stored) -> Result<Self, Failure> {
        let generation = match (id, bits) {
            (Some(id), Some(bits)) if (0..=MOST_BITS).contains(&bits) => Some(Generation { id, bits }),
            (None, _) => None,
            (Some(_), bits) => return Err(unreadable(format!("a part with {bits:?} bits"))),
        };
        let watermark = watermark.map(|bytes| decode_watermark(&bytes)).transpose()?;
        let watermark = watermark.filter(|(of, _)| generation.is_some_and(|now| now.id == *of)).map(|(_, at)| at);
        Ok(Self { generation, dropped: dropped.unwrap_or_default(), watermark })
    }
}

/// Bits for as many entries as there are when the first partition has `count` keys up to `last`, which lies in it:
/// identities are spread evenly over all there can be.
pub(super) fn bits_for(count: usize, last: &Identity) -> i32 {
    let share = (u128::from_be_bytes(last.0) as f64 + 1.0) / u128::MAX as f64;
    let total = count as f64 / share;
    ((total / ENTRIES).log2().ceil() as i32).clamp(BITS, MOST_BITS)
}

/// Both in one cell: a watermark means nothing without its generation.
pub(super) fn encode_watermark(generation: Uuid, table_version: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(generation.as_bytes());
    bytes[16..].copy_from_slice(&table_version.to_be_bytes());
    bytes
}

fn decode_watermark(bytes: &[u8]) -> Result<(Uuid, u64), Failure> {
    let mut rest = bytes;
    let read = (Uuid::from_bytes(take(&mut rest)?), u64::from_be_bytes(take(&mut rest)?));
    Ok(read)
}

fn encode(location: &Location) -> [u8; LOCATION_BYTES] {
    let mut bytes = [FORMAT; LOCATION_BYTES];
    bytes[1..17].copy_from_slice(location.file.as_bytes());
    bytes[17..21].copy_from_slice(&location.row.to_be_bytes());
    bytes[21..29].copy_from_slice(&location.version.to_be_bytes());
    bytes[29..37].copy_from_slice(&location.digest.to_be_bytes());
    bytes[37..].copy_from_slice(&location.table_version.to_be_bytes());
    bytes
}

pub(super) fn read_entry(key: &[u8], location: &[u8]) -> Result<(Identity, Location), Failure> {
    let mut rest = location;
    let [format] = take(&mut rest)?;
    if format != FORMAT {
        return Err(unreadable(format!("an index entry of format {format}")));
    }
    let location = Location {
        file: Uuid::from_bytes(take(&mut rest)?),
        row: u32::from_be_bytes(take(&mut rest)?),
        version: i64::from_be_bytes(take(&mut rest)?),
        digest: i64::from_be_bytes(take(&mut rest)?),
        table_version: u64::from_be_bytes(take(&mut rest)?),
    };
    Ok((read_key(key)?, location))
}

pub(super) fn read_key(mut key: &[u8]) -> Result<Identity, Failure> {
    Ok(Identity(take(&mut key)?))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Failure> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| unreadable("it is cut"))?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(first: u16) -> Identity {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&first.to_be_bytes());
        Identity(bytes)
    }

    #[test]
    fn buckets_follow_the_order_of_the_keys() {
        for bits in [0, 1, BITS, MOST_BITS] {
            let generation = Generation { id: Uuid::nil(), bits };
            assert_eq!(generation.bucket(&Identity([0; 16])), 0);
            assert_eq!(generation.bucket(&Identity([0xFF; 16])), generation.buckets() - 1);
            let buckets: Vec<_> = (0..=u16::MAX).map(|first| generation.bucket(&identity(first))).collect();
            assert!(buckets.is_sorted());
        }
    }

    #[test]
    fn a_part_grows_by_what_it_holds() {
        // 1,024 keys in the first 256th: 262,144 in all, for which 256 partitions are plenty.
        assert_eq!(bits_for(1_024, &identity(0x00FF)), BITS);
        // All at the very beginning: as many as there can be.
        assert_eq!(bits_for(1_024, &identity(0x0000)), MOST_BITS);
        // In a 16th of it: 4 million, of which 32,768 are a 128th, so it has room enough; in its first identity: 67 million.
        assert_eq!(bits_for(1_024, &identity(0x000F)), BITS);
        assert_eq!(bits_for(1_024, &identity(0x0001)), 11);
    }

    #[test]
    fn what_is_written_reads_back() {
        let location =
            Location { file: Uuid::from_u128(7), row: 3, version: i64::MIN, digest: -1, table_version: u64::MAX };
        let key = Identity([9; 16]);
        assert_eq!(read_entry(&key.0, &encode(&location)).unwrap(), (key, location));
        assert!(read_entry(&key.0, &encode(&location)[..40]).is_err());
        let watermark = encode_watermark(Uuid::from_u128(1), 5);
        let of = |id| Part::read((Some(Uuid::from_u128(id)), Some(BITS), None, Some(watermark.to_vec()))).unwrap();
        assert_eq!((of(1).watermark, of(2).watermark), (Some(5), None), "of another generation it says nothing");
    }
}
