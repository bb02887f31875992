//! What `lag` says where something is missing.

use super::Fleet;
use crate::harness::{command, finish};
use std::time::{Duration, Instant};

/// Nobody listens there, somebody does who says nothing, and nothing was ever started there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_broker_is_said_to_be_within_five_seconds() {
    let fleet = Fleet::new().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("an address").to_string();
    for brokers in ["127.0.0.1:1", &silent] {
        let begun = Instant::now();
        let mut lag = fleet.command("lag");
        lag.env("TRIBUTARY_KAFKA", brokers);
        let failed = finish(lag).await;
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(failed.err.contains(brokers), "{failed:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {failed:?}", begun.elapsed());
    }
    let failed = finish(fleet.command("lag --kafka-prefix nothing-here-")).await;
    assert!(failed.code == 1 && failed.err.contains("nothing has been started there yet"), "{failed:?}");
    let directory = tempfile::tempdir().expect("a directory");
    let failed = finish(command(directory.path(), ["lag"])).await;
    assert!(failed.code == 1 && failed.err.contains("no data directory"), "{failed:?}");
}
