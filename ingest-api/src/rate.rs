//! Requests per second and key. Every request of a key counts, whatever comes of it.

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use quick_cache::sync::Cache;
use std::{convert::Infallible, num::NonZeroU32, sync::Arc};

/// Keys whose rate is remembered. One that is forgotten starts with a full burst again.
const KEYS_KEPT: usize = 10_000;

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
        let Some(rate) = NonZeroU32::new(own_rate.unwrap_or(self.default_rate)) else { return Ok(()) };
        let limiter = self.limiter(key_id, rate);
        limiter.limiter.check().map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
        })
    }

    fn limiter(&self, key_id: &str, rate: NonZeroU32) -> Arc<KeyRate<C>> {
        let fresh = || {
            let limiter = RateLimiter::direct_with_clock(Quota::per_second(rate), self.clock.clone());
            Arc::new(KeyRate { rate, limiter })
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
