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
    secured_at(variable("TRIBUTARY_TEST_KAFKA_TLS"), mechanism, password, authority)
}

fn secured_at(brokers: String, mechanism: &str, password: &str, authority: &str) -> Options {
    let properties = [
        "security.protocol=SASL_SSL".to_owned(),
        format!("sasl.mechanism={mechanism}"),
        "sasl.username=tributary".to_owned(),
        format!("sasl.password={password}"),
        format!("ssl.ca.location={authority}"),
    ];
    let properties = Properties::parse(properties.iter().map(String::as_str)).unwrap();
    Options { brokers, properties, ..options(2) }
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

/// A log that is open while its user's password is changed and the broker's certificate expires: whoever starts then is
/// refused at once, what runs already waits, and goes on by itself when both are right again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_running_log_outlives_changed_passwords_and_expired_certificates() {
    let changed = |mut broker: Broker, environment: &'static [(&'static str, &'static str)]| {
        tokio::task::spawn_blocking(move || {
            broker.change(environment);
            broker
        })
    };
    let mut broker = tokio::task::spawn_blocking(Broker::start).await.unwrap();
    let authority = broker.file("ca.pem").display().to_string();
    let options = secured_at(broker.secured.clone(), "PLAIN", "test-password", &authority);
    let options = Options { append_timeout: Duration::from_secs(3), ..options };
    let log = open(&options).await;
    let mut numbers = append(&log, 0, 0..10).await;
    for (environment, word) in
        [(&[("KAFKA_PASSWORD", "another")][..], "uthentication"), (&[("CERTIFICATE_DAYS", "0")], "may have expired")]
    {
        broker = changed(broker, environment).await.unwrap();
        let starting = Options { start_timeout: Duration::from_secs(300), ..options.clone() };
        let refused = tokio::time::timeout(PATIENCE, kafka::open(starting)).await.unwrap();
        let Err(LogError::Halted(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains(word) && !reason.contains("test-password"), "{reason}");
        let waits = log.append(vec![numbered(0, 99)]).await.unwrap_err();
        assert!(matches!(waits, LogError::Unavailable(_)), "{waits:?}");
    }
    broker = changed(broker, &[]).await.unwrap();
    let again = async {
        loop {
            match log.append(vec![numbered(0, 10)]).await {
                Ok(offsets) => return offsets,
                Err(LogError::Unavailable(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    numbers.extend(tokio::time::timeout(PATIENCE, again).await.unwrap());
    assert_eq!(numbers, (0..11).collect::<Vec<_>>(), "what failed was not appended after all");
    drop(log);
    drop(broker);
}
