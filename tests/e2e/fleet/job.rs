//! The whole job on a cluster, for minutes of faults: see `tests/cluster_job.sh`.

use super::{
    Fleet,
    process::Process,
    proxy::{Net, Proxy, WELL},
};
use crate::{
    harness::{Http, Server, Servers, finish, read_table, tributary},
    kills::setting,
    model::{Table, read, with_data},
};
use flate2::read::MultiGzDecoder;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How often one of the senders begins a file.
const FILE_EVERY: Duration = Duration::from_secs(5);
/// How long it may take at most until all of a file is in the lake.
const DELIVERED_WITHIN: Duration = Duration::from_secs(180);
/// Kinds of faults, which all come in a job of this length.
const KINDS: usize = 6;
const LONG: Duration = Duration::from_secs(300);
/// One record in so many is changed for the second time.
const CHANGE_EVERY: usize = 20;

/// All lines of the compressed files in the directory.
fn lines() -> Vec<String> {
    let directory = std::env::var("TRIBUTARY_JOB_DATA").expect("TRIBUTARY_JOB_DATA: a directory with .ndjson.gz files");
    let entries = std::fs::read_dir(directory).expect("the directory").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "gz")).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let mut text = String::new();
        let file = std::fs::File::open(file).expect("the file");
        MultiGzDecoder::new(file).read_to_string(&mut text).expect("text");
        all.extend(text.lines().map(str::to_owned));
    }
    all
}

/// Sends the lines with `tributary send`, in files, at a steady pace, to each API in turn, and waits until every batch that
/// was acknowledged is `COMPLETE`.
async fn send_all(place: &Path, (serves, key): (&[String], &str), lines: &[String], within: Duration) {
    let files = (within.as_secs() / FILE_EVERY.as_secs()).max(1) as usize * serves.len();
    let begun = Instant::now();
    let senders = lines.chunks(lines.len().div_ceil(files)).enumerate().map(|(n, slice)| async move {
        let turn = u32::try_from(n / serves.len()).expect("few");
        sleep_until(begun + FILE_EVERY * turn).await;
        let file = place.join(format!("{n}.ndjson"));
        std::fs::write(&file, slice.join("\n")).expect("written");
        deliver(place, &file, &serves[n % serves.len()], key).await;
        std::fs::remove_file(&file).expect("removed");
    });
    futures::future::join_all(senders).await;
}

async fn deliver(place: &Path, file: &Path, url: &str, key: &str) {
    let [url, key] = [["--url", url], ["--key", key]].map(|pair| pair.map(OsStr::new));
    let words = [&[OsStr::new("send"), file.as_os_str(), "--wait".as_ref()][..], &url, &key].concat();
    let given_up = Instant::now() + DELIVERED_WITHIN;
    loop {
        let ran = tributary(place, &words).await;
        if ran.code == 0 {
            return;
        }
        // One that has given up goes on where it was, with the batches that it knows to be acknowledged.
        assert!(Instant::now() < given_up, "not delivered: {} {}", ran.out, ran.err);
        sleep(Duration::from_secs(1)).await;
    }
}

/// Everything that can fail.
struct World {
    processes: Vec<Process>,
    backends: [Server; 3],
    /// Between each of the backends and the processes that are behind them: an API and a pipeline.
    networks: [Proxy; 3],
    done: BTreeMap<&'static str, usize>,
}

impl World {
    /// One fault after the other until told to stop; then all is well. Of ten, each kind has its share.
    async fn fail(&mut self, fleet: &mut Fleet, random: &mut StdRng, stop: &CancellationToken) {
        let mut coming = Vec::new();
        while !stop.is_cancelled() {
            tokio::select! {
                () = sleep(Duration::from_millis(random.random_range(1_000..6_000))) => {}
                () = stop.cancelled() => return,
            }
            if coming.is_empty() {
                coming.extend(0..10);
                coming.shuffle(random);
            }
            let name = match coming.pop().unwrap_or_default() {
                0..4 => self.kill_a_process(fleet, random).await,
                4..6 => self.pause_a_process(random).await,
                6 => self.fail_a_backend(random).await,
                7 => self.pause_a_backend(random).await,
                8 => self.cut_a_network(random).await,
                _ => lose_the_index(fleet).await,
            };
            *self.done.entry(name).or_default() += 1;
        }
    }

    async fn kill_a_process(&mut self, fleet: &mut Fleet, random: &mut StdRng) -> &'static str {
        let victim = random.random_range(0..self.processes.len());
        let process = &mut self.processes[victim];
        process.kill();
        *process = fleet.again(process).await;
        "a process killed"
    }

    async fn pause_a_process(&mut self, random: &mut StdRng) -> &'static str {
        let process = &self.processes[random.random_range(0..self.processes.len())];
        process.signal("-STOP");
        sleep(Duration::from_millis(random.random_range(1_000..8_000))).await;
        process.signal("-CONT");
        "a process paused"
    }

    async fn fail_a_backend(&mut self, random: &mut StdRng) -> &'static str {
        let server = &mut self.backends[random.random_range(0..3)];
        server.kill().await;
        server.again().await;
        "a backend killed"
    }

    async fn pause_a_backend(&mut self, random: &mut StdRng) -> &'static str {
        let server = &mut self.backends[random.random_range(0..3)];
        server.pause();
        sleep(Duration::from_millis(random.random_range(500..12_000))).await;
        server.resume();
        "a backend paused"
    }

    async fn cut_a_network(&mut self, random: &mut StdRng) -> &'static str {
        let proxy = &self.networks[random.random_range(0..3)];
        proxy.set([Net::Late(Duration::from_millis(100)), Net::Hole, Net::Cut][random.random_range(0..3)]);
        sleep(Duration::from_millis(random.random_range(500..15_000))).await;
        proxy.set(WELL);
        "a network cut"
    }
}

