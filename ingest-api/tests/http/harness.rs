//! A server on a port of its own, with a look behind it.

use arrow::array::AsArray;
use async_trait::async_trait;
use prometheus_client::registry::Registry;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    log::{Append, Change, FetchLimit, LogError, Message, RecordLog, Topic, embedded as log, stand_in::StandIn},
    tables::{Permission, Tables, embedded as tables},
    world::SystemWorld,
};
use tributary_ingest_api::{Api, Config, keys, serve};
use tributary_schemas::{frame::RecordDecoder, identity::Lanes};

pub const LANES: Lanes = Lanes { partitions: 4, spread: 2 };

/// A running server and its backends.
pub struct Server {
    pub address: SocketAddr,
    pub client: Client,
    /// May read and write, in workspace `default`.
    pub key: String,
    pub log: Arc<Switchable>,
    pub tables: Arc<dyn Tables>,
    pub registry: Arc<Registry>,
    pub api: Api,
    pub stop: CancellationToken,
    serving: Option<JoinHandle<std::io::Result<()>>>,
    _dir: TempDir,
}

/// What a request was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub json: Value,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.json["error"].as_str().unwrap_or_else(|| panic!("no error in {self:?}"))
    }
}

pub async fn start() -> Server {
    start_with(|_| {}).await
}

/// Starts a server without a rate limit unless `change` sets one.
pub async fn start_with(change: impl FnOnce(&mut Config)) -> Server {
    let dir = tempfile::tempdir().expect("directory");
    let options = log::Options { lanes: LANES, ..log::Options::default() };
    let log = log::open(&dir.path().join("log"), options, Arc::new(SystemWorld)).expect("log");
    let log = Arc::new(Switchable::new(log));
    let tables = tables::open(&dir.path().join("tables")).expect("tables");
    let mut server = start_on(log, tables, dir, change).await;
    server.key = server.add_key("default", &[Permission::Read, Permission::Write], None).await.1;
    server
}

/// Another process, so to say, on the same log and tables.
pub async fn start_beside(first: &Server, change: impl FnOnce(&mut Config)) -> Server {
    let dir = tempfile::tempdir().expect("directory");
    let mut server = start_on(first.log.clone(), first.tables.clone(), dir, change).await;
    server.key = first.key.clone();
    server
}

async fn start_on(
    log: Arc<Switchable>,
    tables: Arc<dyn Tables>,
    dir: TempDir,
    change: impl FnOnce(&mut Config),
) -> Server {
    let mut config = Config::default();
    config.load.rate_limit = 0;
    change(&mut config);
    let mut registry = Registry::default();
    let api = Api::new(log.clone(), tables.clone(), Arc::new(SystemWorld), LANES, config, &mut registry);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let stop = CancellationToken::new();
    let serving = Some(tokio::spawn(serve(api.clone(), listener, stop.clone())));
    let client = Client::builder().no_proxy().build().expect("client");
    let registry = Arc::new(registry);
    Server { address, client, key: String::new(), log, tables, registry, api, stop, serving, _dir: dir }
}

impl Server {
    /// Makes a key; its id and its secret.
    pub async fn add_key(&self, workspace: &str, permissions: &[Permission], rate: Option<u32>) -> (String, String) {
        let new = keys::NewKey {
            workspace: workspace.into(),
            label: "test".into(),
            source: "tests".into(),
            permissions: permissions.to_vec(),
            rate_limit: rate,
        };
        let (key, secret) = keys::mint(&SystemWorld, new);
        let id = key.id.clone();
        self.tables.create_key(key, 10).await.expect("key");
        (id, secret)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).header("x-api-key", &self.key)
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub fn ingest(&self, content_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.request(Method::POST, "/api/v1/ingest").header("content-type", content_type).body(body)
    }

    pub async fn post_json(&self, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.ingest("application/json", body)).await
    }

    pub async fn post_ndjson(&self, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.ingest("application/x-ndjson", body)).await
    }

    /// `data` of every record in the log, by batch and index.
    pub async fn stored(&self) -> Vec<(String, i64, String)> {
        let mut stored = Vec::new();
        for messages in read_topic(&*self.log, Topic::Records).await {
            if messages.is_empty() {
                continue;
            }
            let rows = RecordDecoder::new().decode(messages.iter().map(|m| &m.value[..])).expect("frames");
            let batch = rows.column_by_name("batch_id").expect("column").as_string::<i32>();
            let index = rows.column_by_name("record_index").expect("column");
            let index = index.as_primitive::<arrow::datatypes::Int64Type>();
            let data = rows.column_by_name("data").expect("column").as_string::<i32>();
            for row in 0..rows.num_rows() {
                stored.push((batch.value(row).to_owned(), index.value(row), data.value(row).to_owned()));
            }
        }
        stored.sort();
        stored
    }

    /// Nothing in the log, no batch in the tables.
    pub async fn assert_nothing_stored(&self) {
        for topic in [Topic::Records, Topic::Rejects] {
            for partition in 0..self.log.partitions(topic) {
                let marks = self.log.watermarks(topic, partition).await.expect("watermarks");
                assert_eq!(marks.high, 0, "{topic:?} {partition}");
            }
        }
        let batches = self.get("/api/v1/ingest/batches").await;
        assert_eq!(batches.json["batches"], serde_json::json!([]));
    }

    /// The metrics as text.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("text");
        text
    }

    /// Stops the server and waits for its end.
    pub async fn stopped(&mut self) {
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            serving.await.expect("no panic").expect("no error");
        }
    }
}

pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await.expect("a whole answer");
    let json = serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{status}: {e}: {body:?}"));
    Answer { status, headers, json }
}

/// Everything in a topic, one list for each partition.
pub async fn read_topic(log: &dyn RecordLog, topic: Topic) -> Vec<Vec<Message>> {
    let mut member = log.join("reader", topic).await.expect("join");
    let mut partitions = Vec::new();
    for _ in 0..log.partitions(topic) {
        let Change::Assigned(mut reader) = member.next().await.expect("change") else { panic!("revoked") };
        reader.seek(0);
        let high = reader.watermarks().await.expect("watermarks").high;
        let limit = FetchLimit { max_bytes: 1 << 26, max_messages: 100_000, max_wait: Duration::from_secs(5) };
        let mut messages = Vec::new();
        while reader.position() < high {
            messages.extend(reader.fetch(limit).await.expect("fetch"));
        }
        partitions.push(messages);
    }
    partitions
}

/// A log whose appends can be held up or made to fail.
#[derive(Debug)]
pub struct Switchable {
    inner: Arc<dyn RecordLog>,
    pub away: AtomicBool,
    pub held: AtomicBool,
    pub released: Notify,
    /// Told when an append begins to wait.
    pub waiting: Notify,
    /// By when the last append had to be over.
    pub by: Mutex<Option<Instant>>,
    /// How long an append takes before it begins.
    pub takes: Mutex<Duration>,
    /// What it says that an append takes at most; else what the log behind it says.
    pub settles: Mutex<Option<Duration>>,
}

impl Switchable {
    fn new(inner: Arc<dyn RecordLog>) -> Self {
        Self {
            inner,
            away: false.into(),
            held: false.into(),
            released: Notify::new(),
            waiting: Notify::new(),
            by: Mutex::new(None),
            takes: Mutex::default(),
            settles: Mutex::default(),
        }
    }

    /// From now on this is the longest that an append may take.
    pub fn settle_within(&self, longest: Duration) {
        *self.settles.lock().expect("no panic") = Some(longest);
    }

    /// What an append meets before it begins.
    async fn hold_up(&self) -> Result<(), LogError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(LogError::Unavailable("switched off".into()));
        }
        let released = self.released.notified();
        if self.held.load(Ordering::SeqCst) {
            self.waiting.notify_one();
            released.await;
        }
        let takes = *self.takes.lock().expect("no panic");
        tokio::time::sleep(takes).await;
        Ok(())
    }

    /// Lets appends that wait go on.
    pub fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.released.notify_waiters();
    }
}

#[async_trait]
impl StandIn for Switchable {
    fn behind(&self) -> &dyn RecordLog {
        &*self.inner
    }

    async fn append_by(&self, messages: Vec<Append>, by: Instant) -> Result<Vec<i64>, LogError> {
        *self.by.lock().expect("no panic") = Some(by);
        self.hold_up().await?;
        self.inner.append_by(messages, by).await
    }

    async fn append(&self, messages: Vec<Append>) -> Result<Vec<i64>, LogError> {
        self.hold_up().await?;
        self.inner.append(messages).await
    }

    fn settles_within(&self) -> Duration {
        self.settles.lock().expect("no panic").unwrap_or_else(|| self.inner.settles_within())
    }
}

/// A good record with this vendor id and this `data`.
pub fn record(id: &str, data: &str) -> String {
    record_with(id, data, "")
}

/// Likewise, with more fields.
pub fn record_with(id: &str, data: &str, more: &str) -> String {
    format!(
        r#"{{"_type":"message","_schema_version":"1.0.0","_event_at":"2024-05-01T10:00:00Z","_vendor_ids":{{"id":"{id}"}},"_product_id":"p","_project_id":"q","data":{data}{more}}}"#
    )
}

/// So many good records, one per line.
pub fn lines(n: usize) -> String {
    (0..n).map(|i| record(&i.to_string(), "{}") + "\n").collect()
}
