//! Whose records are rejected, for operators: which sender has changed what it sends.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tributary_backends::lately::{SHOWN, Window};

/// `tributary_ingest_workspace_rejected_throughput{workspace}`: records per second that this process has rejected or refused lately.
/// Cloning gives a second handle.
#[derive(Debug, Clone)]
pub struct Rejected(Arc<Mutex<Counting>>);

#[derive(Debug)]
struct Counting {
    since: Instant,
    window: Window,
}

impl Default for Rejected {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Counting { since: Instant::now(), window: Window::new(Duration::ZERO) })))
    }
}

impl Rejected {
    /// Counts records of a workspace.
    pub fn count(&self, workspace: &str, records: usize) {
        if records > 0 {
            let mut counting = self.counting();
            let at = counting.since.elapsed();
            counting.window.add(at, Some(workspace), records as u64);
        }
    }

    fn counting(&self) -> MutexGuard<'_, Counting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Per second: those with the most by name, and all others together, if there are any.
fn per_second(window: &mut Window, at: Duration) -> Vec<(String, f64)> {
    let (most, over) = window.lately(at).most(SHOWN);
    // A process that has just started has not seen a hundred a second after a hundredth of one.
    let seconds = over.as_secs_f64().max(1.0);
    most.into_iter().map(|(name, records)| (name, records as f64 / seconds)).collect()
}

impl Collector for Rejected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) =
            ("tributary_ingest_workspace_rejected_throughput", "Records per second of a workspace rejected lately");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let shown = {
            let mut counting = self.counting();
            let at = counting.since.elapsed();
            per_second(&mut counting.window, at)
        };
        for (workspace, rate) in shown {
            ConstGauge::new(rate).encode(family.encode_family(&[("workspace", workspace)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{encoding::text::encode, registry::Registry};
    use tributary_backends::lately::OTHERS;

    #[test]
    fn those_with_the_most_are_named_and_what_is_old_is_forgotten() {
        let second = Duration::from_secs(1);
        let mut window = Window::new(Duration::ZERO);
        assert_eq!(per_second(&mut window, second), []);
        for n in 0..40 {
            window.add(second, Some(&format!("few-{n:02}")), 10);
        }
        window.add(second, Some("many"), 1_000);
        let shown = per_second(&mut window, 10 * second);
        assert_eq!((shown.len(), &shown[0]), (33, &("many".to_owned(), 100.0)));
        assert_eq!(shown[32], (OTHERS.to_owned(), 9.0));
        assert_eq!(per_second(&mut window, 80 * second), []);
    }

    #[test]
    fn a_scrape_has_them_and_nothing_of_those_without_any() {
        let (rejected, mut registry) = (Rejected::default(), Registry::default());
        registry.register_collector(Box::new(rejected.clone()));
        rejected.count("none", 0);
        rejected.count("some", 7);
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        let lines = text.lines().filter(|line| line.starts_with("tributary_ingest_workspace_rejected_throughput{"));
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [r#"tributary_ingest_workspace_rejected_throughput{workspace="some"} 7.0"#]
        );
    }
}