async fn lose_the_index(fleet: &Fleet) -> &'static str {
    fleet.servers.drop_index();
    finish(fleet.command("lake rebuild-index")).await.ok();
    "the index lost"
}

/// Three backends, 2 × `serve`, 3 × `pipeline`, of each of which the last one has its backends behind proxies.
async fn build() -> (Fleet, World) {
    let kafka_address = tokio::sync::watch::Sender::new(String::new());
    let to_kafka = Proxy::new(kafka_address.subscribe()).await;
    let backends = tokio::join!(
        Server::start("kafka", vec![("KAFKA_PROXY", to_kafka.address.to_string())]),
        Server::start("cassandra", vec![]),
        Server::start("minio", vec![])
    );
    let backends: [Server; 3] = backends.into();
    kafka_address.send_replace(backends[0].says("TRIBUTARY_TEST_KAFKA_BEHIND_PROXY").to_owned());
    let endpoint = backends[2].says("AWS_ENDPOINT_URL").to_owned();
    let to_tables = Proxy::to(backends[1].says("TRIBUTARY_TEST_CQL")).await;
    let to_store = Proxy::to(endpoint.trim_start_matches("http://")).await;
    let said = |name: &str| backends.iter().find_map(|server| server.heard(name)).expect("said by one of them");
    let servers =
        Servers::of(&said).with("AWS_ENDPOINT_URL", endpoint).with("TRIBUTARY_LANDING_DEADLINE", "60s".to_owned());
    let behind = vec![
        ("TRIBUTARY_KAFKA", to_kafka.address.to_string()),
        ("TRIBUTARY_SCYLLA", to_tables.address.to_string()),
        ("AWS_ENDPOINT_URL", format!("http://{}", to_store.address)),
    ];
    let mut fleet = Fleet::on(servers).await;
    let mut processes = vec![fleet.serve().await, fleet.start("serve", "127.0.0.1:0", behind.clone()).await];
    processes.extend([fleet.pipeline().await, fleet.pipeline().await]);
    processes.push(fleet.start("pipeline", "", behind).await);
    let networks = [to_kafka, to_tables, to_store];
    (fleet, World { processes, backends, networks, done: BTreeMap::new() })
}

/// Waits until no batch is landing; how many there are of each status.
pub async fn ended(http: &Http) -> BTreeMap<String, usize> {
    let (mut found, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = http.get(&format!("/batches?limit=100{cursor}")).await.json;
        for batch in page["batches"].as_array().expect("batches") {
            let (id, mut status) = (batch["batchId"].as_str().expect("batchId"), batch["status"].clone());
            // One whose process died before its records were in the log fails when its time is over.
            while status == "LANDING" {
                status = http.get(&format!("/batches/{id}?wait=COMPLETE&timeout=30")).await.json["status"].clone();
            }
            *found.entry(status.as_str().expect("a status").to_owned()).or_default() += 1;
        }
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: tests/cluster_job.sh runs it"]
async fn the_whole_job_under_faults() {
    let within = Duration::from_secs(setting("TRIBUTARY_JOB_SECONDS", 600));
    let mut random = StdRng::seed_from_u64(setting("TRIBUTARY_KILL_SEED", 1));
    let first = lines();
    let mut second = first.clone();
    for line in second.iter_mut().skip(7).step_by(CHANGE_EVERY) {
        *line = with_data(line, &format!("{{\"changed\":1.0,\"was\":{}}}", read(line).1));
    }
    let (mut fleet, mut world) = build().await;
    let serves: Vec<String> =
        world.processes[..2].iter().map(|serve| format!("http://{}", serve.listen.expect("an API"))).collect();
    let servers = fleet.clients(&world.processes[..2]);
    let stop = CancellationToken::new();
    let begun = Instant::now();
    let (place, key) = (fleet.directory.path().to_owned(), fleet.key.clone());
    let sending = async {
        for lines in [&first, &second] {
            send_all(&place, (&serves, &key), lines, within / 2).await;
        }
        stop.cancel();
    };
    tokio::join!(sending, world.fail(&mut fleet, &mut random, &stop));
    eprintln!("{} records sent twice in {:?} of {:?}", first.len(), begun.elapsed(), world.done);
    if within >= LONG {
        assert_eq!(world.done.len(), KINDS, "each kind of fault: {:?}", world.done);
        assert!(world.networks.iter().any(|network| network.harmed() > 0), "a network that fails meets somebody");
    }
    let settling = Instant::now();
    let batches = ended(&servers[0]).await;
    eprintln!("{:?} later all batches have ended: {batches:?}", settling.elapsed());
    read_table(&fleet.scan()).assert_is(&Table::of(&second.join("\n")));
    let check = finish(fleet.command("lake check")).await.ok();
    eprintln!("{}", check.out);
    fleet.logs_are_short();
}
