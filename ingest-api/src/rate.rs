//! Requests per second and key. Every request of a key counts, whatever comes of it.
//!
//! A key's rate holds over all processes that serve it: they tell each other how often it was asked for ([`share`]), and
//! each then charges a request with so many cells that together they give out what the rate allows.

pub mod share;

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use quick_cache::sync::Cache;
use std::{
    convert::Infallible,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// Keys whose rate is remembered. One that is forgotten starts with a full burst again.
const KEYS_KEPT: usize = 10_000;
/// What a request costs when this process is the only one that is asked. A process that gives out half of the rate
/// charges twice as many, so that the limiter goes on from where it is.
const CELLS: u32 = 100;
/// The highest rate that is limited at all: its cells fit their number.
const HIGHEST: u32 = u32::MAX / CELLS;

/// The limiters of all keys.
#[derive(Debug)]
pub struct Rates<C: Clock = DefaultClock> {
    default_rate: u32,
    clock: C,
    limiters: Cache<String, Arc<KeyRate<C>>>,
}

#[derive(Debug)]
struct KeyRate<C: Clock> {
    rate: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    /// Requests since they were last asked for.
    asked: AtomicU32,
    /// Cells that a request costs.
    cost: AtomicU32,
}

impl<C: Clock + Clone> Rates<C> {
    /// Limiters with a rate for keys that have none of their own; 0: no limit.
    pub fn new(default_rate: u32, clock: C) -> Self {
        Self { default_rate, clock, limiters: Cache::new(KEYS_KEPT) }
    }

    /// Counts one request of the key.
    ///
    /// # Errors
    /// The whole seconds after which the next one will pass, at least 1.
    pub fn count(&self, key_id: &str, own_rate: Option<u32>) -> Result<(), u64> {
        let rate = own_rate.unwrap_or(self.default_rate);
        let Some(rate) = NonZeroU32::new(rate).filter(|rate| rate.get() <= HIGHEST) else { return Ok(()) };
        let key = self.limiter(key_id, rate);
        key.asked.fetch_add(1, Ordering::Relaxed);
        let cost = NonZeroU32::new(key.cost.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN);
        match key.limiter.check_n(cost) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(self.clock.now());
                Err((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
            }
            // A request never costs more than a second's cells.
            Err(_) => Err(1),
        }
    }

    /// Requests of each key with a limit since the last call, as (key, its rate, requests); none of keys without any.
    pub fn asked(&self) -> Vec<(String, u32, u32)> {
        let asked = self.limiters.iter().map(|(id, key)| (id, key.rate.get(), key.asked.swap(0, Ordering::Relaxed)));
        asked.filter(|(_, _, asked)| *asked > 0).collect()
    }

    /// From now on this process gives out `level` requests per second of the key, which is at most its rate.
    pub fn set_level(&self, key_id: &str, level: f64) {
        let Some(key) = self.limiters.peek(key_id) else { return };
        let whole = f64::from(key.rate.get()) * f64::from(CELLS);
        // As `f64`s are cut to what a `u32` holds; a process gives out at least one request a second.
        let cost = (whole / level.max(1.0)).round().clamp(f64::from(CELLS), whole) as u32;
        key.cost.store(cost, Ordering::Relaxed);
    }

    /// From now on this process gives out the whole rate of every key.
    pub fn set_all_whole(&self) {
        for (_, key) in self.limiters.iter() {
            key.cost.store(CELLS, Ordering::Relaxed);
        }
    }

    fn limiter(&self, key_id: &str, rate: NonZeroU32) -> Arc<KeyRate<C>> {
        let fresh = || {
            let cells = NonZeroU32::new(rate.get().saturating_mul(CELLS)).unwrap_or(rate);
            let limiter = RateLimiter::direct_with_clock(Quota::per_second(cells), self.clock.clone());
            Arc::new(KeyRate { rate, limiter, asked: AtomicU32::new(0), cost: AtomicU32::new(CELLS) })
        };
        let known: Result<_, Infallible> = self.limiters.get_or_insert_with(key_id, || Ok(fresh()));
        match known {
            Ok(limiter) if limiter.rate == rate => limiter,
            // The key's rate was changed.
            Ok(_) => {
                let limiter = fresh();
                self.limiters.insert(key_id.to_owned(), limiter.clone());
                limiter
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_burst_of_one_second_then_one_per_interval() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::new(10, clock.clone());
        assert_eq!((0..10).filter(|_| rates.count("a", None).is_ok()).count(), 10);
        assert_eq!(rates.count("a", None), Err(1));
        assert_eq!(rates.count("b", None), Ok(()), "another key has its own rate");
        clock.advance(Duration::from_millis(100));
        assert_eq!(rates.count("a", None), Ok(()));
        assert_eq!(rates.count("a", None), Err(1));
    }

    #[test]
    fn a_key_may_have_its_own_rate_or_none() {
        let rates = Rates::new(1, FakeRelativeClock::default());
        assert!((0..1_000).all(|_| rates.count("off", Some(0)).is_ok()));
        assert_eq!((0..100).filter(|_| rates.count("fast", Some(50)).is_ok()).count(), 50);
        let off = Rates::new(0, FakeRelativeClock::default());
        assert!((0..1_000).all(|_| off.count("any", None).is_ok()));
        assert!((0..1_000).all(|_| rates.count("no limit in practice", Some(u32::MAX)).is_ok()));
    }

    #[test]
    fn a_level_below_the_rate_goes_on_from_where_the_limiter_is() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::new(10, clock.clone());
        assert_eq!((0..20).filter(|_| rates.count("a", None).is_ok()).count(), 10);
        assert_eq!(rates.asked(), [("a".to_owned(), 10, 20)]);
        assert_eq!(rates.asked(), [], "told once");
        rates.set_level("a", 2.5);
        assert_eq!(rates.count("a", None), Err(1), "no new burst");
        clock.advance(Duration::from_secs(1));
        assert_eq!((0..20).filter(|_| rates.count("a", None).is_ok()).count(), 2);
        rates.set_level("a", 0.01);
        clock.advance(Duration::from_secs(1));
        assert_eq!((0..20).filter(|_| rates.count("a", None).is_ok()).count(), 1, "never none at all");
        rates.set_all_whole();
        clock.advance(Duration::from_secs(1));
        assert_eq!((0..20).filter(|_| rates.count("a", None).is_ok()).count(), 10);
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(rate in 1u32..20, gaps in prop::collection::vec(0u64..400, 1..200)) {
            let clock = FakeRelativeClock::default();
            let rates = Rates::new(rate, clock.clone());
            let mut passed = 0u64;
            let mut elapsed = 0u64;
            for gap in gaps {
                clock.advance(Duration::from_millis(gap));
                elapsed += gap;
                match rates.count("k", None) {
                    Ok(()) => passed += 1,
                    Err(wait) => prop_assert_eq!(wait, 1),
                }
                prop_assert!(passed <= u64::from(rate) + elapsed * u64::from(rate) / 1_000 + 1);
            }
        }
    }
}
