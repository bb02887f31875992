//! What stands between clients and servers: it asks each server all the time whether it is ready, as a load balancer does, and
//! sends requests to none that is not.

use super::process::Process;
use crate::harness::Http;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Between two questions. Together with the time for an answer less than a server drains for, and long enough for requests
/// to go where they should not.
const EVERY: Duration = Duration::from_millis(500);
/// Whoever takes longer to answer is not ready.
const WITHIN: Duration = Duration::from_secs(2);

/// Asks as long as it lives.
pub struct Balancer {
    in_use: Vec<watch::Receiver<bool>>,
    taken_out: Arc<AtomicUsize>,
    _asking: Vec<AbortOnDropHandle<()>>,
}

impl Balancer {
    /// Of these servers, which are ready, and of those that come in their places at the same addresses.
    pub fn of(serves: &[Process]) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(WITHIN).build().expect("a client");
        let taken_out = Arc::new(AtomicUsize::new(0));
        let asked = serves.iter().map(|serve| {
            let (tell, told) = watch::channel(true);
            let url = format!("http://{}/readyz", serve.admin);
            let asking = tokio::spawn(ask(client.clone(), url, tell, taken_out.clone()));
            (told, AbortOnDropHandle::new(asking))
        });
        let (in_use, _asking) = asked.unzip();
        Self { in_use, taken_out, _asking }
    }

    /// Clients of the servers, in their order, that heed it.
    pub fn before(&self, clients: Vec<Http>) -> Vec<Http> {
        clients.into_iter().zip(&self.in_use).map(|(http, in_use)| http.balanced(in_use.clone())).collect()
    }

    /// How often a server was taken out of use.
    pub fn noticed(&self) -> usize {
        self.taken_out.load(Ordering::Relaxed)
    }
}

async fn ask(client: reqwest::Client, url: String, tell: watch::Sender<bool>, taken_out: Arc<AtomicUsize>) {
    loop {
        let ready = client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
        if tell.send_replace(ready) && !ready {
            taken_out.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(EVERY).await;
    }
}
