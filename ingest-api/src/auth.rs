//! Who sends a request, and whether they may: authenticate, rate-limit, check the permission, in this order.

use crate::{failure::Failure, keys, rate::Rates};
use axum::http::{HeaderMap, StatusCode};
use quick_cache::sync::Cache;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use tributary_backends::{
    tables::{ApiKey, Permission, Tables},
    world::World,
};

/// The header with the key.
pub const HEADER: &str = "x-api-key";

/// Looked-up keys kept, those that do not exist among them, so that guessing costs the tables nothing twice.
const LOOKUPS_KEPT: usize = 10_000;
/// Last use is noted to the minute.
const MINUTE: i64 = 60_000_000;

/// Checks keys.
#[derive(Debug)]
pub struct Gate {
    tables: Arc<dyn Tables>,
    world: Arc<dyn World>,
    pub(crate) rates: Rates,
    believed_for: Duration,
    lookups: Cache<[u8; 32], Arc<Lookup>>,
}

/// What the tables said about a hash, and when.
#[derive(Debug)]
struct Lookup {
    at: Instant,
    key: Option<Arc<ApiKey>>,
    /// The minute of last use that is stored or on its way there.
    noted: AtomicI64,
}

impl Gate {
    /// A gate that believes a looked-up key for `believed_for`.
    pub fn new(tables: Arc<dyn Tables>, world: Arc<dyn World>, rates: Rates, believed_for: Duration) -> Self {
        Self { tables, world, rates, believed_for, lookups: Cache::new(LOOKUPS_KEPT) }
    }

    /// The key of a request that may go on.
    ///
    /// # Errors
    /// 401 without a live key, 429 when the key's rate is used up, 403 when it lacks the permission, 503 when the
    /// tables are away.
    pub async fn admit(&self, headers: &HeaderMap, needed: Permission) -> Result<Arc<ApiKey>, Failure> {
        let key = self.authenticate(headers).await?;
        self.rates.count(&key.id, key.rate_limit).map_err(rate_limited)?;
        if may(&key, needed) { Ok(key) } else { Err(forbidden(needed)) }
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<ApiKey>, Failure> {
        let text = headers.get(HEADER).ok_or_else(|| unauthorized("send an API key in the header x-api-key"))?;
        let text = text.to_str().map_err(|_| unknown_key())?;
        let lookup = self.look_up(keys::hash(text)).await?;
        let key = lookup.key.clone().filter(|key| key.revoked_at.is_none()).ok_or_else(unknown_key)?;
        self.note_use(&lookup, &key);
        Ok(key)
    }

    async fn look_up(&self, hash: [u8; 32]) -> Result<Arc<Lookup>, Failure> {
        if let Some(known) = self.lookups.get(&hash).filter(|known| known.at.elapsed() < self.believed_for) {
            return Ok(known);
        }
        let at = Instant::now();
        let key = self.tables.key_by_hash(&hash).await?.map(Arc::new);
        let noted = key.as_ref().and_then(|key| key.last_used_at).map_or(i64::MIN, |used| used.div_euclid(MINUTE));
        let fresh = Arc::new(Lookup { at, key, noted: AtomicI64::new(noted) });
        self.lookups.insert(hash, fresh.clone());
        Ok(fresh)
    }

    /// Writes the time of use, at most once a minute and beside the request.
    fn note_use(&self, lookup: &Lookup, key: &ApiKey) {
        let now = self.world.now_micros();
        let minute = now.div_euclid(MINUTE);
        if lookup.noted.fetch_max(minute, Ordering::AcqRel) >= minute {
            return;
        }
        let (tables, id) = (self.tables.clone(), key.id.clone());
        tokio::spawn(async move {
            if let Err(error) = tables.touch_key(&id, now).await {
                tracing::warn!(%error, key = id, "could not note the use of a key");
            }
        });
    }
}

/// `api:write` allows reading too.
fn may(key: &ApiKey, needed: Permission) -> bool {
    key.permissions.iter().any(|held| *held == needed || *held == Permission::Write)
}

fn unauthorized(message: &str) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
}

fn unknown_key() -> Failure {
    unauthorized("the API key in x-api-key is not known or was revoked: ask your operator for another")
}

fn rate_limited(wait: u64) -> Failure {
    let message = "this API key sends more requests per second than it may: wait retryAfter seconds, and send larger \
                   batches";
    Failure::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message).retry_after(wait)
}

fn forbidden(needed: Permission) -> Failure {
    let wanted = match needed {
        Permission::Read => "api:read or api:write",
        Permission::Write => "api:write",
    };
    Failure::new(StatusCode::FORBIDDEN, "FORBIDDEN", format!("this API key lacks the permission {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(permissions: &[Permission]) -> ApiKey {
        ApiKey {
            id: "k".into(),
            hash: [0; 32],
            workspace: "w".into(),
            label: String::new(),
            source: "s".into(),
            permissions: permissions.to_vec(),
            rate_limit: None,
            created_at: 0,
            last_used_at: None,
            revoked_at: None,
        }
    }

    #[test]
    fn writing_needs_write_and_reading_either() {
        use Permission::{Read, Write};
        assert!(may(&key(&[Write]), Write) && may(&key(&[Write]), Read) && may(&key(&[Read]), Read));
        assert!(!may(&key(&[Read]), Write) && !may(&key(&[]), Read) && !may(&key(&[]), Write));
    }
}
