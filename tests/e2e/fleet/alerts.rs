//! Alerts of what only happens among many processes and servers; see `crate::alerts`.

use super::{
    Fleet,
    proxy::{Net, Proxy, WELL},
};
use crate::{
    alerts::Prometheus,
    harness::{Server, Servers},
    model::MESSAGES,
};
use std::{fs, path::Path, process::Command, time::Duration};

/// Servers of the test's own, and a lake in a directory.
fn on(kafka: &Server, cassandra: &Server, lake: &Path) -> Servers {
    Servers::of(&|name| match name {
        "TRIBUTARY_TEST_KAFKA" => kafka.says(name).to_owned(),
        "TRIBUTARY_TEST_CQL" => cassandra.says(name).to_owned(),
        _ => format!("file://{}/", lake.display()),
    })
}

/// The authority that signed the broker's certificate, and one that is good for five days only.
fn expiring(kafka: &Server, directory: &Path) -> String {
    let path = |name: &str| directory.join(name).display().to_string();
    let (short, key, both) = (path("short.pem"), path("short.key"), path("both.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "5", "-subj", "/CN=soon gone"]);
    let made = openssl.args(["-keyout", &key, "-out", &short]).output().expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |file: &str| fs::read_to_string(file).expect("a certificate");
    fs::write(&both, read(kafka.says("TRIBUTARY_TEST_KAFKA_CA")) + &read(&short)).expect("written");
    both
}

/// Nothing fails, and nothing waits for the lake: senders are slow, for they wait for answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn tables_that_are_slow() {
    let tables = Proxy::to(&std::env::var("TRIBUTARY_TEST_CQL").expect("set for the tests")).await;
    let mut fleet = Fleet::new().await;
    let behind = vec![("TRIBUTARY_SCYLLA", tables.address.to_string())];
    let serve = fleet.start("serve", "127.0.0.1:0", behind).await;
    let pipeline = fleet.pipeline().await;
    let http = fleet.clients([&serve]).remove(0);
    http.land(MESSAGES).await;
    let prometheus = Prometheus::start().await;
    prometheus.watch(&[serve.admin, pipeline.admin]).await;

    tables.set(Net::Late(Duration::from_millis(400)));
    let fired = {
        let send = async || loop {
            http.ndjson(MESSAGES).await.batch_id();
        };
        tokio::select! {
            fired = prometheus.until_fired(&["TributaryBackendSlow"]) => fired,
            _ = futures::future::join_all((0..4).map(|_| send())) => unreachable!("they go on for ever"),
        }
    };
    assert!(fired.len() == 1, "others fired as well: {fired:?}");
    tables.set(WELL);
    http.land(MESSAGES).await;
    prometheus.until_quiet().await;
}

/// A pipeline is gone for good, the brokers are gone for a while, a certificate is about to expire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn lanes_without_owner_brokers_that_are_gone_and_old_certificates() {
    let (kafka, cassandra) = tokio::join!(Server::start("kafka", vec![]), Server::start("cassandra", vec![]));
    let (mut kafka, directory) = (kafka, tempfile::tempdir().expect("a directory"));
    let mut fleet = Fleet::on(on(&kafka, &cassandra, directory.path())).await;
    let (serve, mut pipeline) = (fleet.serve().await, fleet.pipeline().await);
    let http = fleet.clients([&serve]).remove(0);
    http.land(MESSAGES).await;
    let prometheus = Prometheus::start().await;
    prometheus.watch(&[serve.admin, pipeline.admin]).await;

    pipeline.kill();
    prometheus.scrape(&[serve.admin]).await;
    let id = http.ndjson(MESSAGES.replace("\"data\":{", "\"data\":{\"changed\":1,")).await.batch_id();
    let fired = prometheus.until_fired(&["TributaryNoOwner", "TributaryRecordsLate", "TributaryLagGrowing"]).await;
    assert!(fired.len() == 3, "others fired as well: {fired:?}");
    let pipeline = fleet.again(&pipeline).await;
    http.complete(&id).await;
    prometheus.watch(&[serve.admin, pipeline.admin]).await;

    kafka.kill().await;
    let fired = prometheus.until_fired(&["TributaryLagUnknown"]).await;
    assert!(fired.len() == 1, "others fired as well: {fired:?}");
    kafka.again().await;
    prometheus.until_quiet().await;

    let tls = "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=tributary\nsasl.password=test-password";
    let property = format!("{tls}\nssl.ca.location={}", expiring(&kafka, directory.path()));
    let broker = kafka.says("TRIBUTARY_TEST_KAFKA_TLS").to_owned();
    let other =
        fleet.start("pipeline", "", vec![("TRIBUTARY_KAFKA", broker), ("TRIBUTARY_KAFKA_PROPERTY", property)]).await;
    prometheus.scrape(&[serve.admin, pipeline.admin, other.admin]).await;
    let fired = prometheus.until_fired(&["TributaryCertificateExpiring"]).await;
    assert!(fired.len() == 1, "others fired as well: {fired:?}");
}
