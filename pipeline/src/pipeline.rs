//! The pipeline as a whole.

use crate::{
    config::Config,
    consumer::{consume, group_name},
    context::{BUDGET_UNIT, Context, Health, READINGS},
    holdings::Holdings,
    lake::Lake,
    lane::Lane,
    metrics::Metrics,
    small_topics,
    trouble::Patience,
};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    log::{LogError, RecordLog, Topic},
    said::Said,
    tables::Tables,
    world::World,
};

/// Consumer groups with the topics that they read, in the order in which a record makes its way through them.
pub const GROUPS: [(&str, Topic); 4] = [
    ("lanes", Topic::Records),
    ("rejects", Topic::Rejects),
    ("attachments", Topic::Attachments),
    ("batch-state", Topic::BatchEvents),
];

fn groups() -> impl Iterator<Item = String> {
    GROUPS.into_iter().map(|(group, topic)| group_name(group, topic))
}

/// What made the pipeline end other than by being told to stop.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Some of it halted while the rest went on.
    #[error("{}", .0.join("; "))]
    Halted(Vec<String>),
}

/// All lanes, the small topics and the sweep of one process.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub(crate) context: Arc<Context>,
}

impl Pipeline {
    /// Puts it together; nothing happens before [`Self::run`].
    pub fn new(
        log: Arc<dyn RecordLog>,
        tables: Arc<dyn Tables>,
        lake: Lake,
        world: Arc<dyn World>,
        config: Config,
        registry: &mut Registry,
    ) -> Self {
        let patience = Patience::new(&config, &*world);
        let budget = (config.memory_bytes.div_ceil(BUDGET_UNIT)).clamp(1, Semaphore::MAX_PERMITS);
        let health = Health::default();
        health.begin(groups());
        let context = Context {
            log,
            tables,
            lake,
            world,
            metrics: Metrics::new(registry),
            patience,
            said: Said::default(),
            health,
            holdings: Holdings::new(config.commit_interval),
            readings: Semaphore::new(READINGS),
            budget: Arc::new(Semaphore::new(budget)),
            config,
        };
        Self { context: Arc::new(context) }
    }

    /// Tells at any time what has halted, and what is not able yet: for readiness.
    pub fn health(&self) -> Health {
        self.context.health.clone()
    }

    /// Tells at any time which partitions are this process's, and what was done there lately.
    pub fn holdings(&self) -> Holdings {
        self.context.holdings.clone()
    }

    /// Its metrics.
    pub fn metrics(&self) -> Metrics {
        self.context.metrics.clone()
    }

    /// Runs until `stop` is cancelled. Work in hand is then finished for [`Config::stop_grace`] at most.
    ///
    /// # Errors
    /// What has halted meanwhile; everything else went on, and [`Self::health`] has said so all along. Another run of a
    /// clone tries all of it again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), PipelineError> {
        let Self { context } = self;
        context.health.begin(groups());
        let [lanes, rejects, attachments, events] = GROUPS;
        tokio::join!(
            consume(context.clone(), lanes, stop.clone(), |context, reader, stop| {
                let lane = reader.partition();
                Box::pin(Lane::new(context, lane).run(reader, stop))
            }),
            consume(context.clone(), rejects, stop.clone(), |context, reader, stop| {
                Box::pin(small_topics::rejects(context, reader, stop))
            }),
            consume(context.clone(), attachments, stop.clone(), |context, reader, stop| {
                Box::pin(small_topics::attachments(context, reader, stop))
            }),
            consume(context.clone(), events, stop.clone(), |context, reader, stop| {
                Box::pin(small_topics::batch_events(context, reader, stop))
            }),
        );
        let faults = context.health.faults();
        if faults.is_empty() { Ok(()) } else { Err(PipelineError::Halted(faults)) }
    }
}

/// True when every group has done everything that its topic holds. Records are looked at before the attachments
/// and events that landing them appends, so that nothing can hide between the two.
pub async fn drained(log: &dyn RecordLog) -> Result<bool, LogError> {
    for (group, topic) in GROUPS {
        if log.progress(group, topic).await?.iter().any(|partition| partition.done < partition.high) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_backends::log::embedded::Options;

    /// Of a topic that is missing on either side the log would never drop anything.
    #[test]
    fn the_log_keeps_messages_for_exactly_these_groups() {
        let mut groups = GROUPS.map(|(group, topic)| (group.to_owned(), topic)).to_vec();
        let mut kept = Options::default().groups;
        groups.sort();
        kept.sort();
        assert_eq!(groups, kept);
    }
}
