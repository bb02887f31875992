//! A scrape of a whole `up` that runs, while ten thousand workspaces send to it, each with a key of its own.

use super::{Listeners, Role, UpArgs, services::Services};
use crate::{backends::Backends, state};
use clap::Parser;
use futures::{StreamExt, stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::runtime::Builder;
use tributary_backends::{
    log::{Append, Topic},
    tables::Permission,
    world::SystemWorld,
};
use tributary_ingest_api::keys;
use tributary_schemas::{
    frame::{Stamp, encode_record},
    identity::Identity,
    record,
};

const WORKSPACES: usize = 10_000;
/// That are shown by name, and all the others together.
const SHOWN: usize = 33;
/// Of so many lanes one lands what it gets.
const WORKS: u32 = 16;
/// Requests on their way.
const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(300);

/// Series of a family that has neither partitions nor lanes nor workspaces, buckets of a histogram counted.
const FEW: usize = 300;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: UpArgs,
}

/// All that `up` runs, in this process.
struct Running {
    backends: Backends,
    _services: Services,
    api: SocketAddr,
    admin: SocketAddr,
}

impl Running {
    async fn start(data: &Path, lanes: u32) -> Self {
        let (data, lanes) = (data.display().to_string(), lanes.to_string());
        let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        // Nobody is refused, however many come and however far the lake is behind.
        let limits = ["--rate-limit", "0", "--max-lag", "0s", "--lanes", &lanes];
        let words = [&["up", "--data", &data][..], &free, &limits].concat();
        let UpArgs { api, lanes, process, backends } = Line::try_parse_from(words).expect("flags").args;
        let role = Role { api: Some(api), lanes: Some(lanes), drain: Duration::ZERO };
        let directory = Arc::new(state::lock(&backends.place.data).expect("a lock"));
        let listeners = Listeners::bind(&role, &process).await.expect("ports");
        let (api, admin) = listeners.addresses().expect("addresses");
        let backends = Backends::open(&backends, Some(directory)).await.expect("backends");
        let services = Services::start(role, listeners, &backends).expect("services");
        Self { backends, _services: services, api: api.expect("an API"), admin }
    }

    /// A key for each of the workspaces, whose names are as long as they can be.
    async fn keys(&self) -> Vec<String> {
        let key = async |n: usize| {
            let (workspace, source) = (name(n), format!("source-{n}"));
            let permissions = vec![Permission::Read, Permission::Write];
            let new = keys::NewKey { workspace, label: format!("label-{n}"), source, permissions, rate_limit: None };
            let (key, secret) = keys::mint(&SystemWorld, new);
            self.backends.state.tables.create_key(key, 10).await.expect("a key");
            secret
        };
        stream::iter(0..WORKSPACES).map(key).buffered(AT_ONCE).collect().await
    }

    /// Bytes that are no record, in every lane; and in all but a few what makes a lane halt, so that much waits, without
    /// thousands of tables being made.
    async fn spoil(&self) {
        let log = self.backends.state.lake_url.join("broken/records/_delta_log/").expect("a URL");
        let log = log.to_file_path().expect("a path");
        std::fs::create_dir_all(&log).expect("a directory");
        std::fs::write(log.join("00000000000000000000.json"), "no commit").expect("a file");
        let (key, value) = frame("broken");
        let put = |partition, key: &[u8], value: &[u8]| Append {
            topic: Topic::Records,
            partition,
            key: key.to_vec().into(),
            value: value.to_vec().into(),
        };
        let lanes = self.backends.lanes.partitions;
        let garbage = (0..lanes).map(|lane| put(lane, b"k", b"no record"));
        let halt = (lanes / WORKS..lanes).map(|lane| put(lane, &key, &value));
        let all = garbage.chain(halt).collect();
        self.backends.log.append(all).await.expect("appended");
    }

    async fn scrape(&self) -> Scrape {
        let begun = Instant::now();
        let answer = reqwest::get(format!("http://{}/metrics", self.admin)).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let text = answer.text().await.expect("text");
        Scrape { text, took: begun.elapsed() }
    }
}

fn name(n: usize) -> String {
    format!("w{n:063}")
}

/// Key and value of a message with a record of a workspace.
fn frame(workspace: &str) -> (Vec<u8>, Vec<u8>) {
    let json = json(0, 0);
    let record = record::parse(json.as_bytes()).expect("a record");
    let identity = Identity::of(&record);
    let (source, batch_id) = ("s", "b");
    let stamp = Stamp { workspace, source, batch_id, record_index: 0, received_at: 0, identity, lanes_in_batch: None };
    let mut value = Vec::new();
    encode_record(&stamp, &record, &mut value);
    (identity.0.to_vec(), value)
}

/// Sends, again and again, a record of each workspace; of each tenth one that is bad as well, and asks for what is not there.
async fn send(api: SocketAddr, keys: Vec<String>) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let base = format!("http://{api}/api/v1/ingest");
    for round in 0.. {
        let post = |(n, key): (usize, &String)| {
            let more = n % 10 == 0;
            let bad = if more { r#",{"_type":"message"}"# } else { "" };
            let sent = client.post(&base).header("x-api-key", key).header("content-type", "application/json");
            let sent = sent.body(format!("[{}{bad}]", json(n, round))).send();
            let asked = client.get(format!("{base}/batches/none-{n}")).header("x-api-key", key);
            async move {
                // On a machine that is busy a backend or the connection may be late; it is sent again in the next round.
                let Ok(answer) = sent.await else { return };
                let status = answer.status().as_u16();
                assert!([202, 503].contains(&status), "{status}");
                if let (true, Ok(answer)) = (more, asked.send().await) {
                    let status = answer.status().as_u16();
                    assert!([404, 503].contains(&status), "{status}");
                }
            }
        };
        stream::iter(keys.iter().enumerate()).map(post).buffer_unordered(AT_ONCE).for_each(async |()| {}).await;
    }
}

