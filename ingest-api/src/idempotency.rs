//! A request with an `Idempotency-Key` takes effect once: repeats get the answer of the first.

use crate::{config::IdempotencyConfig, failure::Failure, split::Form};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use std::{future::Future, sync::LazyLock, time::Duration};
use tokio::time::{Instant, timeout_at};
use tributary_backends::{
    said::Said,
    tables::{Hold, Idempotency, Reservation},
    world::World,
};
use tributary_schemas::limits::MAX_IDEMPOTENCY_KEY_CHARS;

/// The header with the key.
pub const HEADER: &str = "idempotency-key";
/// How often a repeat looks for its twin's answer.
const POLL: Duration = Duration::from_millis(50);
/// The part of the time until a repeat may come that a request may take. The rest is for clocks that differ: a repeat may come
/// to another process, and brokers judge by their own whether a message came in time.
pub(crate) const TIME_USED: f64 = 0.9;

/// The keys that the operator was told of, which requests could not give free.
static SAID: LazyLock<Said> = LazyLock::new(Said::default);

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

/// Does `work` unless the request was done before. `work` is told by when it must have taken effect: later it must not.
///
/// # Errors
/// 400 when the key was used for another body; 429 when a twin is still being processed after the longest wait; 503 when
/// asking for the key and `work` take nearly as long as the lease, or storing the answer longer than a repeat waited; what
/// `work` gives, after which the key is free again.
pub async fn once<W: Future<Output = Result<Bytes, Failure>>>(
    tables: &(impl Idempotency + Sync + ?Sized),
    world: &dyn World,
    config: &IdempotencyConfig,
    hold: Hold,
    work: impl FnOnce(Instant) -> W,
) -> Result<Bytes, Failure> {
    let by = match take_hold(tables, world, config, &hold).await? {
        Taken::Before(response) => return Ok(response),
        Taken::Now { since } => since + config.lease.mul_f64(TIME_USED),
    };
    // Nobody else may hold the key while this goes on.
    let Ok(worked) = timeout_at(by, work(by)).await else {
        // What was begun may have come to pass: the key stays held until the lease is over.
        return Err(Failure::unfinished());
    };
    match worked {
        Ok(response) => {
            // A 202 that is not stored would break the promise to the next repeat; so if this fails, so does the request.
            if tables.complete(&hold, &response, world.now_micros() + micros(config.keep)).await? {
                return Ok(response);
            }
            // The lease ended over it, and a repeat has begun: that one's answer is the only one.
            Err(Failure::unfinished())
        }
        Err(failure) => {
            if let Err(error) = tables.release(&hold).await
                && let Some(unsaid) = SAID.may_say("release")
            {
                tracing::warn!(%error, unsaid, "could not free an idempotency key, its lease will");
            }
            Err(failure)
        }
    }
}

/// Whose turn a request is.
enum Taken {
    /// It was done before, with this answer.
    Before(Bytes),
    /// The key is held for it, by a lease that counts from `since`.
    Now { since: Instant },
}

async fn take_hold(
    tables: &(impl Idempotency + Sync + ?Sized),
    world: &dyn World,
    config: &IdempotencyConfig,
    hold: &Hold,
) -> Result<Taken, Failure> {
    let deadline = Instant::now() + config.wait;
    loop {
        // Before the tables are asked, who may take their time.
        let (since, now) = (Instant::now(), world.now_micros());
        match tables.reserve(hold, now, now + micros(config.lease)).await? {
            Reservation::Fresh => return Ok(Taken::Now { since }),
            Reservation::Stored(response) => return Ok(Taken::Before(response.into())),
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
#[path = "idempotency_tests.rs"]
mod tests;
