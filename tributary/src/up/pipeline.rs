//! Keeps the pipeline running, and lets a command have it rest while the index under it is replaced.

use anyhow::Context;
use std::{fmt::Display, future::Future};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Asks the running pipeline to rest.
#[derive(Debug, Clone)]
pub struct PipelineHandle(mpsc::Sender<Pause>);

/// The asking side of [`PipelineHandle`].
#[derive(Debug)]
pub struct Pauses(mpsc::Receiver<Pause>);

#[derive(Debug)]
struct Pause {
    resting: oneshot::Sender<()>,
    resumed: oneshot::Receiver<()>,
}

/// The pipeline rests until this is dropped.
#[derive(Debug)]
pub struct Resting(#[expect(dead_code, reason = "dropping it is the message")] oneshot::Sender<()>);

/// A handle and what it talks to.
pub fn handle() -> (PipelineHandle, Pauses) {
    let (sender, receiver) = mpsc::channel(1);
    (PipelineHandle(sender), Pauses(receiver))
}

impl PipelineHandle {
    /// Has the pipeline finish its chunks and rest. A second caller waits for the first to be done.
    ///
    /// # Errors
    /// The pipeline has stopped.
    pub async fn pause(&self) -> anyhow::Result<Resting> {
        let (resting, rests) = oneshot::channel();
        let (resume, resumed) = oneshot::channel();
        const STOPPED: &str = "the pipeline has stopped";
        self.0.send(Pause { resting, resumed }).await.ok().context(STOPPED)?;
        rests.await.ok().context(STOPPED)?;
        Ok(Resting(resume))
    }

    /// False once the pipeline has ended.
    pub fn is_alive(&self) -> bool {
        !self.0.is_closed()
    }
}

/// Runs what `pipeline` makes until `stop`, with rests in between when asked.
///
/// # Errors
/// The pipeline's, when it ends by itself. What had halted in it before a rest gets another try afterwards: a new index
/// may be just what it lacked.
pub async fn supervise<F, E>(
    mut pipeline: impl FnMut(CancellationToken) -> F,
    mut pauses: Pauses,
    stop: CancellationToken,
) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    loop {
        let stint = stop.child_token();
        let mut running = std::pin::pin!(pipeline(stint.clone()));
        let pause = tokio::select! {
            outcome = &mut running => return outcome,
            Some(pause) = pauses.0.recv() => pause,
        };
        stint.cancel();
        if let Err(error) = running.await {
            tracing::warn!("some of the pipeline had halted and is tried again after this rest: {error}");
        }
        if pause.resting.send(()).is_ok() {
            tracing::info!("the pipeline rests while its index is replaced");
            tokio::select! {
                _ = pause.resumed => tracing::info!("the pipeline goes on"),
                () = stop.cancelled() => return Ok(()),
            }
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

    /// A pipeline that does nothing but count how many of it run.
    async fn fake(running: Arc<AtomicUsize>, starts: Arc<AtomicUsize>, stop: CancellationToken) -> Result<(), String> {
        starts.fetch_add(1, Ordering::SeqCst);
        running.fetch_add(1, Ordering::SeqCst);
        stop.cancelled().await;
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    #[tokio::test]
    async fn it_rests_while_asked_and_goes_on_afterwards() {
        let (running, starts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (handle, pauses) = handle();
        let stop = CancellationToken::new();
        let task = {
            let (running, starts) = (running.clone(), starts.clone());
            let make = move |stop| fake(running.clone(), starts.clone(), stop);
            tokio::spawn(supervise(make, pauses, stop.clone()))
        };
        for _ in 0..3 {
            let resting = handle.pause().await.expect("rests");
            assert_eq!(running.load(Ordering::SeqCst), 0);
            drop(resting);
        }
        let resting = handle.pause().await.expect("rests");
        stop.cancel();
        assert_eq!(task.await.expect("no panic"), Ok(()));
        assert_eq!(running.load(Ordering::SeqCst), 0);
        assert!(starts.load(Ordering::SeqCst) >= 1);
        drop(resting);
        assert!(!handle.is_alive());
        assert!(handle.pause().await.is_err());
    }

    #[tokio::test]
    async fn what_had_halted_is_tried_again_after_a_rest() {
        let (handle, pauses) = handle();
        let (started, mut starts) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let halted = move |stop: CancellationToken| {
            let _ = started.send(());
            async move {
                stop.cancelled().await;
                Err::<(), _>("a lane has halted".to_owned())
            }
        };
        let task = tokio::spawn(supervise(halted, pauses, stop.clone()));
        starts.recv().await.expect("started");
        drop(handle.pause().await.expect("rests"));
        starts.recv().await.expect("started again");
        stop.cancel();
        assert_eq!(task.await.expect("no panic"), Err("a lane has halted".to_owned()));
    }

    #[tokio::test]
    async fn its_end_is_told() {
        let (handle, pauses) = handle();
        let broken = |_| async { Err("broken".to_owned()) };
        assert_eq!(supervise(broken, pauses, CancellationToken::new()).await, Err("broken".to_owned()));
        assert!(!handle.is_alive());
    }
}
