//! What `lag`, `/metrics` and Kafka's own tool say of a backlog that is known, and what then happens; and what `lag` says
//! where something is missing.

use super::{
    Fleet,
    process::Process,
    proxy::{Net, Proxy, WELL},
};
use crate::{
    harness::{Server, command, finish},
    lag::Watcher,
    model::record,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::time::{Duration, Instant, SystemTime};

/// Batches, each of 1,000 records of about 3 KB, which are many chunks of a lane, and the time between two.
const BATCHES: u32 = 40;
const BETWEEN: Duration = Duration::from_millis(250);
/// For each piece of 64 KiB that the pipeline fetches, so that draining takes a while, at a steady pace.
const NARROW: Net = Net::Late(Duration::from_millis(15));

/// How far off the time until the lane has drained may be.
const NEAR: f64 = 0.25;

impl Fleet {
    async fn lag(&self) -> Value {
        finish(self.command("lag --json")).await.ok().json()
    }

    /// The sum of the column LAG for the group `lanes`, of Kafka's own tool.
    async fn lag_by_kafka(&self) -> u64 {
        let group = format!("{}lanes", self.setting("TRIBUTARY_KAFKA_PREFIX"));
        let described =
            self.kafka_tool("consumer.group.ConsumerGroupCommand", &["--describe", "--group", &group]).await;
        let mut column = None;
        let mut sum = 0;
        for line in described.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match column {
                None => column = words.iter().position(|word| *word == "LAG"),
                Some(lag) => sum += words.get(lag).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0),
            }
        }
        assert!(column.is_some(), "no column LAG: {described}");
        sum
    }
}

/// Records and the seconds of the oldest one, of the lanes.
fn of_lanes(report: &Value) -> (u64, f64) {
    let all = report["partitions"].as_array().expect("partitions");
    let lanes = || all.iter().filter(|one| one["stage"] == "lake");
    let records = lanes().map(|one| one["records"].as_u64().expect("a number")).sum();
    (records, lanes().map(|one| one["seconds"].as_f64().expect("a number")).fold(0.0, f64::max))
}

/// When all lanes have drained, as far as it is known.
fn drains_in(report: &Value) -> Option<f64> {
    let all = report["partitions"].as_array().expect("partitions");
    let behind = all.iter().filter(|one| one["stage"] == "lake" && one["records"] != 0);
    behind.map(|one| one["drainSeconds"].as_f64()).try_fold(0.0, |most, one| Some(f64::max(most, one?)))
}

async fn scraped(process: &Process, name: &str, gather: fn(f64, f64) -> f64) -> f64 {
    let text = reqwest::get(format!("http://{}/metrics", process.admin)).await.expect("metrics");
    let text = text.text().await.expect("text");
    let lanes = text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains("stage=\"lake\""));
    lanes.map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a value")).fold(0.0, gather)
}

