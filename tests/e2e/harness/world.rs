//! Which backends the tests run on: `TRIBUTARY_TEST_WORLD` is `embedded` (the default) or `kafka`.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

/// Which backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// Everything in the data directory.
    Embedded,
    /// The log on the broker of `TRIBUTARY_TEST_KAFKA`, the rest in the data directory.
    Kafka,
}

impl World {
    /// That of this run.
    pub fn of_this_run() -> Self {
        match std::env::var("TRIBUTARY_TEST_WORLD").as_deref() {
            Err(_) | Ok("embedded") => Self::Embedded,
            Ok("kafka") => Self::Kafka,
            Ok(other) => panic!("TRIBUTARY_TEST_WORLD is {other:?}: embedded and kafka are possible"),
        }
    }

    /// The flags that choose it, with names on the servers that nobody else has.
    pub fn flags(self) -> Vec<String> {
        if self == Self::Embedded {
            return Vec::new();
        }
        let brokers = std::env::var("TRIBUTARY_TEST_KAFKA");
        let brokers = brokers.expect("TRIBUTARY_TEST_KAFKA names no broker: tests/services/kafka.sh start");
        let prefix = format!("{}.", unique());
        // A killed process is missed soon: the tests kill many.
        ["--kafka", &brokers, "--kafka-prefix", &prefix, "--kafka-replication", "1", "--kafka-session-timeout", "2s"]
            .map(str::to_owned)
            .into()
    }
}

/// A name that nothing else on the servers has, neither of this run nor of another.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_micros();
    format!("e2e{}_{since}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
