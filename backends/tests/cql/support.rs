//! What the tests share.

use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    deserialize::row::DeserializeRow,
};
use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tributary_backends::tables::{
    BatchRow, Tables, TablesError,
    cql::{self, Options},
};
use tributary_schemas::{batch::Fact, frame::BatchEvent};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn node() -> String {
    let set = std::env::var("TRIBUTARY_TEST_CQL");
    set.expect("TRIBUTARY_TEST_CQL names no server: tests/services/cassandra.sh start")
}

/// A name that no other test has, neither of this run nor of another.
pub fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
    format!("t{}_{since}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Both keyspaces of one set of tables; dropped in the end.
pub struct Keyspace {
    pub node: String,
    pub name: String,
}

impl Keyspace {
    pub fn new() -> Self {
        Self::on(node())
    }

    pub fn on(node: String) -> Self {
        Self { node, name: unique() }
    }

    pub fn options(&self) -> Options {
        Options {
            nodes: vec![self.node.clone()],
            keyspace: self.name.clone(),
            replication: Some(1),
            // The server shares a small machine with the tests.
            request_timeout: PATIENCE,
            start_timeout: PATIENCE,
            ..Options::default()
        }
    }
}

impl Drop for Keyspace {
    /// Tables take memory of the server. In a thread of its own, for there is no waiting for the future in here; a
    /// server that is gone has lost the keyspaces with it.
    fn drop(&mut self) {
        let options = Options { start_timeout: Duration::from_secs(1), ..self.options() };
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _ = runtime.block_on(cql::drop_keyspaces(&options, false));
        });
        dropping.join().unwrap();
    }
}

pub async fn open(options: &Options) -> Arc<dyn Tables> {
    cql::open(options.clone()).await.unwrap()
}

/// The server without our tables in between.
pub async fn session(node: &str) -> Session {
    SessionBuilder::new().known_node(node).fetch_schema_metadata(false).build().await.unwrap()
}

pub async fn rows<R: for<'f, 'm> DeserializeRow<'f, 'm>>(session: &Session, cql: String) -> Vec<R> {
    let result = session.query_unpaged(cql, ()).await.unwrap().into_rows_result().unwrap();
    result.rows::<R>().unwrap().map(Result::unwrap).collect()
}

/// Does what callers do: repeats it while the tables are not available.
pub async fn until_available<T>(mut call: impl AsyncFnMut() -> Result<T, TablesError>) -> T {
    let repeating = async {
        loop {
            match call().await {
                Ok(done) => return done,
                Err(TablesError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    tokio::time::timeout(2 * PATIENCE, repeating).await.unwrap()
}

pub fn row(workspace: &str, id: &str, created_at: i64) -> BatchRow {
    BatchRow {
        workspace: workspace.to_owned(),
        batch_id: id.to_owned(),
        created_at,
        accepted: 7,
        rejected: 0,
        total_errors: 0,
        errors: Vec::new(),
        source: "crm".to_owned(),
        kind: "email".to_owned(),
        format: None,
        attachments: 0,
    }
}

pub fn landed(workspace: &str, id: &str, at: i64) -> BatchEvent {
    let fact = Fact::Landed { lane: 0, lanes_in_batch: 1 };
    BatchEvent { workspace: workspace.to_owned(), batch_id: id.to_owned(), at, fact }
}

/// A server for one test, which may kill it.
pub struct Server {
    dir: TempDir,
    /// What the script is told.
    environment: Vec<(&'static str, &'static str)>,
    pub node: String,
    pid: String,
    hangs: AtomicBool,
}

impl Server {
    /// With `login` it asks for user and password; `cassandra` is both of them.
    pub async fn start(login: bool) -> Self {
        Self::with(if login { &[("CASSANDRA_LOGIN", "1")] } else { &[] }).await
    }

    /// As the script makes it of these variables.
    pub async fn with(environment: &[(&'static str, &'static str)]) -> Self {
        let (dir, environment, hangs) = (tempfile::tempdir().unwrap(), environment.to_vec(), AtomicBool::new(false));
        let mut server = Self { dir, environment, node: String::new(), pid: String::new(), hangs };
        server.again().await;
        server
    }

    /// Kills it and starts it as the script makes it of these variables.
    pub async fn change(&mut self, environment: &[(&'static str, &'static str)]) {
        self.kill().await;
        self.environment = environment.to_vec();
        self.again().await;
    }

    /// A file that the script has made for it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("cassandra").join(name)
    }

    /// Starts it with the data that it has.
    pub async fn again(&mut self) {
        let printed = self.told("start").await;
        let value = |name: &str| printed.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        (self.node, self.pid) = (value("TRIBUTARY_TEST_CQL="), value("CASSANDRA_PID="));
    }

    pub async fn kill(&self) {
        self.told("kill").await;
    }

    /// What the script prints; others go on meanwhile.
    async fn told(&self, verb: &str) -> String {
        let ran = tokio::process::Command::from(self.script(verb)).output().await.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.pid]).status().unwrap().success());
        self.hangs.store(name == "-STOP", Ordering::Relaxed);
    }

    fn script(&self, verb: &str) -> Command {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/services/cassandra.sh");
        let mut command = Command::new(script);
        command.arg(verb).env("TRIBUTARY_SERVICES", self.dir.path()).envs(self.environment.iter().copied());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that hangs ends no sooner than it goes on.
        if self.hangs.load(Ordering::Relaxed) {
            self.signal("-CONT");
        }
        assert!(self.script("stop").status().unwrap().success());
    }
}
