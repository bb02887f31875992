//! Backends that fail or die at a given call.

use async_trait::async_trait;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tributary_backends::{log::LogError, tables::*};
use tributary_schemas::{
    frame::{Attachment, BatchEvent, Reject},
    identity::{Identity, Lanes},
};

/// Counts the calls that change something. At the one that is fatal the process "dies": it and every later call fail
/// for good, and whether the fatal one took effect is part of the plan, for a kill may come before or after.
#[derive(Debug, Default, Clone)]
pub(crate) struct Fate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    calls_left: AtomicI64,
    takes_effect: std::sync::atomic::AtomicBool,
    /// Calls that fail with "unavailable" before that.
    away: AtomicU64,
    faults: Mutex<u64>,
    /// The next look-up finds its part being rebuilt.
    rebuilding: std::sync::atomic::AtomicBool,
    /// No scan ends at the moment.
    unread: watch::Sender<bool>,
    /// A workspace whose index cannot be finished at the moment.
    held: watch::Sender<Option<String>>,
}

/// What is to become of a call.
pub(crate) enum Verdict {
    Live,
    DieBefore,
    DieAfter,
    Away,
}

impl Fate {
    pub(crate) fn dies_at(call: u64, takes_effect: bool) -> Self {
        let fate = Self::default();
        fate.0.calls_left.store(call.cast_signed(), Ordering::SeqCst);
        fate.0.takes_effect.store(takes_effect, Ordering::SeqCst);
        fate
    }

    pub(crate) fn immortal() -> Self {
        Self::dies_at(i64::MAX.cast_unsigned(), true)
    }

    /// The next `calls` find the backend away.
    pub(crate) fn go_away_for(&self, calls: u64) {
        self.0.away.store(calls, Ordering::SeqCst);
    }

    /// Holds up every chunk of the workspace behind its commit, until another one is named or none.
    pub(crate) fn hold(&self, workspace: Option<&str>) {
        self.0.held.send_replace(workspace.map(str::to_owned));
    }

    /// Holds up the end of every scan, or no longer.
    pub(crate) fn hold_scans(&self, hold: bool) {
        self.0.unread.send_replace(hold);
    }

    /// Another process drops the part of the next look-up and has filled half of it when the keys are read, and all of it
    /// when the answer comes.
    pub(crate) fn rebuild_at_the_next_lookup(&self) {
        self.0.rebuilding.store(true, Ordering::SeqCst);
    }

    async fn held(&self, workspace: &str) {
        // Its sender lives in `self`.
        let _ = self.0.held.subscribe().wait_for(|held| held.as_deref() != Some(workspace)).await;
    }

    pub(crate) fn faults(&self) -> u64 {
        *self.0.faults.lock().unwrap()
    }

    pub(crate) fn judge(&self) -> Verdict {
        let away = self.0.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if away.is_ok() {
            *self.0.faults.lock().unwrap() += 1;
            return Verdict::Away;
        }
        match self.0.calls_left.fetch_sub(1, Ordering::SeqCst) {
            2.. => Verdict::Live,
            1 if self.0.takes_effect.load(Ordering::SeqCst) => Verdict::DieAfter,
            _ => Verdict::DieBefore,
        }
    }
}

pub(crate) fn dead_log() -> LogError {
    LogError::Halted("killed".into())
}

fn dead() -> TablesError {
    TablesError::Halted("killed".into())
}

/// Tables under a fate.
#[derive(Debug)]
pub(crate) struct MortalTables {
    pub(crate) tables: Arc<dyn Tables>,
    pub(crate) fate: Fate,
}

impl MortalTables {
    async fn lookup_amid_rebuilding(&self, part: &IndexPart, keys: &[Identity]) -> Result<Found, TablesError> {
        let mut all = Vec::new();
        let version = self.tables.scan(part, &mut |slice| all.extend_from_slice(slice)).await?;
        self.tables.clear(part).await?;
        self.tables.upsert(part, &all[..all.len() / 2]).await?;
        let found = self.tables.lookup(part, keys).await?;
        self.tables.upsert(part, &all).await?;
        self.tables.set_watermark(part, version.expect("it was complete")).await?;
        Ok(found)
    }
}

macro_rules! fated {
    ($self:ident, $call:expr) => {
        match $self.fate.judge() {
            Verdict::Live => $call.await,
            Verdict::Away => Err(TablesError::Unavailable("away".into())),
            Verdict::DieBefore => Err(dead()),
            Verdict::DieAfter => {
                $call.await?;
                Err(dead())
            }
        }
    };
}

