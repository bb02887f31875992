//! Servers that let nobody in any more: a password was changed, a certificate has expired. What runs waits, answers in the
//! documented shape, and goes on by itself once it is mended; whoever starts meanwhile ends at once and says what is wrong.

use super::{Fleet, read_from};
use crate::{
    harness::{Server, finish},
    writers::{Work, Writer},
};

const PASSWORD: &str = "test-password";

/// What a server is started with, beside what it has always, and a word of what a process that starts then must say.
type Change = (&'static [(&'static str, &'static str)], &'static str);

fn settings(
    always: &[(&'static str, &'static str)],
    more: &[(&'static str, &'static str)],
) -> Vec<(&'static str, String)> {
    always.iter().chain(more).map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// Takes a server through its changes under a fleet that writes, and back, until all that was accepted has landed. `starts` is
/// what is started meanwhile.
async fn locked_out(
    fleet: &mut Fleet,
    server: &mut Server,
    always: &[(&'static str, &'static str)],
    changes: &[Change],
    starts: &str,
) -> Vec<Writer> {
    let processes = [fleet.serve().await, fleet.pipeline().await];
    let servers = fleet.clients(&processes[..1]);
    let mut writers = Writer::four(10);
    for (change, word) in changes {
        let work = Work::start(writers, &servers);
        let complaints = fleet.complaints();
        server.change(settings(always, change)).await;
        fleet.until_complaints(complaints + 1).await;
        let refused = finish(fleet.command(starts)).await;
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains(word) && !refused.err.contains(PASSWORD), "{word}: {refused:?}");
        server.change(settings(always, &[])).await;
        for process in &processes {
            process.until_ready().await;
        }
        writers = work.finish().await;
        for id in writers.iter().flat_map(|writer| &writer.batches) {
            servers[0].complete(id).await;
        }
    }
    writers
}

/// Processes that begin anew find everything as it must be.
async fn check(fleet: &mut Fleet, writers: &[Writer]) {
    let serve = fleet.serve().await;
    let _pipeline = fleet.pipeline().await;
    fleet.check(&fleet.clients([&serve]), writers).await;
}

const SERVE: &str = "serve --listen 127.0.0.1:0 --admin 127.0.0.1:0";
const PIPELINE: &str = "pipeline --admin 127.0.0.1:0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_lets_nobody_in() {
    let mut kafka = Server::start("kafka", Vec::new()).await;
    let authority = kafka.says("TRIBUTARY_TEST_KAFKA_CA");
    let properties = format!(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=tributary\nsasl.password={PASSWORD}\n\
         ssl.ca.location={authority}"
    );
    let servers = kafka.among_others().with("TRIBUTARY_KAFKA", kafka.says("TRIBUTARY_TEST_KAFKA_TLS").to_owned());
    let mut fleet = Fleet::on(servers.with("TRIBUTARY_KAFKA_PROPERTY", properties)).await;
    let changes: [Change; 2] =
        [(&[("KAFKA_PASSWORD", "another")], "sasl.password"), (&[("CERTIFICATE_DAYS", "0")], "may have expired")];
    let writers = locked_out(&mut fleet, &mut kafka, &[], &changes, SERVE).await;
    check(&mut fleet, &writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_let_nobody_in() {
    let always = [("CASSANDRA_TLS", "1")];
    let mut cassandra = Server::start("cassandra", settings(&always, &[])).await;
    let authority = cassandra.says("TRIBUTARY_TEST_CQL_CA").to_owned();
    let servers = cassandra.among_others().with("TRIBUTARY_SCYLLA_TLS", "true".to_owned());
    let mut fleet = Fleet::on(servers.with("TRIBUTARY_SCYLLA_CA", authority)).await;
    let changes: [Change; 1] = [(&[("CERTIFICATE_DAYS", "0")], "renew")];
    let writers = locked_out(&mut fleet, &mut cassandra, &always, &changes, SERVE).await;
    check(&mut fleet, &writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_lets_nobody_in() {
    let always = [("MINIO_TLS", "1")];
    let mut minio = Server::start("minio", settings(&always, &[])).await;
    let authority = minio.says("TRIBUTARY_TEST_S3_CA").to_owned();
    let mut fleet = Fleet::on(minio.among_others().with("SSL_CERT_FILE", authority)).await;
    let changes: [Change; 2] =
        [(&[("MINIO_PASSWORD", "another-password")], "AWS_SECRET_ACCESS_KEY"), (&[("CERTIFICATE_DAYS", "0")], "renew")];
    let writers = locked_out(&mut fleet, &mut minio, &always, &changes, PIPELINE).await;
    // DuckDB trusts nobody of the tests.
    minio.change(Vec::new()).await;
    let plain = minio.says("AWS_ENDPOINT_URL").to_owned();
    read_from(&plain, fleet.lake());
    fleet.also("AWS_ENDPOINT_URL", plain);
    check(&mut fleet, &writers).await;
}
