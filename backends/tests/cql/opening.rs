//! Opening: many at once, refused, in vain.

use crate::support::*;
use futures::future::try_join_all;
use std::time::{Duration, Instant};
use tributary_backends::tables::{
    TablesError,
    cql::{self, Options},
};
use tributary_schemas::identity::Lanes;

/// One makes the tables, the others wait; then all work with the same ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_may_open_an_empty_cluster_at_once() {
    let keyspace = Keyspace::new();
    let opened = (0..10).map(|_| cql::open(keyspace.options()));
    let tables = try_join_all(opened).await.unwrap();
    let lanes = (1..=10).zip(&tables).map(|(n, tables)| tables.lanes(Lanes { partitions: n, spread: 1 }));
    let lanes = try_join_all(lanes).await.unwrap();
    assert!(lanes.iter().all(|answer| *answer == lanes[0]), "{lanes:?}");
    for (n, tables) in tables.iter().enumerate() {
        tables.put_batch(row("w", &n.to_string(), n as i64)).await.unwrap();
    }
    assert_eq!(tables[0].batches("w", 100, None).await.unwrap().len(), 10);
    let session = session(&node()).await;
    let made: Vec<(String,)> = rows(
        &session,
        format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{}'", keyspace.name),
    )
    .await;
    assert_eq!(made.len(), 14, "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_newer_program_are_refused() {
    let keyspace = Keyspace::new();
    drop(open(&keyspace.options()).await);
    let newer = format!("INSERT INTO {}.migrations (name, version) VALUES ('schema', 99)", keyspace.name);
    session(&node()).await.query_unpaged(newer, ()).await.unwrap();
    let refused = cql::open(keyspace.options()).await.unwrap_err();
    assert!(matches!(&refused, TablesError::Halted(why) if why.contains("newer program")), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_opening_ends_in_time() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options =
        Options { nodes: vec![free.to_string()], start_timeout: Duration::from_secs(2), ..Options::default() };
    let begun = Instant::now();
    let failed = cql::open(options).await.unwrap_err();
    assert!(matches!(&failed, TablesError::Unavailable(why) if why.contains(&free.to_string())), "{failed}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_center_that_is_not_there_is_refused() {
    let keyspace = Keyspace::new();
    let options = Options { datacenter: Some("atlantis".to_owned()), ..keyspace.options() };
    let refused = cql::open(options).await.unwrap_err();
    assert!(matches!(&refused, TablesError::Halted(why) if why.contains("atlantis")), "{refused}");
    let named = Options { datacenter: Some("datacenter1".to_owned()), ..keyspace.options() };
    open(&named).await.put_batch(row("w", "b", 1)).await.unwrap();
}

/// None of them waits for the start time-out, and none shows the password.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_said_at_once() {
    let server = Server::start(true).await;
    let keyspace = Keyspace::on(server.node.clone());
    let with = |user: Option<&str>, password: Option<&str>| Options {
        user: user.map(str::to_owned),
        password: password.map(str::to_owned),
        start_timeout: Duration::from_secs(300),
        ..keyspace.options()
    };
    let wrong = [
        (with(None, None), "user and a password"),
        (with(Some("cassandra"), Some("wrong-one")), "check the user and the password"),
    ];
    for (options, word) in wrong {
        let begun = Instant::now();
        let refused = cql::open(options).await.unwrap_err();
        assert!(matches!(&refused, TablesError::Halted(why) if why.contains(word)), "{refused}");
        assert!(!refused.to_string().contains("wrong-one"), "{refused}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    let right = with(Some("cassandra"), Some("cassandra"));
    let tables = open(&right).await;
    tables.put_batch(row("w", "b", 1)).await.unwrap();
    drop(tables);
    // One who may log in, and no more.
    let admin = scylla::client::session_builder::SessionBuilder::new().known_node(&server.node);
    let admin = admin.user("cassandra", "cassandra").build().await.unwrap();
    let role = "CREATE ROLE nobody WITH PASSWORD = 'nothing' AND LOGIN = true";
    admin.query_unpaged(role, ()).await.unwrap();
    let refused = cql::open(with(Some("nobody"), Some("nothing"))).await.unwrap_err();
    assert!(matches!(&refused, TablesError::Unavailable(why) if why.contains("grant it")), "{refused}");
}
