//! Several CQL nodes, of which one at a time is dead: a majority of the copies of each row is enough.

use super::Fleet;
use crate::{
    harness::Server,
    writers::{Work, Writer},
};
use std::time::Duration;

/// Shorter than the time after which the others know that one is dead, so that part of it goes by in ignorance.
const AWAY: Duration = Duration::from_secs(10);
/// How long a writer may take for a batch meanwhile.
const GOES_ON_WITHIN: Duration = Duration::from_secs(30);

/// A node, or one more of the cluster that this one began.
async fn node(number: u32, first: Option<&Server>) -> Server {
    let mut settings = vec![("CASSANDRA_HEAP", "512m".to_owned()), ("CASSANDRA_NODE", number.to_string())];
    settings.extend(first.map(|first| ("CASSANDRA_JOIN", first.says("TRIBUTARY_TEST_CQL_CLUSTER").to_owned())));
    Server::start("cassandra", settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_nodes_may_die() {
    let first = node(1, None).await;
    // One after the other: a node takes its part from those that are there.
    let second = node(2, Some(&first)).await;
    let third = node(3, Some(&first)).await;
    let mut nodes = [first, second, third];
    let addresses = nodes.each_ref().map(|node| node.says("TRIBUTARY_TEST_CQL").to_owned());
    // Three copies, for there are three nodes.
    let servers = nodes[0].among_others().with("TRIBUTARY_SCYLLA", addresses.join(","));
    let mut fleet = Fleet::on(servers).await;
    let processes = [fleet.serve().await, fleet.serve().await, fleet.pipeline().await, fleet.pipeline().await];
    let clients = fleet.clients(&processes[..2]);
    let mut writers = Writer::four(10);
    // Also the one by which the others have found each other.
    for dies in [2, 0] {
        let work = Work::start(writers, &clients);
        tokio::time::sleep(Duration::from_secs(1)).await;
        nodes[dies].kill().await;
        tokio::time::sleep(AWAY).await;
        writers = work.finish().await;
        for writer in &mut writers {
            let written = tokio::time::timeout(GOES_ON_WITHIN, writer.write(&clients)).await;
            written.expect("two nodes of three are enough");
        }
        // Also what reads them goes on without it.
        fleet.check(&clients, &writers).await;
        nodes[dies].again().await;
    }
    for process in &processes {
        process.until_ready().await;
    }
}