fn json(n: usize, round: u64) -> String {
    format!(
        r#"{{"_type":"message","_schema_version":"1.0.0","_event_at":"2024-01-02T03:04:05Z","_vendor_ids":{{"id":"{n}"}},"_product_id":"p","_project_id":"q","data":{{"round":{round}}}}}"#
    )
}

struct Scrape {
    text: String,
    took: Duration,
}

impl Scrape {
    /// Samples with their labels, by the names that they begin with.
    fn samples(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for line in self.text.lines().filter(|line| !line.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            all.entry(name).or_default().push(labels);
        }
        all
    }

    fn shown(&self, family: &str) -> usize {
        self.samples().get(family).map_or(0, Vec::len)
    }

    fn value(&self, series: &str) -> f64 {
        let value = self.text.lines().find_map(|line| line.strip_prefix(series));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    }

    /// Every key has sent, and more workspaces than can be shown wait, and land.
    fn knows_all(&self) -> bool {
        self.value(r#"tributary_ingest_records_total{result="accepted"}"#) >= WORKSPACES as f64
            && self.value(r#"tributary_ingest_records_total{result="rejected"}"#) > 0.0
            && self.value(r#"tributary_dead_letters_total{topic="records"}"#) > 0.0
            && self.value(r#"tributary_lag_workspace_throughput{workspace="(others)"}"#) > 0.0
            && self.value(r#"tributary_lag_workspace_records{workspace="(others)"}"#) > 0.0
            && self.shown("tributary_lag_workspace_records") == SHOWN
            && self.shown("tributary_lag_workspace_throughput") == SHOWN
            && self.shown("tributary_ingest_workspace_rejected_throughput") == SHOWN
    }
}

/// No family has a series for each workspace or key, whatever has been done with them.
fn assert_bounded(scrape: &Scrape, lanes: usize, partitions: usize) {
    let samples = scrape.samples();
    for (family, labels) in &samples {
        let has = |label: &str| labels.iter().any(|labels| labels.contains(&format!("{label}=\"")));
        let most = match () {
            () if has("workspace") => SHOWN,
            () if has("partition") => partitions,
            () if has("lane") => lanes,
            () => FEW,
        };
        assert!(labels.len() <= most, "{family} has {} series", labels.len());
        let distinct: BTreeSet<_> = labels.iter().collect();
        assert_eq!(distinct.len(), labels.len(), "{family} has some twice");
        assert!(!["key", "source", "label"].iter().any(|label| has(label)), "{family}: {labels:?}");
        let quotes = labels.iter().any(|labels| labels.contains(&name(0)[..40]) || labels.contains("none-"));
        assert!(!quotes || family.contains("_workspace_"), "{family} tells of senders: {labels:?}");
    }
    let of_workspaces = samples.keys().filter(|family| family.contains("workspace")).count();
    assert_eq!(of_workspaces, 5);
}

/// Says how large a scrape is and how long it takes; the time is compared with nothing, for much else goes on here.
async fn scraped(directory: &Path, lanes: u32) {
    let up = Running::start(directory, lanes).await;
    up.spoil().await;
    let sending = tokio::spawn(send(up.api, up.keys().await));
    let begun = Instant::now();
    let mut scrape = up.scrape().await;
    while !scrape.knows_all() {
        assert!(!sending.is_finished(), "{:?}", sending.await);
        assert!(begun.elapsed() < PATIENCE, "{}", scrape.text);
        tokio::time::sleep(Duration::from_millis(500)).await;
        scrape = up.scrape().await;
    }
    let after = begun.elapsed();
    sending.abort();
    let log = &up.backends.log;
    let read = [Topic::Records, Topic::Rejects, Topic::Attachments, Topic::BatchEvents];
    let partitions: u32 = read.into_iter().map(|topic| log.partitions(topic)).sum();
    assert_bounded(&scrape, lanes as usize, partitions as usize);
    let bytes = scrape.text.len();
    assert!(bytes < 5_000_000, "{bytes} bytes");

    let mut took = Vec::new();
    for _ in 0..11 {
        took.push(up.scrape().await.took);
    }
    took.sort();
    let (least, middle) = (took[0], took[5]);
    println!(
        "{lanes} lanes: {bytes} bytes, {least:?} at least, {middle:?} in the middle; all was known after {after:?}"
    );
}

/// What still lands in the end is left alone, as when the process is killed.
fn ten_thousand_workspaces_in(lanes: u32) {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(scraped(directory.path(), lanes));
    runtime.shutdown_timeout(Duration::from_secs(10));
}

#[test]
fn a_scrape_is_bounded_however_many_workspaces_and_keys_there_are() {
    ten_thousand_workspaces_in(64);
}

#[test]
#[ignore = "thousands of lanes in one process take minutes to get under way"]
fn so_is_one_of_as_many_lanes_as_there_can_be() {
    ten_thousand_workspaces_in(2_500);
}
