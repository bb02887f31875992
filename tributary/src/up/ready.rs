//! Whether every backend answers, and takes writes.

use super::pipeline::PipelineHandle;
use crate::backends::Backends;
use futures::{
    FutureExt,
    future::{BoxFuture, OptionFuture},
};
use std::{fmt::Display, future::Future, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    log::{LogError, RecordLog},
    tables::{Tables, TablesError},
};
use tributary_ingest_api::admin::{Answer, Ready};
use tributary_pipeline::{GROUPS, Health, Holding, Holdings};
use uuid::Uuid;

/// A backend that takes longer is not ready to be relied on.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Partitions of which it is said what they wait for; mostly it is the same.
const SHOWN: usize = 3;

/// Where processes that are asked leave a note, which nobody reads, and its microseconds of life.
const BOARD: &str = "ready";
const NOTE_LIVES: Duration = Duration::from_secs(10);

/// The lanes of this process.
#[derive(Debug, Clone)]
pub struct Lanes {
    pub pipeline: PipelineHandle,
    pub health: Health,
    pub holdings: Holdings,
}

impl Lanes {
    fn check(&self) -> Result<(), String> {
        if !self.pipeline.is_alive() {
            return Err("the pipeline has stopped".to_owned());
        }
        self.health.ready()?;
        let waits =
            |one: Holding| Some(format!("partition {} of {} waits: {}", one.partition, one.topic.name(), one.waits?));
        let waiting: Vec<_> = self.holdings.now().into_iter().filter_map(waits).collect();
        match waiting.len().saturating_sub(SHOWN) {
            _ if waiting.is_empty() => Ok(()),
            0 => Err(waiting.join("; ")),
            more => Err(format!("{}; and {more} more", waiting[..SHOWN].join("; "))),
        }
    }
}

/// The checks of `/readyz`: log, tables, and where there are lanes those and the lake; none once it is `stopping`.
pub fn checks(backends: &Backends, lanes: Option<Lanes>, stopping: CancellationToken) -> Ready {
    let (state, log) = (backends.state.clone(), backends.log.clone());
    let process = state.world.uuid_v7();
    Arc::new(move || -> BoxFuture<'static, Vec<Answer>> {
        let (state, log, lanes, stopping) = (state.clone(), log.clone(), lanes.clone(), stopping.clone());
        async move {
            if stopping.is_cancelled() {
                return vec![at_once("process", Err("it is stopping".to_owned()))];
            }
            let of_log = answer("log", ANSWER_WITHIN, log_answers(&*log));
            let of_tables = answer("tables", ANSWER_WITHIN, tables_answer(&*state.tables, process));
            // Only lanes need the lake.
            let of_lanes = OptionFuture::from(lanes.map(async |lanes| {
                [answer("lake", ANSWER_WITHIN, state.lake.answers()).await, at_once("lanes", lanes.check())]
            }));
            let (log, tables, lanes) = futures::join!(of_log, of_tables, of_lanes);
            [log, tables].into_iter().chain(lanes.into_iter().flatten()).collect()
        }
        .boxed()
    })
}

async fn answer<T, E: Display>(
    backend: &'static str,
    within: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Answer {
    let asked_at = Instant::now();
    let is = match tokio::time::timeout(within, asked).await {
        Ok(answer) => answer.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {within:?}")),
    };
    Answer { backend, is, took: asked_at.elapsed() }
}

fn at_once(backend: &'static str, is: Result<(), String>) -> Answer {
    Answer { backend, is, took: Duration::ZERO }
}

/// A few questions, however many lanes there are.
async fn log_answers(log: &dyn RecordLog) -> Result<(), LogError> {
    log.progress_of(&GROUPS).await?;
    log.append(Vec::new()).await.map(drop)
}

/// Reads and writes, for a full disk stops only writes. On servers the note is the write. Embedded tables keep notes in
/// memory; there, sweeping what ended before all time takes the way of every write, with its look at the room on the disk
/// and its sync, and changes nothing.
async fn tables_answer(tables: &dyn Tables, process: Uuid) -> Result<(), TablesError> {
    tables.keys(Some(super::announce::FIRST_WORKSPACE)).await?;
    tables.exchange(BOARD, process, &[], NOTE_LIVES).await?;
    tables.expire(i64::MIN).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tributary_backends::{
        log::{embedded, stand_in::StandIn},
        world::SystemWorld,
    };
    use tributary_schemas::identity::Lanes;

    /// Counts the questions to a log: each may take a while where there are brokers.
    #[derive(Debug)]
    struct Counting {
        log: Arc<dyn RecordLog>,
        asked: AtomicUsize,
    }

    impl StandIn for Counting {
        fn behind(&self) -> &dyn RecordLog {
            self.asked.fetch_add(1, Ordering::Relaxed);
            &*self.log
        }
    }

    #[tokio::test]
    async fn a_log_with_many_lanes_is_asked_no_more_than_one_with_few() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = embedded::Options { lanes: Lanes { partitions: 64, spread: 1 }, ..embedded::Options::default() };
        let log = embedded::open(dir.path(), options, Arc::new(SystemWorld)).expect("a log");
        let log = Counting { log, asked: AtomicUsize::new(0) };
        log_answers(&log).await.expect("it answers");
        assert_eq!(log.asked.into_inner(), 2);
    }

    #[tokio::test]
    async fn a_backend_that_hangs_or_fails_is_not_ready() {
        assert_eq!(answer("log", ANSWER_WITHIN, async { Ok::<_, String>(7) }).await.is, Ok(()));
        assert_eq!(answer("log", ANSWER_WITHIN, async { Err::<(), _>("away") }).await.is, Err("away".to_owned()));
        let hangs = answer("log", Duration::from_millis(1), std::future::pending::<Result<(), String>>()).await;
        assert_eq!(hangs.is, Err("no answer within 1ms".to_owned()));
        assert!(hangs.took >= Duration::from_millis(1));
    }
}
