//! Who a record is, and which lane it takes.

use crate::record::Record;

/// 128 bits of BLAKE3 over the normalised `_type`, the sorted length-prefixed `_vendor_ids` and the rounded
/// `_event_at`. Scoped by the workspace's table; the same identity again overwrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub [u8; 16]);

impl Identity {
    /// The identity of a normalised record.
    pub fn of(record: &Record<'_>) -> Self {
        let _ = record;
        todo!()
    }
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
    /// `(hash(workspace) + identity mod spread) mod partitions`.
    pub fn lane(&self, workspace: &str, identity: &Identity) -> u32 {
        let _ = (workspace, identity);
        todo!()
    }
}
