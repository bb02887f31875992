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
use tributary_backends::lately::{OTHERS, Window};

/// Workspaces that are shown by name.
const NAMED: usize = 32;

/// `tributary_ingest_workspace_rejected{workspace}`: records per second that this process has rejected or refused lately.
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

    /// Per second: those with the most by name, and all others together, if there are any.
    fn per_second(&self) -> Vec<(String, f64)> {
        let mut counting = self.counting();
        let at = counting.since.elapsed();
        let (mut most, over) = counting.window.lately(at).most(NAMED);
        drop(counting);
        most.retain(|(name, records)| name != OTHERS || *records > 0);
        // A process that has just started has not seen a hundred a second after a hundredth of one.
        let seconds = over.as_secs_f64().max(1.0);
        most.into_iter().map(|(name, records)| (name, records as f64 / seconds)).collect()
    }

    fn counting(&self) -> MutexGuard<'_, Counting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Rejected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("tributary_ingest_workspace_rejected", "Records per second of a workspace rejected lately");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (workspace, rate) in self.per_second() {
            ConstGauge::new(rate).encode(family.encode_family(&[("workspace", workspace)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{encoding::text::encode, registry::Registry};
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn those_with_the_most_are_named_and_what_is_old_is_forgotten() {
        let (rejected, mut registry) = (Rejected::default(), Registry::default());
        registry.register_collector(Box::new(rejected.clone()));
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("text");
            let lines = text.lines().filter_map(|line| line.strip_prefix("tributary_ingest_workspace_rejected{"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        rejected.count("none", 0);
        assert_eq!(shown(), Vec::<String>::new());
        for n in 0..40 {
            rejected.count(&format!("few-{n:02}"), 10);
        }
        rejected.count("many", 1_000);
        advance(Duration::from_secs(10)).await;
        let lines = shown();
        assert_eq!((lines.len(), &*lines[0]), (33, r#"workspace="many"} 100.0"#));
        assert_eq!(lines[32], r#"workspace="(others)"} 9.0"#);
        advance(Duration::from_secs(70)).await;
        assert_eq!(shown(), Vec::<String>::new());
    }
}
