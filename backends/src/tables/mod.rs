//! The port `Tables`: API keys, batches and their facts, rejects, attachments, idempotency, the key index, and notes
//! between processes.
//!
//! Every write that a promise rests on (keys, batches, facts, idempotency) is durable when its call returns. The key
//! index is derived from the lake; it may lose its newest writes, but never keeps a watermark that is ahead of them.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tributary_schemas::{
    api::RecordError,
    batch::Fact,
    frame::{Attachment, BatchEvent, Reject},
    identity::{Identity, Lanes},
};

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "cql")]
pub mod cql;
pub mod embedded;

/// Classified by what the caller must do.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// Try again later. The write may or may not have happened; every write may be repeated.
    #[error("the tables are not available: {0}")]
    Unavailable(String),
    /// No room: try again once the disk has space.
    #[error("no space left for the tables: {0}")]
    Full(String),
    /// The workspace already has its most live keys.
    #[error("workspace {workspace} already has {limit} live keys: revoke one first")]
    KeyLimit {
        /// Which workspace.
        workspace: String,
        /// How many it may have.
        limit: usize,
    },
    /// Stored data is not what was written, or contradicts what is asked: halt and tell the operator.
    #[error("{0}")]
    Halted(String),
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Permission {
    /// `GET`.
    #[serde(rename = "api:read")]
    Read,
    /// `POST` and `GET`.
    #[serde(rename = "api:write")]
    Write,
}

/// An API key as stored: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Public id, for lists and revocation.
    pub id: String,
    /// BLAKE3 of the key text.
    pub hash: [u8; 32],
    /// Workspace that it belongs to.
    pub workspace: String,
    /// For people.
    pub label: String,
    /// Source name stamped on its records.
    pub source: String,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Requests per second, when it has a rate of its own (0: off).
    pub rate_limit: Option<u32>,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    /// Likewise; coarse (to the minute).
    pub last_used_at: Option<i64>,
    /// Likewise; a revoked key never works again.
    pub revoked_at: Option<i64>,
}

/// A batch as accepted; its status follows from its facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct BatchRow {
    pub workspace: String,
    pub batch_id: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    pub accepted: u32,
    pub rejected: u32,
    pub total_errors: u32,
    /// The first 20.
    pub errors: Vec<RecordError>,
    pub source: String,
    /// Normalised `_type`.
    pub kind: String,
    /// `?format=` hint.
    pub format: Option<String>,
    pub attachments: u32,
}

/// A batch with what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// As accepted.
    pub row: BatchRow,
    /// Distinct facts with the time of the first that said so (microseconds).
    pub facts: Vec<(Fact, i64)>,
}

/// Where a page of batches goes on: strictly older than this.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub struct BatchPosition {
    pub created_at: i64,
    pub batch_id: String,
}

/// Where an attachment stands in its batch; pages follow this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AttachmentPosition {
    pub record_index: u32,
    /// In the record's list, from 0.
    pub n: u32,
}

/// What a request with an `Idempotency-Key` finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// This request holds the key now: process, then complete or release.
    Fresh,
    /// Done before with the same body: the stored response.
    Stored(Vec<u8>),
    /// Used before with another body.
    Mismatch,
    /// A twin with the same body is being processed.
    InFlight,
}

/// A request's hold on an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Workspace of the key.
    pub workspace: String,
    /// The `Idempotency-Key`.
    pub key: String,
    /// Hash of everything that makes the request the same.
    pub body_hash: [u8; 32],
    /// Who holds it.
    pub owner: uuid::Uuid,
}

/// One part of the key index: the identities of one workspace in one lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub struct IndexPart {
    pub workspace: String,
    pub lane: u32,
}

/// Where the latest version of an identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// UUID in the file's name.
    pub file: uuid::Uuid,
    /// Row in that file, from 0.
    pub row: u32,
    /// Log offset of the record (`_version`).
    pub version: i64,
    /// Content hash of the record (`_digest`).
    pub digest: i64,
    /// Table version of the commit that put it there: the last one wins.
    pub table_version: u64,
}

/// What a look-up found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In the order of the keys.
    pub locations: Vec<Option<Location>>,
    /// The part's watermark before the first key was read, when nothing was dropped from then until the last one was: what
    /// has no location is in no version of the table up to this one. `None` when nobody says what the part has.
    pub complete_to: Option<u64>,
}

/// API keys.
#[async_trait]
pub trait Keys {
    /// Stores a key unless the workspace has `limit` live ones ([`TablesError::KeyLimit`]), atomically.
    async fn create_key(&self, key: ApiKey, limit: usize) -> Result<(), TablesError>;
    /// All keys, of one workspace or of all, oldest first.
    async fn keys(&self, workspace: Option<&str>) -> Result<Vec<ApiKey>, TablesError>;
    /// The key with this hash, revoked or not.
    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>, TablesError>;
    /// Revokes; false when there is no such key. Revoking again changes nothing.
    async fn revoke_key(&self, id: &str, at: i64) -> Result<bool, TablesError>;
    /// Notes its use.
    async fn touch_key(&self, id: &str, at: i64) -> Result<(), TablesError>;
}

