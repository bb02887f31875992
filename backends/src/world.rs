//! Time and randomness, injected, so that every test can be replayed.

/// The only source of wall-clock time and of randomness.
pub trait World: Send + Sync + std::fmt::Debug + 'static {
    /// Microseconds since the Unix epoch. May jump backwards, as clocks do.
    fn now_micros(&self) -> i64;
    /// Fills `bytes` with cryptographically strong randomness (a seeded stream in tests).
    fn fill_random(&self, bytes: &mut [u8]);
    /// A fresh time-ordered UUID (version 7).
    fn uuid_v7(&self) -> uuid::Uuid {
        let mut random = [0u8; 10];
        self.fill_random(&mut random);
        let millis = u64::try_from(self.now_micros() / 1_000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

/// The machine's clock and the system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemWorld;

impl World for SystemWorld {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now_micros(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that asks the system for randomness")]
    fn fill_random(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            // Without randomness no key or id may be made; nothing sensible can go on.
            tracing::error!(%error, "the system gives no randomness");
            std::process::abort();
        }
    }
}
