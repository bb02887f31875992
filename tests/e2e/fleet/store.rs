//! A store that is busy, fails, contradicts itself and hangs up in the middle, for all processes at once, while four writers
//! write. The harm is done to single requests, so each of them is met for certain.

use super::{
    Fleet,
    store_proxy::{Harm, Proxy},
};
use crate::{
    harness::Servers,
    writers::{Work, Writer},
};
use hyper::Method;
use std::time::{Duration, Instant};

/// What of a table a request is about.
const COMMIT: &str = "_delta_log";
const FILE: &str = ".parquet";

/// Which requests meet what; a few of each.
fn harms() -> Vec<Vec<(Method, &'static str, Harm)>> {
    let (put, get) = (Method::PUT, Method::GET);
    vec![
        // It did not happen, and says so.
        vec![
            (put.clone(), COMMIT, Harm::Answer(503, "SlowDown")),
            (put.clone(), FILE, Harm::Answer(500, "InternalError")),
            (get.clone(), COMMIT, Harm::Answer(503, "SlowDown")),
            (put.clone(), COMMIT, Harm::Answer(409, "ConditionalRequestConflict")),
        ],
        // It happened, and nobody hears of it, or the contrary.
        vec![
            (put.clone(), COMMIT, Harm::DropAnswer),
            (put.clone(), COMMIT, Harm::AnswerInstead(500, "InternalError")),
            (put.clone(), COMMIT, Harm::AnswerInstead(409, "ConditionalRequestConflict")),
            (put.clone(), FILE, Harm::DropAnswer),
        ],
        // It ends in the middle, or takes its time.
        vec![
            (put.clone(), FILE, Harm::CutUpload),
            (put.clone(), COMMIT, Harm::CutUpload),
            (get, COMMIT, Harm::CutDownload),
            (put.clone(), FILE, Harm::Delay(Duration::from_secs(2))),
            (put, COMMIT, Harm::Delay(Duration::from_secs(2))),
        ],
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_now_and_then() {
    let endpoint = std::env::var("AWS_ENDPOINT_URL").expect("set for the tests");
    let proxy = Proxy::start(&endpoint).await;
    let mut fleet = Fleet::on(Servers::new().with("AWS_ENDPOINT_URL", proxy.url.clone())).await;
    let serve = fleet.serve().await;
    let pipelines = [fleet.pipeline().await, fleet.pipeline().await];
    let servers = fleet.clients([&serve]);
    let mut writers = Writer::four(9);
    for harms in harms() {
        let work = Work::start(writers, &servers);
        for (method, part, harm) in &harms {
            proxy.harm(method.clone(), part, *harm, 3);
        }
        let begun = Instant::now();
        while proxy.left() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "{} of {harms:?} meet nobody", proxy.left());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        writers = work.finish().await;
        fleet.check(&servers, &writers).await;
    }
    for pipeline in &pipelines {
        pipeline.until_ready().await;
    }
}
