//! A real Prometheus with the rules of `docker/prometheus`, for which time runs ten times as fast.

use crate::harness::Server;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// For an alert to fire, or to end.
const PATIENCE: Duration = Duration::from_secs(240);

/// The server and what it scrapes.
pub struct Prometheus {
    server: Server,
    directory: tempfile::TempDir,
    client: reqwest::Client,
    /// What the tests run on may be nearly full, which is none of their business.
    disk: &'static str,
}

/// A file of `docker`.
pub fn docker(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rules with all their durations a tenth as long, and the oldest record's objective with them.
fn hurried(rules: &str) -> String {
    let mut rules = rules.replace("expr: vector(60)", "expr: vector(6)");
    for before in ["for: ", "[", "offset "] {
        let mut parts = rules.split(before);
        let first = parts.next().unwrap_or_default().to_owned();
        rules = parts.fold(first, |text, part| text + before + &shortened(part));
    }
    rules
}

/// A text with the duration at its beginning, if there is one, a tenth as long.
fn shortened(text: &str) -> String {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(0);
    let (Ok(number), unit) = (text[..digits].parse::<u64>(), text[digits..].chars().next()) else {
        return text.to_owned();
    };
    let seconds = match unit {
        Some('s') => number,
        Some('m') => number * 60,
        Some('h') => number * 3_600,
        Some('d') => number * 86_400,
        _ => return text.to_owned(),
    };
    format!("{}ms{}", seconds * 100, &text[digits + 1..])
}

impl Prometheus {
    /// Starts it with nothing to scrape.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| -> String {
            let path: PathBuf = directory.path().join(name);
            fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let settings = vec![
            ("PROMETHEUS_RULES", file("rules.yaml", &hurried(&docker("prometheus/rules.yaml")))),
            ("PROMETHEUS_TARGETS", file("targets.json", "[]")),
        ];
        let server = Server::start("prometheus", settings).await;
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { server, directory, client, disk: "none" }
    }

    /// Alerts of the lake's disk count, which is one of the test's own.
    pub fn with_disk_of_lake(mut self) -> Self {
        self.disk = "lake";
        self
    }

    /// Scrapes these from now on, and waits until it has.
    pub async fn scrape(&self, admins: &[SocketAddr]) {
        let targets: Vec<_> = admins.iter().map(ToString::to_string).collect();
        let targets = serde_json::json!([{ "targets": targets }]).to_string();
        // Never half a file.
        let new = self.directory.path().join("new.json");
        fs::write(&new, targets).expect("written");
        fs::rename(&new, self.directory.path().join("targets.json")).expect("in its place");
        let begun = Instant::now();
        while self.query("sum(up)").await.first().and_then(value) != Some(admins.len() as f64) {
            if begun.elapsed() > PATIENCE {
                panic!("it does not scrape them: {:#}", self.ask("targets").await["data"]["activeTargets"]);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The same, and waits until no alert fires.
    pub async fn watch(&self, admins: &[SocketAddr]) {
        self.scrape(admins).await;
        self.until_quiet().await;
    }

    /// What a query gives now.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let answer = self.ask(&format!("query?query={}", encoded(expression))).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        match answer["data"]["result"].clone() {
            Value::Array(all) => all,
            other => panic!("{expression} gives {other}"),
        }
    }

    async fn ask(&self, path: &str) -> Value {
        let url = format!("{}/api/v1/{path}", self.server.says("TRIBUTARY_TEST_PROMETHEUS"));
        self.client.get(url).send().await.expect("an answer").json().await.expect("JSON")
    }

    /// Names and states of the alerts, but those of disks that are not the test's.
    async fn alerts(&self) -> BTreeSet<(String, String)> {
        let answer = self.ask("alerts").await;
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let all = answer["data"]["alerts"].as_array().expect("alerts").iter();
        let ours = all.filter(|alert| alert["labels"]["place"].as_str().is_none_or(|place| place == self.disk));
        ours.map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["state"]))).collect()
    }

    /// Those that fire.
    pub async fn firing(&self) -> BTreeSet<String> {
        let all = self.alerts().await.into_iter();
        all.filter(|(_, state)| state == "firing").map(|(name, _)| name).collect()
    }

    /// Waits until each of these has fired, together or one after the other, and says which others have.
    pub async fn until_fired(&self, names: &[&str]) -> BTreeSet<String> {
        let (begun, mut fired) = (Instant::now(), BTreeSet::new());
        while !names.iter().all(|name| fired.contains(*name)) {
            for name in self.firing().await {
                if !fired.contains(&name) {
                    eprintln!("{name} fires after {:.1?}", begun.elapsed());
                    fired.insert(name);
                }
            }
            assert!(begun.elapsed() < PATIENCE, "{names:?} wanted: {:?}", self.alerts().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        fired
    }

    /// Waits until none fires.
    pub async fn until_quiet(&self) {
        let begun = Instant::now();
        loop {
            let firing = self.firing().await;
            if firing.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{firing:?} go on firing");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The value of a sample.
pub fn value(sample: &Value) -> Option<f64> {
    sample["value"][1].as_str()?.parse().ok()
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[test]
fn durations_and_nothing_else_are_shortened() {
    let rules = "expr: vector(60)\nfor: 1m\nincrease(a[15m]) > 30 and avg_over_time(b:rate5m[1d] offset 15m) for: more";
    let wanted = "expr: vector(6)\nfor: 6000ms\nincrease(a[90000ms]) > 30 and avg_over_time(b:rate5m[8640000ms] offset \
                  90000ms) for: more";
    assert_eq!(hurried(rules), wanted);
}
