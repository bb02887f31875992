//! Encryption and login, on a node that wants them.

use crate::support::*;
use std::time::{Duration, Instant};
use tributary_backends::tables::{
    TablesError,
    cql::{self, Options, Tls},
};

const LOGIN: (&str, &str) = ("CASSANDRA_LOGIN", "1");
const ENCRYPTED: (&str, &str) = ("CASSANDRA_TLS", "1");
const MUTUAL: (&str, &str) = ("CASSANDRA_TLS", "mutual");
const EXPIRED: (&str, &str) = ("CERTIFICATE_DAYS", "0");

/// Why nothing opens; said at once, not when the start time-out is over.
async fn refusal(options: Options) -> String {
    let begun = Instant::now();
    let refused = cql::open(Options { start_timeout: Duration::from_secs(300), ..options }).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(60));
    match refused {
        TablesError::Halted(why) => why,
        other => panic!("not refused: {other:?}"),
    }
}

/// One node through the life of a certificate: good, expired while tables are open on it, renewed.
#[tokio::test(flavor = "multi_thread")]
async fn encrypted_tables_outlive_certificates_and_say_what_is_wrong_with_them() {
    let mut server = Server::with(&[LOGIN, ENCRYPTED]).await;
    let keyspace = Keyspace::on(server.node.clone());
    let (authority, ours) = (server.file("ca.pem"), (server.file("server.crt"), server.file("server.key")));
    let encrypted = |tls: Tls| Options {
        user: Some("cassandra".to_owned()),
        password: Some("cassandra".to_owned()),
        tls: Some(tls),
        ..keyspace.options()
    };
    let trusting = Tls { authority: Some(authority), identity: None };
    let known = Tls { identity: Some(ours), ..trusting.clone() };
    let tables = open(&encrypted(known.clone())).await;
    tables.put_batch(row("w", "b", 1)).await.unwrap();
    assert!(open(&encrypted(trusting.clone())).await.batch("w", "b").await.unwrap().is_some());

    let why = refusal(encrypted(Tls::default())).await;
    assert!(why.contains("who signed"), "the system trusts nobody of the tests: {why}");
    let wrong = Options { password: Some("wrong-one".to_owned()), ..encrypted(trusting.clone()) };
    let why = refusal(wrong).await;
    assert!(why.contains("check the user and the password") && !why.contains("wrong-one"), "{why}");
    let plain = Options { nodes: vec![node()], ..encrypted(trusting.clone()) };
    let why = refusal(plain).await;
    assert!(why.contains("is client encryption turned on"), "{why}");

    server.change(&[LOGIN, ENCRYPTED, EXPIRED]).await;
    let why = refusal(encrypted(trusting.clone())).await;
    assert!(why.contains("xpired") && why.contains("renew"), "{why}");
    let waits = tables.put_batch(row("w", "c", 2)).await.unwrap_err();
    assert!(matches!(waits, TablesError::Unavailable(_)), "{waits:?}");

    server.change(&[LOGIN, MUTUAL]).await;
    until_available(async || tables.put_batch(row("w", "c", 2)).await).await;
    let why = refusal(encrypted(trusting)).await;
    assert!(why.contains("want a certificate of ours"), "{why}");
    assert_eq!(open(&encrypted(known)).await.batches("w", 10, None).await.unwrap().len(), 2);
}
