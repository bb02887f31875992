//! Which backends the tests run on: `TRIBUTARY_TEST_WORLD` is `embedded` (the default) or `cluster`.

#[cfg(feature = "cluster")]
use std::time::Duration;

/// Which backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// Everything in the data directory.
    Embedded,
    /// The log on Kafka, the tables in Cassandra, the lake on S3.
    Cluster,
}

impl World {
    /// That of this run.
    pub fn of_this_run() -> Self {
        match std::env::var("TRIBUTARY_TEST_WORLD").as_deref() {
            Err(_) | Ok("embedded") => Self::Embedded,
            Ok("cluster") if cfg!(feature = "cluster") => Self::Cluster,
            Ok("cluster") => panic!("TRIBUTARY_TEST_WORLD is cluster: test with --features tributary/cluster"),
            Ok(other) => panic!("TRIBUTARY_TEST_WORLD is {other:?}: embedded and cluster are possible"),
        }
    }

    /// Whether this is the embedded world; says why not, for tests of what only that one has.
    pub fn has_embedded(what: &str) -> bool {
        let embedded = Self::of_this_run() == Self::Embedded;
        if !embedded {
            eprintln!("only in the embedded world: {what}");
        }
        embedded
    }

    /// What a [`Home`](super::Home) of this world has on servers.
    pub fn servers(self) -> Servers {
        match self {
            Self::Embedded => Servers::default(),
            #[cfg(feature = "cluster")]
            Self::Cluster => Servers::new(),
            #[cfg(not(feature = "cluster"))]
            Self::Cluster => unreachable!("refused above"),
        }
    }
}

/// Topics, a keyspace and a lake that nobody else has; by environment variables, which flags overrule.
#[derive(Debug, Default)]
pub struct Servers {
    environment: Vec<(&'static str, String)>,
    /// CQL node and keyspace, which is dropped in the end: its tables take memory of the server.
    #[cfg(feature = "cluster")]
    keyspace: Option<(String, String)>,
}

impl Servers {
    /// What makes every command of the binary use them.
    pub fn environment(&self) -> &[(&'static str, String)] {
        &self.environment
    }
}

#[cfg(feature = "cluster")]
impl Servers {
    /// On the servers that the environment names.
    pub fn new() -> Self {
        Self::of(&|name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see tests/cluster.sh")))
    }

    /// On those that `server` names by the names of the environment.
    pub fn of(server: &dyn Fn(&str) -> String) -> Self {
        let (kafka, cql, lake) =
            (server("TRIBUTARY_TEST_KAFKA"), server("TRIBUTARY_TEST_CQL"), server("TRIBUTARY_TEST_S3"));
        let name = unique();
        let environment = vec![
            ("TRIBUTARY_KAFKA", kafka),
            ("TRIBUTARY_KAFKA_PREFIX", format!("{name}.")),
            ("TRIBUTARY_KAFKA_REPLICATION", "1".to_owned()),
            // A killed process is missed soon: the tests kill many.
            ("TRIBUTARY_KAFKA_SESSION_TIMEOUT", "2s".to_owned()),
            ("TRIBUTARY_SCYLLA", cql.clone()),
            ("TRIBUTARY_SCYLLA_KEYSPACE", name.clone()),
            ("TRIBUTARY_LAKE", format!("{lake}{name}/")),
        ];
        Self { environment, keyspace: Some((cql, name)) }
    }
}

#[cfg(feature = "cluster")]
impl Servers {
    /// What one of the environment variables says, if it is theirs.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Another server of the three, or something in between, from now on.
    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value));
        self
    }

    /// Drops the key index, as an operator might.
    pub fn drop_index(&self) {
        self.drop_keyspaces(true);
    }

    /// In a thread of its own, for dropping a value cannot wait for a future.
    fn drop_keyspaces(&self, only_index: bool) {
        use tributary_backends::tables::cql::{Options, drop_keyspaces};

        let Some((node, keyspace)) = self.keyspace.clone() else { return };
        let options =
            Options { nodes: vec![node], keyspace, start_timeout: Duration::from_secs(5), ..Options::default() };
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            if let Err(error) = runtime.block_on(drop_keyspaces(&options, only_index)) {
                eprintln!("{} stays on the server: {error}", options.keyspace);
            }
        });
        let _ = dropping.join();
    }
}

#[cfg(feature = "cluster")]
impl Drop for Servers {
    fn drop(&mut self) {
        self.drop_keyspaces(false);
    }
}

/// A name that nothing else on the servers has, neither of this run nor of another.
#[cfg(feature = "cluster")]
fn unique() -> String {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::SystemTime,
    };

    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_micros();
    format!("e2e{}_{since}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
