//! Servers that are killed, hang, or cannot be reached by one of the processes, while four writers write.

use super::{
    Fleet,
    job::ended,
    proxy::{Net, Proxy, WELL},
    read_log,
};
use crate::{
    harness::{Answer, Http, Server, Servers, finish},
    model::record,
    writers::{Work, Writer},
};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Longer than requests are tried, so that some are given up.
const OUTAGE: Duration = Duration::from_secs(18);

/// A `serve` that is told to stop, while brokers are slow.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

async fn a_moment() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// A server is killed under load and comes back, and hangs under load and goes on.
async fn outage(mut server: Server) {
    let mut fleet = Fleet::on(server.among_others()).await;
    let processes = [fleet.serve().await, fleet.serve().await, fleet.pipeline().await, fleet.pipeline().await];
    let servers = fleet.clients(&processes[..2]);
    let work = Work::start(Writer::four(5), &servers);
    a_moment().await;
    let complaints = fleet.complaints();
    server.kill().await;
    a_moment().await;
    server.again().await;
    a_moment().await;
    let writers = work.finish().await;
    fleet.check(&servers, &writers).await;
    assert!(fleet.complaints() > complaints, "nobody missed the server that was killed");

    let complaints = fleet.complaints();
    let work = Work::start(writers, &servers);
    a_moment().await;
    server.pause();
    tokio::time::sleep(OUTAGE).await;
    fleet.until_complaints(complaints + 1).await;
    server.resume();
    a_moment().await;
    let writers = work.finish().await;
    fleet.check(&servers, &writers).await;
    for process in &processes {
        process.until_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_fails_and_comes_back() {
    outage(Server::start("kafka", vec![]).await).await;
}

/// Told to stop while the brokers hang: who is in flight hears what became of it, whether they go on in time or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_while_kafka_hangs_answers_those_in_flight() {
    let mut server = Server::start("kafka", vec![]).await;
    let mut fleet = Fleet::on(server.among_others()).await;
    fleet.also("TRIBUTARY_DRAIN", "0s".to_owned());
    for (hangs, answered) in [(Duration::from_secs(5), 202), (ENDS_WITHIN, 503)] {
        let mut serve = fleet.serve().await;
        let http = fleet.clients([&serve]).remove(0);
        server.pause();
        let (answer, (status, took), ()) = tokio::join!(
            http.ndjson(record("in flight", 1_600_000_000, "{}")),
            async {
                a_moment().await;
                serve.terminate().await
            },
            async {
                tokio::time::sleep(hangs).await;
                server.resume();
            },
        );
        assert_eq!(answer.status, answered, "{answer:?}");
        assert_eq!(answer.retry_after.is_some(), answered == 503, "{answer:?}");
        assert!(status.success() && took < ENDS_WITHIN, "{status:?} after {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_fail_and_come_back() {
    outage(Server::start("cassandra", vec![]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_fails_and_comes_back() {
    outage(Server::start("minio", vec![]).await).await;
}

/// One pipeline of two has a bad network to one of the servers; the other one goes on, or takes over.
async fn bad_network(mut fleet: Fleet, proxy: Proxy, variable: &'static str, value: String) {
    let behind = vec![(variable, value)];
    let serves = [fleet.serve().await, fleet.start("serve", "127.0.0.1:0", behind.clone()).await];
    let well = fleet.pipeline().await;
    let behind = fleet.start("pipeline", "", behind).await;
    let servers = fleet.clients(&serves);
    let mut writers = Writer::four(6);
    for net in [Net::Late(Duration::from_millis(50)), Net::Cut, Net::Hole] {
        let work = Work::start(writers, &servers);
        a_moment().await;
        let harmed = proxy.harmed();
        proxy.set(net);
        tokio::time::sleep(if net == Net::Hole { OUTAGE } else { Duration::from_secs(3) }).await;
        proxy.set(WELL);
        assert!(proxy.harmed() > harmed, "{net:?} meets nobody");
        a_moment().await;
        writers = work.finish().await;
        fleet.check(&servers, &writers).await;
    }
    behind.until_ready().await;
    drop(well);
    // It can do all of it again.
    for writer in &mut writers {
        writer.write(&servers).await;
    }
    fleet.check(&servers, &writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network_to_kafka() {
    let to = watch::Sender::new(String::new());
    let proxy = Proxy::new(to.subscribe()).await;
    let server = Server::start("kafka", vec![("KAFKA_PROXY", proxy.address.to_string())]).await;
    to.send_replace(server.says("TRIBUTARY_TEST_KAFKA_BEHIND_PROXY").to_owned());
    let fleet = Fleet::on(server.among_others()).await;
    let address = proxy.address.to_string();
    bad_network(fleet, proxy, "TRIBUTARY_KAFKA", address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network_to_the_tables() {
    let proxy = Proxy::to(&std::env::var("TRIBUTARY_TEST_CQL").expect("set for the tests")).await;
    let (fleet, address) = (Fleet::new().await, proxy.address.to_string());
    bad_network(fleet, proxy, "TRIBUTARY_SCYLLA", address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network_to_the_store() {
    let endpoint = std::env::var("AWS_ENDPOINT_URL").expect("set for the tests");
    let proxy = Proxy::to(endpoint.trim_start_matches("http://")).await;
    let (fleet, url) = (Fleet::new().await, format!("http://{}", proxy.address));
    bad_network(fleet, proxy, "AWS_ENDPOINT_URL", url).await;
}

/// Each answer comes so late that the client has given it up: it goes there and back, and an attempt has 3.3 s.
const TOO_LATE: Net = Net::Late(Duration::from_secs(2));

/// What is asked of the API is refused as it is documented, before the client loses its patience.
async fn refuses(http: &Http) {
    let begun = Instant::now();
    let (read, written) =
        tokio::join!(http.get("/batches/no-such-batch"), http.ndjson(record("late", 1_600_000_000, "{}")));
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    for Answer { status, json, retry_after } in [read, written] {
        assert_eq!((status, &json["error"]), (503, &"BACKEND_UNAVAILABLE".into()), "{json}");
        assert!(json["message"].as_str().is_some_and(|text| text.contains("retryAfter")), "{json}");
        assert_eq!(json["retryAfter"].as_u64(), retry_after, "{json}");
        assert!(retry_after.is_some_and(|seconds| seconds > 0) && json.as_object().expect("an object").len() == 3);
    }
}

/// The tables answer slowly, then too late, then not at all, to everybody, while senders go on; then they are well again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_answer_too_late_refuse_and_lose_nothing() {
    let proxy = Proxy::to(&std::env::var("TRIBUTARY_TEST_CQL").expect("set for the tests")).await;
    let behind = Servers::new().with("TRIBUTARY_SCYLLA", proxy.address.to_string());
    let mut fleet = Fleet::on(behind.with("TRIBUTARY_LANDING_DEADLINE", "60s".to_owned())).await;
    let processes = [fleet.serve().await, fleet.serve().await, fleet.pipeline().await, fleet.pipeline().await];
    let servers = fleet.clients(&processes[..2]);
    let (begun, mut writers) = (Instant::now(), Writer::four(9));
    for net in [Net::Late(Duration::from_millis(700)), TOO_LATE, Net::Hole] {
        let work = Work::start(writers, &servers);
        a_moment().await;
        proxy.set(net);
        tokio::time::sleep(OUTAGE).await;
        if matches!(net, TOO_LATE | Net::Hole) {
            refuses(&servers[0]).await;
        }
        proxy.set(WELL);
        a_moment().await;
        writers = work.finish().await;
        fleet.check(&servers, &writers).await;
    }
    let minutes = usize::try_from(begun.elapsed().as_secs() / 60).expect("few");
    for log in fleet.logs() {
        let said = read_log(&log).matches("the CQL cluster does not answer").count();
        assert!((1..=minutes + 1).contains(&said), "{}: {said} times in {minutes} min", log.display());
    }
    for process in &processes {
        process.until_ready().await;
    }
    // Every batch ends, also one of which the row alone was stored before its sender was refused.
    let (ended, accepted) = (ended(&servers[0]).await, writers.iter().map(|writer| writer.batches.len()).sum());
    assert!(ended.keys().all(|status| status == "COMPLETE" || status == "FAILED"), "{ended:?}");
    assert!(ended["COMPLETE"] >= accepted, "{ended:?} of {accepted}");
}

/// The index is derived from the lake: it may be dropped under load, and made again while others use it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_is_dropped_and_rebuilt_under_load() {
    let mut fleet = Fleet::new().await;
    let processes = [fleet.serve().await, fleet.pipeline().await, fleet.pipeline().await];
    let servers = fleet.clients(&processes[..1]);
    let mut writers = Writer::four(7);
    for _ in 0..2 {
        let work = Work::start(writers, &servers);
        a_moment().await;
        fleet.servers.drop_index();
        a_moment().await;
        finish(fleet.command("lake rebuild-index")).await.ok();
        a_moment().await;
        writers = work.finish().await;
        fleet.check(&servers, &writers).await;
    }
}
