//! Time and randomness, injected, so that every test can be replayed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

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
        jump() + since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
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

/// For the tests of a clock that jumps: in debug builds, `TRIBUTARY_CLOCK_JUMP=seconds:n` shifts the n-th reading and
/// all after it. Release builds contain nothing of this.
#[cfg(debug_assertions)]
fn jump() -> i64 {
    use std::sync::OnceLock;
    static WANTED: OnceLock<Option<(i64, u64)>> = OnceLock::new();
    static READINGS: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("TRIBUTARY_CLOCK_JUMP").ok()?;
        let (seconds, nth) = text.split_once(':')?;
        Some((seconds.parse::<i64>().ok()? * 1_000_000, nth.parse().ok()?))
    });
    let Some((micros, nth)) = wanted else { return 0 };
    if READINGS.fetch_add(1, Ordering::Relaxed) + 1 >= *nth { *micros } else { 0 }
}

#[cfg(not(debug_assertions))]
#[inline]
fn jump() -> i64 {
    0
}

/// A world for tests: the clock stands still unless moved, the randomness is a seeded stream. Clones share both, so a
/// test keeps one clone to move the clock of what it tests. Not for production: its randomness can be foretold.
#[derive(Debug, Clone)]
pub struct TestWorld(Arc<TestState>);

#[derive(Debug)]
struct TestState {
    micros: AtomicI64,
    random: AtomicU64,
}

impl TestWorld {
    /// Where the clock stands at first: 2026-01-01T00:00:00Z, in microseconds since the Unix epoch.
    pub const START_MICROS: i64 = 1_767_225_600_000_000;

    /// A world that gives the same randomness for the same `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(TestState { micros: AtomicI64::new(Self::START_MICROS), random: AtomicU64::new(seed) }))
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.0.micros.fetch_add(micros(by), Ordering::SeqCst);
    }

    /// Moves the clock back, as a bad time source does.
    pub fn step_back(&self, by: Duration) {
        self.0.micros.fetch_sub(micros(by), Ordering::SeqCst);
    }

    /// Puts the clock to `micros` since the Unix epoch.
    pub fn set_micros(&self, micros: i64) {
        self.0.micros.store(micros, Ordering::SeqCst);
    }

    /// The next 64 bits of the seeded stream (SplitMix64).
    pub fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut bits = self.0.random.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }
}

impl World for TestWorld {
    fn now_micros(&self) -> i64 {
        self.0.micros.load(Ordering::SeqCst)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_randomness_and_another_seed_another() {
        let [a, b, c] = [TestWorld::new(7), TestWorld::new(7), TestWorld::new(8)];
        let draw = |world: &TestWorld| {
            let mut bytes = [0u8; 21];
            world.fill_random(&mut bytes);
            bytes
        };
        let first = draw(&a);
        assert_eq!(first, draw(&b));
        assert_ne!(first, draw(&c));
        assert_ne!(first, draw(&a), "the stream goes on");
    }

    #[test]
    fn the_clock_moves_only_when_moved_and_clones_share_it() {
        let world = TestWorld::new(1);
        let clone = world.clone();
        assert_eq!(clone.now_micros(), TestWorld::START_MICROS);
        world.advance(Duration::from_secs(5));
        assert_eq!(clone.now_micros(), TestWorld::START_MICROS + 5_000_000);
        world.step_back(Duration::from_secs(3_600));
        assert_eq!(clone.now_micros(), TestWorld::START_MICROS - 3_595_000_000);
    }

    #[test]
    fn uuids_order_by_time() {
        let world = TestWorld::new(1);
        let first = world.uuid_v7();
        world.advance(Duration::from_millis(1));
        assert!(first < world.uuid_v7());
    }
}