/// Batches, facts, rejects, attachments.
#[async_trait]
pub trait Batches {
    /// Stores a batch as accepted (status `LANDING`).
    async fn put_batch(&self, row: BatchRow) -> Result<(), TablesError>;
    /// One batch of a workspace.
    async fn batch(&self, workspace: &str, batch_id: &str) -> Result<Option<Batch>, TablesError>;
    /// Up to `limit` batches strictly older than `before`, newest first.
    async fn batches(
        &self,
        workspace: &str,
        limit: usize,
        before: Option<&BatchPosition>,
    ) -> Result<Vec<Batch>, TablesError>;
    /// Adds facts, which may repeat, come in any order, and come before the batch's row.
    async fn add_facts(&self, events: &[BatchEvent]) -> Result<(), TablesError>;
    /// Up to `limit` batches created before `created_before` (ms) that are neither landed nor failed.
    async fn landing_before(&self, created_before: i64, limit: usize) -> Result<Vec<Batch>, TablesError>;
    /// Stores rejected records; the same (batch, index) again overwrites.
    async fn put_rejects(&self, rejects: &[Reject]) -> Result<(), TablesError>;
    /// Up to `limit` rejected records of a batch with index > `after`, in order.
    async fn rejects(
        &self,
        workspace: &str,
        batch_id: &str,
        after: Option<u32>,
        limit: usize,
    ) -> Result<Vec<Reject>, TablesError>;
    /// Stores attachments; the same (batch, index, n) again overwrites.
    async fn put_attachments(&self, attachments: &[Attachment]) -> Result<(), TablesError>;
    /// Up to `limit` attachments of a batch behind `after`, in the order of their positions.
    async fn attachments(
        &self,
        workspace: &str,
        batch_id: &str,
        after: Option<AttachmentPosition>,
        limit: usize,
    ) -> Result<Vec<Attachment>, TablesError>;
}

/// Idempotency keys.
#[async_trait]
pub trait Idempotency {
    /// Takes hold of the key, or says what it found. A hold of a dead process ends at `lease_until`, a stored
    /// response at its expiry (both microseconds). Atomic: of concurrent twins exactly one gets `Fresh`.
    async fn reserve(&self, hold: &Hold, now: i64, lease_until: i64) -> Result<Reservation, TablesError>;
    /// Stores the response of the holder, kept until `expires_at`. False, and nothing is stored, when another request has
    /// taken the key over: then the other's response is the one that counts.
    async fn complete(&self, hold: &Hold, response: &[u8], expires_at: i64) -> Result<bool, TablesError>;
    /// Gives the key up, as if never used; a no-op when `hold` is not the holder.
    async fn release(&self, hold: &Hold) -> Result<(), TablesError>;
    /// Drops what expired before `now`; how many.
    async fn expire(&self, now: i64) -> Result<u64, TablesError>;
}

/// The key index: never asked key by key.
///
/// Of one process, one task at a time writes to a part and looks into it, and others may scan; of several processes, any
/// number may write.
#[async_trait]
pub trait KeyIndex {
    /// Where `keys` are, and how far that can be relied on.
    async fn lookup(&self, part: &IndexPart, keys: &[Identity]) -> Result<Found, TablesError>;
    /// Writes locations; an entry with a higher `table_version` that is already there stays.
    async fn upsert(&self, part: &IndexPart, entries: &[(Identity, Location)]) -> Result<(), TablesError>;
    /// The table version up to which the part is known to be complete.
    async fn watermark(&self, part: &IndexPart) -> Result<Option<u64>, TablesError>;
    /// Moves it, after the writes that it speaks of. When the part was dropped since the caller last looked, it says
    /// nothing about what is there now.
    async fn set_watermark(&self, part: &IndexPart, table_version: u64) -> Result<(), TablesError>;
    /// All entries of the part, in slices, in key order. Returns up to which version they are complete, as
    /// [`Found::complete_to`].
    async fn scan(
        &self,
        part: &IndexPart,
        each: &mut (dyn for<'a> FnMut(&'a [(Identity, Location)]) + Send),
    ) -> Result<Option<u64>, TablesError>;
    /// Drops the part: entries and watermark.
    async fn clear(&self, part: &IndexPart) -> Result<(), TablesError>;
}

/// What was written down at first start.
#[async_trait]
pub trait Settings {
    /// The lanes written down; `wanted` is written when there are none yet.
    async fn lanes(&self, wanted: Lanes) -> Result<Lanes, TablesError>;
}

/// Notes that live processes leave for each other. They may be lost at any time, and be seen late: no promise rests on
/// them.
#[async_trait]
pub trait Board {
    /// Puts `note` in the place of the process's last one, to live for `lives` (whole seconds, rounded up), and returns
    /// all notes on the board that live, the latest last. Time is that of whoever keeps the notes: clocks of processes
    /// do not matter. A note lives for a few seconds and has up to some hundred kilobytes.
    async fn exchange(
        &self,
        board: &str,
        process: uuid::Uuid,
        note: &[u8],
        lives: Duration,
    ) -> Result<Vec<(uuid::Uuid, Vec<u8>)>, TablesError>;
}

/// All of it.
pub trait Tables:
    Keys + Batches + Idempotency + KeyIndex + Settings + Board + Send + Sync + std::fmt::Debug + 'static
{
}

/// Sorts by identity, and of several entries of one identity keeps the one with the highest table version (of equal
/// ones the last): one write cannot hold a key twice.
fn keep_winners(entries: &mut Vec<(Identity, Location)>) {
    entries.sort_by_key(|(identity, location)| (*identity, location.table_version));
    entries.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            *kept = *later;
        }
        same
    });
}