/// Seconds since the Unix epoch: the broker stamps messages, and is on this machine.
fn wall_clock() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "seconds are compared, so nothing else may run: tests/cluster.sh runs it by itself"]
async fn a_known_backlog_is_the_same_by_all_who_tell_of_it() {
    let to = tokio::sync::watch::Sender::new(String::new());
    let proxy = Proxy::new(to.subscribe()).await;
    let kafka = Server::start("kafka", vec![("KAFKA_PROXY", proxy.address.to_string())]).await;
    to.send_replace(kafka.says("TRIBUTARY_TEST_KAFKA_BEHIND_PROXY").to_owned());
    // In one lane: of several, each is told by itself, and those that end last gain speed when the others have ended.
    let mut fleet = Fleet::spread(kafka.among_others(), 1).await;
    let serve = fleet.serve().await;
    let behind = vec![("TRIBUTARY_KAFKA", proxy.address.to_string())];
    let pipeline = fleet.start("pipeline", "", behind).await;
    let http = fleet.clients([&serve]).remove(0);
    let mut random = StdRng::seed_from_u64(9);
    http.land(record("first", 1_600_000_000, "{}")).await;
    pipeline.signal("-STOP");
    let begun = wall_clock();
    let mut accepted = None;
    for batch in 0..BATCHES {
        let mut line = |n: u32| {
            let text: String = (0..180).map(|_| format!("{:016x}", random.random::<u64>())).collect();
            record(&format!("b{batch}-{n}"), 1_600_000_000, &format!("{{\"text\":\"{text}\"}}"))
        };
        let lines: Vec<String> = (0..1_000).map(&mut line).collect();
        assert_eq!(http.ndjson(lines.join("\n")).await.status, 202);
        accepted.get_or_insert_with(wall_clock);
        tokio::time::sleep(BETWEEN).await;
    }
    let accepted = accepted.expect("something was sent");
    let is_age = |seconds: f64, at: f64| {
        let (most, least) = (at - begun, at - accepted);
        assert!((least - 1.0..most + 1.0).contains(&seconds), "{seconds} s, really from {least} to {most}");
    };
    tokio::time::sleep(Duration::from_secs(5)).await;

    let report = fleet.lag().await;
    let (records, seconds) = of_lanes(&report);
    assert_eq!(records, u64::from(BATCHES) * 1_000);
    is_age(seconds, report["at"].as_f64().expect("a time") / 1_000.0);
    let scraped_at = wall_clock();
    is_age(scraped(&serve, "tributary_lag_seconds", f64::max).await, scraped_at);
    assert_eq!(scraped(&serve, "tributary_lag_records", |sum, one| sum + one).await, records as f64);
    assert_eq!(fleet.lag_by_kafka().await, records);
    assert_eq!(scraped(&serve, "tributary_lag_owned", f64::max).await, 0.0, "its note has expired");
    assert_eq!(scraped(&serve, "tributary_lag_drain_seconds", f64::max).await, f64::INFINITY);

    proxy.set(NARROW);
    pipeline.signal("-CONT");
    let begun = Instant::now();
    let mut said = Vec::new();
    let ended = loop {
        let report = fleet.lag().await;
        let at = report["at"].as_f64().expect("a time") / 1_000.0;
        let (records, _) = of_lanes(&report);
        if records == 0 {
            break at;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "{report:#}");
        said.extend(drains_in(&report).map(|seconds| (at, seconds, records)));
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let compared: Vec<_> = said.iter().map(|(at, said, left)| (*said, ended - at, *left)).collect();
    // In the middle: enough is known by then, and a commit more or less is not all there is.
    let middle = records / 4..records * 3 / 4;
    let judged: Vec<_> = compared.iter().filter(|(.., left)| middle.contains(left)).collect();
    assert!(!judged.is_empty(), "it drained too quickly to be seen: {compared:.1?}");
    let near = judged.iter().filter(|(said, really, _)| (said - really).abs() <= really * NEAR).count();
    // Not all of them: a machine that others use as well is now quicker and now slower.
    assert!(near * 4 >= judged.len() * 3, "{near} of {}; said, really, left: {compared:.1?}", judged.len());
}

/// Nobody listens there, somebody does who says nothing, and nothing was ever started there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_broker_is_said_to_be_within_five_seconds() {
    let fleet = Fleet::new().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("an address").to_string();
    for brokers in ["127.0.0.1:1", &silent] {
        let begun = Instant::now();
        let mut lag = fleet.command("lag");
        lag.env("TRIBUTARY_KAFKA", brokers);
        let failed = finish(lag).await;
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(failed.err.contains(brokers), "{failed:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {failed:?}", begun.elapsed());
    }
    let failed = finish(fleet.command("lag --kafka-prefix nothing-here-")).await;
    assert!(failed.code == 1 && failed.err.contains("nothing has been started there yet"), "{failed:?}");
    let directory = tempfile::tempdir().expect("a directory");
    let failed = finish(command(directory.path(), ["lag"])).await;
    assert!(failed.code == 1 && failed.err.contains("no data directory"), "{failed:?}");
}

/// The broker that is asked first answers, and those that have the partitions do not: who looks is told so in time, and who
/// watches sees it pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_stop_answering_are_said_not_to_within_five_seconds() {
    let to = tokio::sync::watch::Sender::new(String::new());
    let proxy = Proxy::new(to.subscribe()).await;
    let kafka = Server::start("kafka", vec![("KAFKA_PROXY", proxy.address.to_string())]).await;
    let first = kafka.says("TRIBUTARY_TEST_KAFKA_BEHIND_PROXY").to_owned();
    to.send_replace(first.clone());
    let mut fleet = Fleet::on(kafka.among_others()).await;
    let _pipeline = fleet.pipeline().await;
    let lag = |words: &str| {
        let mut lag = fleet.command(words);
        lag.env("TRIBUTARY_KAFKA", &first);
        lag
    };
    let mut watcher = Watcher::start(lag("lag --watch --json"), fleet.directory.path());
    for net in [Net::Hole, Net::Cut] {
        watcher.until_it_sees().await;
        proxy.set(net);
        let begun = Instant::now();
        let failed = finish(lag("lag")).await;
        assert!(failed.code == 1 && failed.err.contains(&first), "{net:?}: {failed:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{net:?}: {:?}: {failed:?}", begun.elapsed());
        watcher.until_it_says(&first).await;
        proxy.set(WELL);
    }
    watcher.until_it_sees().await;
}