#[async_trait]
impl KeyIndex for MortalTables {
    async fn lookup(&self, part: &IndexPart, keys: &[Identity]) -> Result<Found, TablesError> {
        if self.fate.0.rebuilding.swap(false, Ordering::SeqCst) {
            return self.lookup_amid_rebuilding(part, keys).await;
        }
        fated!(self, self.tables.lookup(part, keys))
    }
    async fn upsert(&self, part: &IndexPart, entries: &[(Identity, Location)]) -> Result<(), TablesError> {
        fated!(self, self.tables.upsert(part, entries))
    }
    async fn watermark(&self, part: &IndexPart) -> Result<Option<u64>, TablesError> {
        fated!(self, self.tables.watermark(part))
    }
    async fn set_watermark(&self, part: &IndexPart, table_version: u64) -> Result<(), TablesError> {
        self.fate.held(&part.workspace).await;
        fated!(self, self.tables.set_watermark(part, table_version))
    }
    async fn scan(
        &self,
        part: &IndexPart,
        each: &mut (dyn for<'a> FnMut(&'a [(Identity, Location)]) + Send),
    ) -> Result<Option<u64>, TablesError> {
        let scanned = fated!(self, self.tables.scan(part, each));
        let _ = self.fate.0.unread.subscribe().wait_for(|hold| !hold).await;
        scanned
    }
    async fn clear(&self, part: &IndexPart) -> Result<(), TablesError> {
        fated!(self, self.tables.clear(part))
    }
}

#[async_trait]
impl Batches for MortalTables {
    async fn put_batch(&self, row: BatchRow) -> Result<(), TablesError> {
        self.tables.put_batch(row).await
    }
    async fn batch(&self, workspace: &str, batch_id: &str) -> Result<Option<Batch>, TablesError> {
        self.tables.batch(workspace, batch_id).await
    }
    async fn batches(
        &self,
        workspace: &str,
        limit: usize,
        before: Option<&BatchPosition>,
    ) -> Result<Vec<Batch>, TablesError> {
        self.tables.batches(workspace, limit, before).await
    }
    async fn add_facts(&self, events: &[BatchEvent]) -> Result<(), TablesError> {
        fated!(self, self.tables.add_facts(events))
    }
    async fn landing_before(&self, created_before: i64, limit: usize) -> Result<Vec<Batch>, TablesError> {
        self.tables.landing_before(created_before, limit).await
    }
    async fn put_rejects(&self, rejects: &[Reject]) -> Result<(), TablesError> {
        fated!(self, self.tables.put_rejects(rejects))
    }
    async fn rejects(
        &self,
        workspace: &str,
        batch_id: &str,
        after: Option<u32>,
        limit: usize,
    ) -> Result<Vec<Reject>, TablesError> {
        self.tables.rejects(workspace, batch_id, after, limit).await
    }
    async fn put_attachments(&self, attachments: &[Attachment]) -> Result<(), TablesError> {
        fated!(self, self.tables.put_attachments(attachments))
    }
    async fn attachments(
        &self,
        workspace: &str,
        batch_id: &str,
        after: Option<AttachmentPosition>,
        limit: usize,
    ) -> Result<Vec<Attachment>, TablesError> {
        self.tables.attachments(workspace, batch_id, after, limit).await
    }
}

#[async_trait]
impl Keys for MortalTables {
    async fn create_key(&self, key: ApiKey, limit: usize) -> Result<(), TablesError> {
        self.tables.create_key(key, limit).await
    }
    async fn keys(&self, workspace: Option<&str>) -> Result<Vec<ApiKey>, TablesError> {
        self.tables.keys(workspace).await
    }
    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>, TablesError> {
        self.tables.key_by_hash(hash).await
    }
    async fn revoke_key(&self, id: &str, at: i64) -> Result<bool, TablesError> {
        self.tables.revoke_key(id, at).await
    }
    async fn touch_key(&self, id: &str, at: i64) -> Result<(), TablesError> {
        self.tables.touch_key(id, at).await
    }
}

#[async_trait]
impl Idempotency for MortalTables {
    async fn reserve(&self, hold: &Hold, now: i64, lease_until: i64) -> Result<Reservation, TablesError> {
        self.tables.reserve(hold, now, lease_until).await
    }
    async fn complete(&self, hold: &Hold, response: &[u8], expires_at: i64) -> Result<bool, TablesError> {
        self.tables.complete(hold, response, expires_at).await
    }
    async fn release(&self, hold: &Hold) -> Result<(), TablesError> {
        self.tables.release(hold).await
    }
    async fn expire(&self, now: i64) -> Result<u64, TablesError> {
        self.tables.expire(now).await
    }
}

#[async_trait]
impl Settings for MortalTables {
    async fn lanes(&self, wanted: Lanes) -> Result<Lanes, TablesError> {
        self.tables.lanes(wanted).await
    }
}

#[async_trait]
impl Board for MortalTables {
    async fn exchange(
        &self,
        board: &str,
        process: uuid::Uuid,
        note: &[u8],
        lives: Duration,
    ) -> Result<Vec<(uuid::Uuid, Vec<u8>)>, TablesError> {
        self.tables.exchange(board, process, note, lives).await
    }
}

impl Tables for MortalTables {}
