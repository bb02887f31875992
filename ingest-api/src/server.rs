//! Connections: how many, how long they may take over a request's head, and how they end.

use crate::{Api, metrics::Counted, rate::share, routes};
use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tributary_backends::said::Said;

/// Bytes that a connection buffers before its request asks for them: memory that no budget counts.
const READ_BUFFER: usize = 128 * 1024;
/// For the answers that go out when the time to stop is over.
pub const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Serves the API until `stop`, then answers the requests in flight: as they come out while it may still be known how they
/// do, the others with a 503. Takes what an append may take
/// ([`settles_within`](tributary_backends::log::RecordLog::settles_within)) for it at most, and [`LAST_ANSWERS`].
///
/// # Errors
/// The listener's address cannot be read. Errors of single connections end only those.
pub async fn serve(api: Api, listener: TcpListener, stop: CancellationToken) -> Result<(), std::io::Error> {
    tracing::info!(address = %listener.local_addr()?, "listening");
    let connections = Connections {
        router: routes::router(api.clone()),
        api: api.clone(),
        permits: Arc::new(Semaphore::new(api.config.load.max_connections)),
        running: TaskTracker::new(),
        said: Said::default(),
        abort: CancellationToken::new(),
    };
    tokio::select! {
        () = connections.take_from(listener, &stop) => {}
        never = api.pressure.watch(&*api.log, &api.lanes) => match never {},
        never = share::keep(&api, api.config.load.rate_exchange) => match never {},
    }
    let over_at = api.stop();
    connections.finish(over_at).await;
    Ok(())
}

struct Connections {
    api: Api,
    router: Router,
    permits: Arc<Semaphore>,
    running: TaskTracker,
    /// What is wrong with the listener.
    said: Said,
    /// Ends connections that have not finished in time.
    abort: CancellationToken,
}

impl Connections {
    /// Takes connections until `stop`; the listener closes on return.
    async fn take_from(&self, listener: TcpListener, stop: &CancellationToken) {
        let next = async || {
            // The semaphore is never closed.
            let permit = self.permits.clone().acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        loop {
            let (accepted, permit) = tokio::select! {
                () = stop.cancelled() => return,
                next = next() => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    self.running.spawn(connection(
                        self.api.clone(),
                        self.router.clone(),
                        stream,
                        self.abort.clone(),
                        permit,
                    ));
                }
                Err(error) => {
                    // Mostly out of file descriptors: give connections time to end.
                    if let Some(unsaid) = self.said.may_say("accept") {
                        tracing::warn!(%error, unsaid, "cannot take a connection");
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Waits for what is in flight, until `over_at`; then answers what has no answer yet, and cuts off who does not take it
    /// or has not sent a whole head.
    async fn finish(self, over_at: Instant) {
        self.running.close();
        self.api.accepting.close();
        let all = async {
            self.running.wait().await;
            self.api.accepting.wait().await;
        };
        if timeout_at(over_at, all).await.is_ok() {
            return;
        }
        tracing::warn!(
            connections = self.running.len(),
            "requests were still in flight when the time to stop was over: they get 503"
        );
        self.api.over.cancel();
        if timeout(LAST_ANSWERS, self.running.wait()).await.is_err() {
            self.abort.cancel();
            self.running.wait().await;
        }
    }
}

/// Serves one connection until either side ends it.
async fn connection(
    api: Api,
    router: Router,
    stream: TcpStream,
    abort: CancellationToken,
    _permit: Option<OwnedSemaphorePermit>,
) {
    // Answers are small and complete: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let _open = Counted::up(&api.metrics.connections);
    let service =
        TowerToHyperService::new(router.map_request(|request: hyper::Request<Incoming>| request.map(Body::new)));
    let mut stream = TimeoutStream::new(stream);
    // hyper looks at its own timer only while it reads: a client that takes no answer would stay for ever.
    stream.set_write_timeout(Some(api.config.timeouts.write));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(api.config.timeouts.header)
        .max_buf_size(READ_BUFFER)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut served = pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = api.stopping.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                result = served => result,
                () = abort.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
