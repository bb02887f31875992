//! Who a record is, and which lane it takes.

use crate::record::Record;

/// 128 bits of BLAKE3 over the normalised `_type`, the sorted length-prefixed `_vendor_ids` and the rounded
/// `_event_at`. Scoped by the workspace's table; the same identity again overwrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub [u8; 16]);

impl Identity {
    /// The identity of a normalised record: the first 16 bytes of BLAKE3 over, in this order, the `_type`'s name, the
    /// number of vendor ids, each one's key and value, and `_event_at` in seconds. Strings are preceded by their length
    /// in bytes; lengths and numbers are 8 bytes, little endian. Never to be changed: it is what makes a record the same
    /// as one that is already in the lake.
    pub fn of(record: &Record<'_>) -> Self {
        let mut input = Vec::with_capacity(128);
        put(&mut input, record.kind.as_str());
        input.extend_from_slice(&(record.vendor_ids.len() as u64).to_le_bytes());
        for (key, value) in &record.vendor_ids {
            put(&mut input, key);
            put(&mut input, value);
        }
        input.extend_from_slice(&record.event_at.to_le_bytes());
        let mut identity = [0; 16];
        identity.copy_from_slice(&blake3::hash(&input).as_bytes()[..16]);
        Self(identity)
    }
}

/// Appends a string so that no two sequences of strings give the same bytes.
pub(crate) fn put(input: &mut Vec<u8>, text: &str) {
    input.extend_from_slice(&(text.len() as u64).to_le_bytes());
    input.extend_from_slice(text.as_bytes());
}

/// How records spread over lanes (partitions of the `records` topic). Written down at first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lanes {
    /// Partitions of the `records` topic, ≥ 1.
    pub partitions: u32,
    /// Lanes that one workspace touches, 1 ≤ spread ≤ partitions.
    pub spread: u32,
}

impl Lanes {
    /// The lanes of one workspace: its first is the first eight bytes, little endian, of the hash of its name, mod
    /// `partitions`. Never to be changed: one identity must always take the same lane.
    pub fn of(&self, workspace: &str) -> WorkspaceLanes {
        let partitions = u64::from(self.partitions.max(1));
        let first = first_eight(blake3::hash(workspace.as_bytes()).as_bytes()) % partitions;
        WorkspaceLanes { first, spread: u64::from(self.spread.max(1)), partitions }
    }
}

/// The lanes of one workspace.
#[derive(Debug, Clone, Copy)]
pub struct WorkspaceLanes {
    first: u64,
    /// At least one, as are the partitions: there is always a lane.
    spread: u64,
    partitions: u64,
}

impl WorkspaceLanes {
    /// `(first + identity mod spread) mod partitions`, where the identity is its first eight bytes, little endian.
    pub fn lane(&self, identity: &Identity) -> u32 {
        let lane = (self.first + first_eight(&identity.0) % self.spread) % self.partitions;
        // Below `partitions`, which is a u32.
        u32::try_from(lane).unwrap_or(0)
    }

    /// Every lane that a record of the workspace can take.
    pub fn all(self) -> impl Iterator<Item = u32> {
        let Self { first, spread, partitions } = self;
        // As above.
        (0..spread).map(move |n| u32::try_from((first + n) % partitions).unwrap_or(0))
    }
}

/// Partition of a key in the topics that are spread by batch id: the first four bytes of its BLAKE3, big endian, mod
/// `partitions`. Never to be changed: what is said of one batch must stay in order.
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    let first = blake3::hash(key).as_bytes().first_chunk().copied().map_or(0, u32::from_be_bytes);
    first % partitions.max(1)
}

fn first_eight(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests;
