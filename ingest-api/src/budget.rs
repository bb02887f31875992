//! The memory budget: how many bytes of bodies, and of what is made of them, may be in flight.
//!
//! Bytes are reserved before they are allocated and given back when their [`Reservation`] is dropped. Nothing queues:
//! what does not fit is refused at once, so memory stays bounded however many clients come.

use prometheus_client::metrics::gauge::Gauge;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A budget in bytes, shared by all requests.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
    shown: Gauge,
}

/// The budget has no room for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

impl Budget {
    /// A budget of `limit` bytes that shows what is used on `shown`.
    pub fn new(limit: usize, shown: Gauge) -> Self {
        Self(Arc::new(Shared { limit, used: AtomicUsize::new(0), shown }))
    }

    /// Bytes reserved now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Acquire)
    }

    /// An empty reservation, if `expected` bytes would fit now. It grows with what really comes, so that a sender who
    /// announces much and sends little holds little; the check spares those who would not get through anyway.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn admit(&self, expected: usize) -> Result<Reservation, Exhausted> {
        if self.used().saturating_add(expected) > self.0.limit {
            return Err(Exhausted);
        }
        Ok(Reservation { budget: self.0.clone(), bytes: 0 })
    }
}

/// Reserved bytes, given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Shared>,
    bytes: usize,
}

impl Reservation {
    /// Reserves `more` bytes.
    ///
    /// # Errors
    /// [`Exhausted`]: nothing was added.
    pub fn grow(&mut self, more: usize) -> Result<(), Exhausted> {
        let limit = self.budget.limit;
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= limit);
        self.budget.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).map_err(|_| Exhausted)?;
        self.bytes += more;
        self.budget.shown.inc_by(i64::try_from(more).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Gives `less` bytes back, at most those that it holds.
    pub fn shrink(&mut self, less: usize) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        self.budget.used.fetch_sub(less, Ordering::AcqRel);
        self.budget.shown.dec_by(i64::try_from(less).unwrap_or(i64::MAX));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_comes_back() {
        let budget = Budget::new(100, Gauge::default());
        let mut first = budget.admit(100).expect("empty");
        first.grow(60).expect("fits");
        assert_eq!(budget.admit(50).err(), Some(Exhausted));
        let mut second = budget.admit(40).expect("fits exactly");
        assert_eq!(second.grow(41), Err(Exhausted));
        second.grow(40).expect("fits exactly");
        drop(first);
        assert_eq!(budget.used(), 40);
        second.grow(60).expect("room again");
    }

    #[test]
    fn many_threads_never_hold_more_than_the_budget() {
        let budget = Budget::new(1_000, Gauge::default());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Ok(mut held) = budget.admit(0) {
                            let _ = held.grow(300);
                            assert!(budget.used() <= 1_000);
                        }
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        #[test]
        fn the_sum_of_what_is_held_is_what_is_used(steps in prop::collection::vec((0usize..4, 0usize..80, any::<bool>()), 0..60)) {
            let budget = Budget::new(200, Gauge::default());
            let mut held: Vec<(Reservation, usize)> = (0..4).map(|_| (budget.admit(0).expect("empty"), 0)).collect();
            for (who, bytes, more) in steps {
                let before: usize = held.iter().map(|(_, n)| n).sum();
                let (reservation, n) = &mut held[who];
                if more {
                    let fits = before + bytes <= 200;
                    prop_assert_eq!(reservation.grow(bytes).is_ok(), fits);
                    *n += if fits { bytes } else { 0 };
                } else {
                    reservation.shrink(bytes);
                    *n -= bytes.min(*n);
                }
                prop_assert_eq!(budget.used(), held.iter().map(|(_, n)| n).sum::<usize>());
            }
        }
    }
}
