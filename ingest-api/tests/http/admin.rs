//! The operators' listener.

use futures::FutureExt;
use prometheus_client::registry::Registry;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tributary_ingest_api::{Metrics, admin};

#[tokio::test]
async fn health_readiness_and_metrics() {
    let away = Arc::new(AtomicBool::new(false));
    let asked = away.clone();
    let ready: admin::Ready = Arc::new(move || {
        let is = if asked.load(Ordering::SeqCst) { Err("no answer".to_owned()) } else { Ok(()) };
        let answer = |backend, is, millis| admin::Answer { backend, is, took: Duration::from_millis(millis) };
        let answers = vec![answer("log", Ok(()), 1_234), answer("tables", is, 0)];
        async move { answers }.boxed()
    });
    let mut registry = Registry::default();
    Metrics::register(&mut registry).batches.inc();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(admin::serve(listener, "host:7".into(), Arc::new(registry), ready, stop.clone()));
    let get = async |path: &str| {
        let response = reqwest::get(format!("http://{address}{path}")).await.expect("answer");
        (response.status().as_u16(), response.text().await.expect("text"))
    };
    assert_eq!(get("/healthz").await, (200, "ok\n".to_owned()));
    let says = |ready: bool, tables: &str| {
        let seconds = r#""seconds":{"log":1.234,"tables":0.0}"#;
        format!(r#"{{"backends":{{"log":"ok","tables":"{tables}"}},"process":"host:7","ready":{ready},{seconds}}}"#)
    };
    assert_eq!(get("/readyz").await, (200, says(true, "ok")));
    away.store(true, Ordering::SeqCst);
    assert_eq!(get("/readyz").await, (503, says(false, "no answer")));
    let (status, text) = get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("tributary_ingest_batches_total 1\n") && text.ends_with("# EOF\n"), "{text}");
    stop.cancel();
    serving.await.expect("no panic").expect("no error");
}
