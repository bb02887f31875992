//! Encryption and login, given as properties of librdkafka.

use crate::support::*;
use std::time::Duration;
use tributary_backends::log::{
    LogError,
    kafka::{self, Options, Properties},
};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: tests/services/kafka.sh start prints it"))
}

fn secured(mechanism: &str, password: &str, authority: &str) -> Options {
    let properties = [
        "security.protocol=SASL_SSL".to_owned(),
        format!("sasl.mechanism={mechanism}"),
        "sasl.username=tributary".to_owned(),
        format!("sasl.password={password}"),
        format!("ssl.ca.location={authority}"),
    ];
    let properties = Properties::parse(properties.iter().map(String::as_str)).unwrap();
    Options { brokers: variable("TRIBUTARY_TEST_KAFKA_TLS"), properties, ..options(2) }
}

fn authority() -> String {
    variable("TRIBUTARY_TEST_KAFKA_CA")
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_plain_or_scram_reaches_every_part() {
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let log = open(&secured(mechanism, "test-password", &authority())).await;
        append(&log, 0, 0..10).await;
        let (_member, mut readers) = join(&log, 2).await;
        let reader = readers.get_mut(&0).unwrap();
        assert_eq!(read(reader, 10).await, (0..10).collect::<Vec<_>>());
        reader.commit(10).await.unwrap();
    }
}

/// Neither waits for the whole start time-out, nor shows the password.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_or_authority_is_said_at_once() {
    let system = "/etc/ssl/certs/ca-certificates.crt";
    for (password, authority, word) in
        [("wrong-one", authority(), "uthentication"), ("test-password", system.to_owned(), "certificate")]
    {
        let options =
            Options { start_timeout: Duration::from_secs(300), ..secured("SCRAM-SHA-512", password, &authority) };
        assert!(!format!("{options:?}").contains(password));
        let refused = tokio::time::timeout(PATIENCE, kafka::open(options)).await.unwrap();
        let Err(LogError::Halted(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains(word) && !reason.contains(password), "{reason}");
    }
}
