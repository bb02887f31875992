//! Whoever waits long is told for what.

use std::{fmt::Display, time::Duration};
use tokio::time::timeout;

/// Longer than a server that is well takes.
const LONG: Duration = Duration::from_secs(3);

/// What `work` gives. A log line says so when it is waited for longer than usual.
pub async fn waited_for<T>(what: impl Display, work: impl Future<Output = T>) -> T {
    told_after(LONG, what, work).await
}

async fn told_after<T>(long: Duration, what: impl Display, work: impl Future<Output = T>) -> T {
    // Opening a backend is a large future, which is not to lie on the stack of whoever waits.
    let mut work = Box::pin(work);
    match timeout(long, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            tracing::warn!("waiting for {what}, which has not answered yet");
            work.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use tokio::task::yield_now;
    use tracing::{Event, Subscriber, instrument::WithSubscriber};
    use tracing_subscriber::{
        Layer,
        layer::{Context, SubscriberExt},
    };

    #[derive(Clone, Default)]
    struct Lines(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn only_a_long_wait_is_told_and_once() {
        let told = async |long, least| {
            let lines = Lines::default();
            let work = told_after(long, "it", async {
                while lines.0.load(Ordering::Relaxed) < least {
                    yield_now().await;
                }
            });
            work.with_subscriber(tracing_subscriber::registry().with(lines.clone())).await;
            lines.0.load(Ordering::Relaxed)
        };
        assert_eq!(told(LONG, 0).await, 0);
        assert_eq!(told(Duration::ZERO, 1).await, 1);
    }
}
