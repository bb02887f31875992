//! A request with an `Idempotency-Key` takes effect once: repeats get the answer of the first.

use crate::{config::IdempotencyConfig, failure::Failure, split::Form};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};
use tributary_backends::{
    tables::{Hold, Reservation, Tables},
    world::World,
};
use tributary_schemas::limits::MAX_IDEMPOTENCY_KEY_CHARS;

/// The header with the key.
pub const HEADER: &str = "idempotency-key";
/// How often a repeat looks for its twin's answer.
const POLL: Duration = Duration::from_millis(50);
/// The part of its lease that a request may take.
const LEASE_USED: f64 = 0.75;

/// The `Idempotency-Key` of a request.
///
/// # Errors
/// 400 for one that is empty, longer than 256 characters, or not text.
pub fn key_of(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let key = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
    if (1..=MAX_IDEMPOTENCY_KEY_CHARS).contains(&key.chars().count()) {
        return Ok(Some(key.to_owned()));
    }
    let message = format!("an Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters of UTF-8 text");
    Err(Failure::bad_request("INVALID_IDEMPOTENCY_KEY", message))
}

/// Hash of what makes two requests the same: how the body is read, the hint, and the *decompressed* body, so that a
/// repeat may be compressed differently.
pub fn body_hash(form: Form, format: Option<&str>, body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(match form {
        Form::Json => b"json",
        Form::Ndjson => b"ndjs",
    });
    let format = format.unwrap_or_default();
    hasher.update(&(format.len() as u64).to_le_bytes());
    hasher.update(format.as_bytes());
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

/// Does `work` unless the request was done before.
///
/// # Errors
/// 400 when the key was used for another body; 429 when a twin is still being processed after the longest wait; 503 when
/// `work` takes nearly as long as the lease; what `work` gives, after which the key is free again.
pub async fn once(
    tables: &Arc<dyn Tables>,
    world: &Arc<dyn World>,
    config: &IdempotencyConfig,
    hold: Hold,
    work: impl Future<Output = Result<Bytes, Failure>>,
) -> Result<Bytes, Failure> {
    if let Some(stored) = take_hold(tables, world, config, &hold).await? {
        return Ok(stored);
    }
    // Nobody else may hold the key while this goes on.
    let Ok(worked) = timeout(config.lease.mul_f64(LEASE_USED), work).await else {
        // What was begun may still come to pass: the key stays held until the lease is over.
        return Err(Failure::unfinished());
    };
    match worked {
        Ok(response) => {
            // A 202 that is not stored would break the promise to the next repeat; so if this fails, so does the request.
            tables.complete(&hold, &response, world.now_micros() + micros(config.keep)).await?;
            Ok(response)
        }
        Err(failure) => {
            if let Err(error) = tables.release(&hold).await {
                tracing::warn!(%error, "could not free an idempotency key, its lease will");
            }
            Err(failure)
        }
    }
}

/// The stored answer, or none when the key is held now.
async fn take_hold(
    tables: &Arc<dyn Tables>,
    world: &Arc<dyn World>,
    config: &IdempotencyConfig,
    hold: &Hold,
) -> Result<Option<Bytes>, Failure> {
    let deadline = Instant::now() + config.wait;
    loop {
        let now = world.now_micros();
        match tables.reserve(hold, now, now + micros(config.lease)).await? {
            Reservation::Fresh => return Ok(None),
            Reservation::Stored(response) => return Ok(Some(response.into())),
            Reservation::Mismatch => {
                let message = "this Idempotency-Key was used for another body: use a new key for every new request";
                return Err(Failure::bad_request("IDEMPOTENCY_KEY_REUSED", message));
            }
            Reservation::InFlight if Instant::now() >= deadline => {
                let message = "the same request is still being processed: repeat it after retryAfter seconds";
                let code = "IDEMPOTENCY_KEY_IN_FLIGHT";
                return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, code, message).retry_after(1));
            }
            Reservation::InFlight => tokio::time::sleep(POLL).await,
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(
            axum::http::HeaderName::from_static(HEADER),
            axum::http::HeaderValue::from_bytes(value).expect("value"),
        )])
    }

    #[test]
    fn keys_are_counted_in_characters() {
        let longest = "ä".repeat(256);
        assert_eq!(key_of(&header(longest.as_bytes())), Ok(Some(longest)));
        assert_eq!(key_of(&HeaderMap::new()), Ok(None));
        for bad in ["".as_bytes(), "ä".repeat(257).as_bytes(), b"\xFF"] {
            assert_eq!(key_of(&header(bad)).expect_err("bad").code, "INVALID_IDEMPOTENCY_KEY");
        }
    }

    #[test]
    fn the_hash_tells_apart_what_is_not_the_same_request() {
        let same = body_hash(Form::Json, None, b"{}");
        assert_eq!(same, body_hash(Form::Json, None, b"{}"));
        let others = [(Form::Ndjson, None, "{}"), (Form::Json, Some("text"), "{}"), (Form::Json, None, "{ }")];
        for (form, format, body) in others {
            assert_ne!(same, body_hash(form, format, body.as_bytes()));
        }
    }
}
