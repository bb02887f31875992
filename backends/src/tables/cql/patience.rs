//! How long a call is tried, and what is said of a cluster that does not answer.

use super::{failure::Failure, options::Options};
use crate::{said::Said, world::World};
use backon::{BackoffBuilder, ExponentialBuilder};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// Waited before the second attempt of a call; doubled from then on.
const FIRST_DELAY: Duration = Duration::from_millis(20);
/// Longest time between two attempts.
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Tries calls. What one learns of the cluster counts for the next.
pub(super) struct Patience {
    /// How long a call is tried.
    whole: Duration,
    /// How long one attempt of it may take.
    attempt: Duration,
    /// Whether the last call that ended was given up.
    down: AtomicBool,
    /// Whether the last thing that was said is that the cluster does not answer.
    told: AtomicBool,
    said: Said,
    world: Arc<dyn World>,
}

impl Patience {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            whole: options.request_timeout,
            attempt: options.attempt_timeout(),
            down: AtomicBool::new(false),
            told: AtomicBool::new(false),
            said: Said::default(),
            world: Arc::clone(&options.world),
        }
    }

    /// How long a call is tried now. After one that was given up, others are given up sooner, until one succeeds: but no
    /// sooner than any attempt, or a cluster that has become slow would be down for as long as it is slow.
    fn now(&self) -> Duration {
        if self.down.load(Ordering::Relaxed) { self.attempt } else { self.whole }
    }

    /// Repeats an attempt of a call.
    pub(super) async fn call<T, F>(&self, attempt: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.within(self.now(), attempt).await
    }

    /// Repeats an attempt while that may help and there is time.
    pub(super) async fn within<T, F>(&self, patience: Duration, mut attempt: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + patience;
        let mut waits = None;
        loop {
            let why = match timeout_at(deadline, attempt()).await {
                Ok(Err(Failure::Unavailable(why))) => why,
                Ok(other) => {
                    self.answered();
                    return other;
                }
                Err(_) => "no answer in time".to_owned(),
            };
            let delay = waits.get_or_insert_with(|| delays(&*self.world)).next().unwrap_or(LONGEST_DELAY);
            if Instant::now() + delay >= deadline {
                self.gave_up(&why);
                return Err(Failure::Unavailable(why));
            }
            tokio::time::sleep(delay).await;
        }
    }

    fn answered(&self) {
        let was_down = self.down.load(Ordering::Relaxed) && self.down.swap(false, Ordering::Relaxed);
        if was_down && self.told.swap(false, Ordering::Relaxed) {
            tracing::info!("the CQL cluster answers again");
        }
    }

    /// Where a part of the cluster does not answer, calls succeed and are given up by turns.
    fn gave_up(&self, why: &str) {
        self.down.store(true, Ordering::Relaxed);
        if let Some(unsaid) = self.said.may_say("") {
            self.told.store(true, Ordering::Relaxed);
            let calls = unsaid + 1;
            tracing::warn!(calls, why, "the CQL cluster does not answer; all that needs it waits or is refused");
        }
    }
}

/// Waiting times between attempts. Their number is bounded by the deadline of whoever waits.
pub(super) fn delays(world: &dyn World) -> impl Iterator<Item = Duration> + use<> {
    let mut seed = [0; 8];
    world.fill_random(&mut seed);
    let delays = ExponentialBuilder::default().with_min_delay(FIRST_DELAY).with_max_delay(LONGEST_DELAY);
    delays.without_max_times().with_jitter().with_jitter_seed(u64::from_ne_bytes(seed)).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Lines;
    use tokio::time::sleep;
    use tracing::Level;

    fn away() -> Failure {
        Failure::Unavailable("away".to_owned())
    }

    #[tokio::test]
    async fn a_cluster_that_is_slow_is_not_down_for_ever() {
        let patience = Patience::new(&Options::default());
        let given_up: Result<(), _> = patience.within(Duration::from_millis(1), async || Err(away())).await;
        assert!(matches!(given_up, Err(Failure::Unavailable(_))));
        assert_eq!(patience.now(), Options::default().attempt_timeout(), "time for one whole attempt");
        let slowly = async || {
            sleep(Duration::from_millis(1_200)).await;
            Ok(7)
        };
        assert!(matches!(patience.call(slowly).await, Ok(7)));
        assert_eq!(patience.now(), Options::default().request_timeout);
    }

    #[tokio::test]
    async fn while_it_is_down_a_call_is_given_up_after_one_attempt() {
        let options = Options { request_timeout: Duration::from_millis(600), ..Options::default() };
        let patience = Patience::new(&options);
        for (at_least, at_most) in [(2, 3), (1, 1)] {
            let mut made = 0;
            let hangs = || {
                made += 1;
                async {
                    sleep(options.attempt_timeout()).await;
                    Err::<(), _>(away())
                }
            };
            assert!(patience.call(hangs).await.is_err());
            assert!((at_least..=at_most).contains(&made), "{made}");
        }
    }

    #[test]
    fn calls_that_succeed_and_fail_by_turns_are_said_once_and_not_each() {
        let (patience, lines) = (Patience::new(&Options::default()), Lines::down_to(Level::TRACE));
        tracing::subscriber::with_default(lines.clone(), || {
            for _ in 0..1_000 {
                patience.gave_up("a part is away");
                patience.answered();
            }
        });
        assert_eq!(lines.count(), 2, "that it does not answer, and that it does");
    }
}
