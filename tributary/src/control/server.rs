//! The running process's side of the socket.

use super::{
    Reply, Request,
    execute::{self, Running},
    wire,
};
use crate::state::State;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::BufReader,
    net::{UnixListener, UnixStream},
    runtime::Handle,
    sync::watch,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tributary_backends::data_dir::DataDir;

/// A client of ours sends its request at once.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Between two words about how far long work is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Answers commands until stopped; commands under way are then abandoned (each may be given again).
pub async fn serve(
    listener: UnixListener,
    state: Arc<State>,
    running: Running,
    data: PathBuf,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let tasks = TaskTracker::new();
    let outcome = loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (state, running, stop) = (state.clone(), running.clone(), stop.clone());
                let runtime = Handle::current();
                // Checks and rebuilds read whole tables: on a thread of their own they hold up nobody else's work.
                tasks.spawn_blocking(move || {
                    runtime.block_on(async {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = answer(stream, &state, &running) => {}
                        }
                    });
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come free.
                tracing::warn!(%error, "the control socket took no connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    tasks.close();
    tasks.wait().await;
    if let Err(error) = wire::remove(&DataDir::socket_path(&data)) {
        tracing::warn!(%error, "the control socket stays behind");
    }
    outcome
}

async fn answer(stream: UnixStream, state: &State, running: &Running) {
    let mut stream = BufReader::new(stream);
    let request: Request = match timeout(REQUEST_WITHIN, wire::read(&mut stream)).await {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => return refuse(&mut stream, &format!("{error:#}")).await,
        Err(_) => return refuse(&mut stream, "no command came").await,
    };
    tracing::debug!(?request, "command");
    let (tell, mut told) = watch::channel(0);
    let progress = |done| {
        tell.send_replace(done);
    };
    let work = execute::execute(state, Some(running), request, &progress);
    tokio::pin!(work);
    let reply = loop {
        let changed = async {
            tokio::time::sleep(PROGRESS_EVERY).await;
            let _ = told.changed().await;
            *told.borrow_and_update()
        };
        let done = tokio::select! {
            ended = &mut work => break ended.map_or_else(|error| Reply::Failed(format!("{error:#}")), |done| Reply::Done(Box::new(done))),
            done = changed => done,
        };
        if wire::write(&mut stream, &Reply::Progress(done)).await.is_err() {
            // Whoever asked has gone. What is not done yet can be asked for again.
            tracing::debug!("the command's sender went away");
            return;
        }
    };
    if let Err(error) = wire::write(&mut stream, &reply).await {
        tracing::debug!(%error, "the command's sender went away");
    }
}

async fn refuse(stream: &mut BufReader<UnixStream>, reason: &str) {
    let _ = wire::write(stream, &Reply::Failed(reason.to_owned())).await;
}
