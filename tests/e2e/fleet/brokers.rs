//! Several brokers, of which one at a time is dead: appends go on, and nothing acknowledged was on it alone. And a topic
//! that somebody has given more partitions.

use super::{Fleet, read_log};
use crate::{
    harness::{Server, Servers, finish},
    writers::{Work, Writer},
};
use std::time::Duration;

/// Longer than a broker that died is taken for alive.
const MISSED: Duration = Duration::from_secs(5);
/// How long a writer may take for a batch after that.
const GOES_ON_WITHIN: Duration = Duration::from_secs(30);

/// A broker, or one more of the cluster that this one began.
async fn broker(node: u32, first: Option<&Server>) -> Server {
    let mut settings = vec![("KAFKA_COPIES", "3".to_owned()), ("KAFKA_NODE", node.to_string())];
    settings.extend(first.map(|first| ("KAFKA_JOIN", first.says("TRIBUTARY_TEST_KAFKA_CLUSTER").to_owned())));
    Server::start("kafka", settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_brokers_may_die() {
    let first = broker(1, None).await;
    let others = tokio::join!(broker(2, Some(&first)), broker(3, Some(&first)));
    let mut others = [others.0, others.1];
    let brokers = [&first, &others[0], &others[1]].map(|broker| broker.says("TRIBUTARY_TEST_KAFKA").to_owned());
    let servers = first.among_others().with("TRIBUTARY_KAFKA", brokers.join(","));
    let servers = servers.with("TRIBUTARY_KAFKA_REPLICATION", "3".to_owned());
    let mut fleet = Fleet::on(servers.with("TRIBUTARY_KAFKA_MIN_INSYNC_REPLICAS", "2".to_owned())).await;
    let processes = [fleet.serve().await, fleet.serve().await, fleet.pipeline().await, fleet.pipeline().await];
    let clients = fleet.clients(&processes[..2]);
    let mut writers = Writer::four(8);
    for dies in &mut others {
        let work = Work::start(writers, &clients);
        tokio::time::sleep(Duration::from_secs(1)).await;
        dies.kill().await;
        tokio::time::sleep(MISSED).await;
        writers = work.finish().await;
        for writer in &mut writers {
            let written = tokio::time::timeout(GOES_ON_WITHIN, writer.write(&clients)).await;
            written.expect("two brokers of three are enough");
        }
        // Also what reads them goes on without it.
        fleet.check(&clients, &writers).await;
        dies.again().await;
    }
    for process in &processes {
        process.until_ready().await;
    }
    assert_eq!(warnings(&fleet), 0);
    let environment = vec![
        ("TRIBUTARY_KAFKA_PREFIX", "alone.".to_owned()),
        ("TRIBUTARY_KAFKA_REPLICATION", "1".to_owned()),
        ("TRIBUTARY_KAFKA_MIN_INSYNC_REPLICAS", "1".to_owned()),
    ];
    let _alone = fleet.start("serve", "127.0.0.1:0", environment).await;
    assert_eq!(warnings(&fleet), 1, "of copies that are on one broker alone although there are three");
}

fn warnings(fleet: &Fleet) -> usize {
    fleet.logs().iter().map(|log| read_log(log).matches("may be on one broker alone").count()).sum()
}

/// What runs goes on with the partitions that were written down, and says it; whoever starts then is told what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_partitions_than_were_written_down() {
    let properties = "topic.metadata.refresh.interval.ms=500".to_owned();
    let mut fleet = Fleet::on(Servers::new().with("TRIBUTARY_KAFKA_PROPERTY", properties)).await;
    let processes = [fleet.serve().await, fleet.pipeline().await, fleet.pipeline().await];
    let clients = fleet.clients(&processes[..1]);
    let work = Work::start(Writer::four(11), &clients);
    let complaints = fleet.complaints();
    let records = format!("{}records", fleet.setting("TRIBUTARY_KAFKA_PREFIX"));
    fleet.kafka_tool("TopicCommand", &["--alter", "--topic", &records, "--partitions", "6"]).await;
    for process in &processes {
        process.until_ready().await;
    }
    fleet.until_complaints(complaints + 1).await;
    let refused = finish(fleet.command("serve --listen 127.0.0.1:0 --admin 127.0.0.1:0")).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    for word in ["records has 6 partitions, 4 are configured", "--kafka-prefix"] {
        assert!(refused.err.contains(word), "{refused:?}");
    }
    let writers = work.finish().await;
    fleet.check(&clients, &writers).await;
    for process in &processes {
        assert!(process.is_ready().await, "{} can do all that it could", process.role);
    }
}
