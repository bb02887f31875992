//! How many letters are open, as `/metrics` shows it: in every process, the same number of the one log.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tributary_backends::log::RecordLog;
use tributary_pipeline::dead_letters::Ledger;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// The numbers of the last look, by topic; none before the first.
#[derive(Debug, Clone, Default)]
pub struct Open(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Open {
    /// Looks again and again until told to stop.
    ///
    /// # Errors
    /// None: what cannot be seen is looked for again, and shown as it was.
    pub async fn run(self, log: Arc<dyn RecordLog>, stop: CancellationToken) -> anyhow::Result<()> {
        let (mut ledger, mut failed) = (Ledger::default(), false);
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let look = async {
                ticks.tick().await;
                ledger.catch_up(&*log).await
            };
            let looked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                looked = look => looked,
            };
            match &looked {
                Ok(()) => *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ledger.open(),
                Err(error) if !failed => tracing::warn!("dead letters cannot be counted, will go on trying: {error}"),
                Err(_) => {}
            }
            failed = looked.is_err();
        }
    }
}

impl Collector for Open {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let help = "Dead letters that nothing was done about";
        let mut family = encoder.encode_descriptor("tributary_dead_letters_open", help, None, MetricType::Gauge)?;
        for (topic, letters) in open {
            ConstGauge::new(letters.cast_signed()).encode(family.encode_family(&[("topic", topic)])?)?;
        }
        Ok(())
    }
}
