//! Whether every backend answers, and takes writes.

use super::pipeline::PipelineHandle;
use crate::backends::Backends;
use futures::{FutureExt, future::BoxFuture};
use std::{fmt::Display, future::Future, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tributary_backends::log::{LogError, RecordLog, Topic};
use tributary_ingest_api::admin::Ready;
use tributary_pipeline::Health;

/// A backend that takes longer is not ready to be relied on.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

type Answers = Vec<(String, Result<(), String>)>;

/// The lanes of this process.
#[derive(Debug, Clone)]
pub struct Lanes {
    pub pipeline: PipelineHandle,
    pub health: Health,
}

impl Lanes {
    fn check(&self) -> Result<(), String> {
        if self.pipeline.is_alive() { self.health.ready() } else { Err("the pipeline has stopped".to_owned()) }
    }
}

/// The checks of `/readyz`: log, tables, and where there are lanes those and the lake; none once it is `stopping`.
pub fn checks(backends: &Backends, lanes: Option<Lanes>, stopping: CancellationToken) -> Ready {
    let (state, log) = (backends.state.clone(), backends.log.clone());
    Arc::new(move || -> BoxFuture<'static, Answers> {
        let (state, log, lanes, stopping) = (state.clone(), log.clone(), lanes.clone(), stopping.clone());
        async move {
            if stopping.is_cancelled() {
                return vec![("process".to_owned(), Err("it is stopping".to_owned()))];
            }
            let (log, tables, lake) = futures::join!(
                answer(ANSWER_WITHIN, reads_and_writes(&*log)),
                // Read once, and written to once without a change: a full disk stops only writes.
                answer(ANSWER_WITHIN, async {
                    state.tables.keys(Some(super::announce::FIRST_WORKSPACE)).await?;
                    state.tables.expire(i64::MIN).await
                }),
                async {
                    // Only lanes need the lake.
                    if lanes.is_none() { Ok(()) } else { answer(ANSWER_WITHIN, state.lake.answers()).await }
                },
            );
            let mut answers = vec![("log".to_owned(), log), ("tables".to_owned(), tables)];
            if let Some(lanes) = lanes {
                answers.extend([("lake".to_owned(), lake), ("lanes".to_owned(), lanes.check())]);
            }
            answers
        }
        .boxed()
    })
}

async fn answer<T, E: Display>(within: Duration, asked: impl Future<Output = Result<T, E>>) -> Result<(), String> {
    match tokio::time::timeout(within, asked).await {
        Ok(answer) => answer.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {within:?}")),
    }
}

async fn reads_and_writes(log: &dyn RecordLog) -> Result<(), LogError> {
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            log.watermarks(topic, partition).await?;
        }
    }
    log.append(Vec::new()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_backend_that_hangs_or_fails_is_not_ready() {
        assert_eq!(answer(ANSWER_WITHIN, async { Ok::<_, String>(7) }).await, Ok(()));
        assert_eq!(answer(ANSWER_WITHIN, async { Err::<(), _>("away") }).await, Err("away".to_owned()));
        let hangs = answer(Duration::from_millis(1), std::future::pending::<Result<(), String>>()).await;
        assert_eq!(hangs, Err("no answer within 1ms".to_owned()));
    }
}
