//! Idempotency keys: held while a request is processed, then with its response until that expires.

use super::{
    codec::{Fields, Key, Parts},
    failure::Classified,
    state::{State, get},
};
use crate::tables::{Hold, Reservation, TablesError};
use uuid::Uuid;

/// Rows that one change drops, so that a sweep does not hold up the writers.
pub(super) const SWEEP: usize = 1_000;

/// The only format of entries so far.
const FORMAT: u8 = 1;
/// Bytes before the response: format, whether done, body hash, owner, start number, two times.
const HEAD: usize = 2 + 32 + 16 + 8 + 8 + 8;

/// What is stored under a key.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    body_hash: [u8; 32],
    owner: Uuid,
    /// Number of the start ([`State::start`]) of the process that took it.
    start: u64,
    /// Microseconds since the Unix epoch.
    taken_at: i64,
    /// When the lease ends, or the response expires.
    ends_at: i64,
    /// None while it is held.
    response: Option<Vec<u8>>,
}

impl Entry {
    /// Over at `now`: expired, its lease run out, or its holder died with an earlier process.
    fn is_over(&self, now: i64, start: u64) -> bool {
        self.ends_at <= now || (self.response.is_none() && self.start != start)
    }

    fn encode(&self) -> Vec<u8> {
        let response = self.response.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEAD + response.len());
        bytes.extend_from_slice(&[FORMAT, u8::from(self.response.is_some())]);
        bytes.extend_from_slice(&self.body_hash);
        bytes.extend_from_slice(self.owner.as_bytes());
        bytes.extend_from_slice(&self.start.to_be_bytes());
        bytes.extend_from_slice(&self.taken_at.to_be_bytes());
        bytes.extend_from_slice(&self.ends_at.to_be_bytes());
        bytes.extend_from_slice(response);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, TablesError> {
        let mut fields = Fields::of(bytes, "idempotency key");
        fields.format(FORMAT)?;
        let [done] = fields.take()?;
        let entry = Self {
            body_hash: fields.take()?,
            owner: Uuid::from_bytes(fields.take()?),
            start: u64::from_be_bytes(fields.take()?),
            taken_at: i64::from_be_bytes(fields.take()?),
            ends_at: i64::from_be_bytes(fields.take()?),
            response: None,
        };
        Ok(Self { response: (done == 1).then(|| fields.rest().to_vec()), ..entry })
    }
}

pub(super) fn reserve(state: &State, hold: &Hold, now: i64, lease_until: i64) -> Result<Reservation, TablesError> {
    let found = entry(state, hold)?;
    let fresh = Entry {
        body_hash: hold.body_hash,
        owner: hold.owner,
        start: state.start(),
        taken_at: now,
        ends_at: lease_until,
        response: None,
    };
    let Some(old) = found.filter(|old| !old.is_over(now, state.start())) else {
        write(state, hold, Some(fresh))?;
        return Ok(Reservation::Fresh);
    };
    if old.body_hash != hold.body_hash {
        return Ok(Reservation::Mismatch);
    }
    if let Some(response) = old.response {
        return Ok(Reservation::Stored(response));
    }
    if old.owner == hold.owner {
        // The same call again, after an unclear answer.
        write(state, hold, Some(fresh))?;
        return Ok(Reservation::Fresh);
    }
    if now < old.taken_at {
        // The clock went back: the lease goes on from now, or it would last for as long as the jump is.
        let ends_at = now.saturating_add(old.ends_at.saturating_sub(old.taken_at));
        write(state, hold, Some(Entry { taken_at: now, ends_at, ..old }))?;
    }
    Ok(Reservation::InFlight)
}

/// Stores the response unless another request holds the key by now; whether it did.
pub(super) fn complete(state: &State, hold: &Hold, response: &[u8], expires_at: i64) -> Result<bool, TablesError> {
    let found = entry(state, hold)?;
    if found.as_ref().is_some_and(|found| found.owner != hold.owner) {
        return Ok(false);
    }
    let done = Entry {
        body_hash: hold.body_hash,
        owner: hold.owner,
        start: state.start(),
        taken_at: found.map_or(expires_at, |found| found.taken_at),
        ends_at: expires_at,
        response: Some(response.to_vec()),
    };
    write(state, hold, Some(done)).map(|()| true)
}

pub(super) fn release(state: &State, hold: &Hold) -> Result<(), TablesError> {
    match entry(state, hold)? {
        Some(found) if found.owner == hold.owner && found.response.is_none() => write(state, hold, None),
        _ => Ok(()),
    }
}

/// Drops up to [`SWEEP`] entries that ended before `now`.
pub(super) fn expire(state: &State, now: i64) -> Result<usize, TablesError> {
    let end = Key::new().time(now).done()?;
    let mut batch = state.begin();
    let mut dropped = 0;
    for entry in state.idempotency_ends.range(..end).take(SWEEP) {
        let key = entry.key().classified()?;
        let mut parts = Parts::of(&key);
        parts.time()?;
        batch.remove(&state.idempotency, Key::new().text(parts.text()?).last(parts.last_text()?.as_bytes()).done()?);
        batch.remove(&state.idempotency_ends, key.to_vec());
        dropped += 1;
    }
    if dropped > 0 {
        state.commit(batch)?;
    }
    Ok(dropped)
}

fn entry(state: &State, hold: &Hold) -> Result<Option<Entry>, TablesError> {
    get(&state.idempotency, &entry_key(hold)?)?.map(|row| Entry::decode(&row)).transpose()
}

/// Replaces the entry and its place in the order of ends.
fn write(state: &State, hold: &Hold, new: Option<Entry>) -> Result<(), TablesError> {
    let mut batch = state.begin();
    let old = entry(state, hold)?.map(|old| old.ends_at);
    if let Some(ends_at) = old.filter(|&old| new.as_ref().is_none_or(|new| new.ends_at != old)) {
        batch.remove(&state.idempotency_ends, ends_key(ends_at, &hold.workspace, &hold.key)?);
    }
    match new {
        Some(new) => {
            batch.insert(&state.idempotency_ends, ends_key(new.ends_at, &hold.workspace, &hold.key)?, []);
            batch.insert(&state.idempotency, entry_key(hold)?, new.encode());
        }
        None => batch.remove(&state.idempotency, entry_key(hold)?),
    }
    state.commit(batch)
}

fn entry_key(hold: &Hold) -> Result<Vec<u8>, TablesError> {
    Key::new().text(&hold.workspace).last(hold.key.as_bytes()).done()
}

fn ends_key(ends_at: i64, workspace: &str, key: &str) -> Result<Vec<u8>, TablesError> {
    Key::new().time(ends_at).text(workspace).last(key.as_bytes()).done()
}
