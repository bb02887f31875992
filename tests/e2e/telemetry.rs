//! docs/TELEMETRY.md is what a running system and the sources say, in both directions.

use crate::{
    harness::Home,
    model::{MESSAGES, record},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The cells of the rows of all tables below a heading, code quotes taken off the first.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let document = std::fs::read_to_string(root().join("docs/TELEMETRY.md")).expect("the document");
    let section = document.split("\n## ").find(|section| section.starts_with(heading)).expect("the section").to_owned();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(cells).collect()
}

fn code(cell: &str) -> String {
    cell.trim().trim_matches('`').to_owned()
}

/// Kind and labels of a metric.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

fn documented() -> Metrics {
    let metric = |row: Vec<String>| {
        let labels = row[2].split(',').filter_map(|part| part.trim().strip_prefix('`')?.split('`').next());
        // What stands behind a colon are values.
        let labels = if row[2].contains(':') { labels.take(1).collect::<Vec<_>>() } else { labels.collect() };
        (code(&row[0]), (row[1].clone(), labels.into_iter().map(str::to_owned).collect()))
    };
    rows("Metrics").into_iter().map(metric).collect()
}

/// What is on `/metrics`: names as in the samples, without the endings of a histogram's.
fn scraped(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a kind");
            let ending = if kind == "counter" { "_total" } else { "" };
            metrics.insert(format!("{name}{ending}"), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let ends = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
            let known = if metrics.contains_key(name) { name } else { ends.unwrap_or(name) };
            let labels = rest.rsplit_once('}').expect("labels").0.split(',').filter_map(|label| label.split_once('='));
            let labels = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
            metrics.get_mut(known).unwrap_or_else(|| panic!("{name} has no TYPE")).1.extend(labels);
        }
    }
    metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_a_running_system_are_those_of_the_document() {
    let mut home = Home::new();
    let up = home.start();
    up.http.land(MESSAGES).await;
    up.http.land(format!("{}\n{{\"_type\":", record("good", 1_600_000_000, "{}"))).await;
    let scrape = async || {
        let text = reqwest::get(format!("http://{}/metrics", up.admin)).await.expect("metrics");
        text.text().await.expect("text")
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    let text = loop {
        let text = scrape().await;
        let late =
            ["tributary_lag_throughput{", "tributary_lag_workspace_throughput{", "tributary_ingest_lag_seconds{"];
        if late.iter().all(|family| text.contains(family)) {
            break text;
        }
        assert!(Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(text.ends_with("# EOF\n"));
    let (said, found) = (documented(), scraped(&text));
    let names = |metrics: &Metrics| metrics.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&said), names(&found));
    for (name, (kind, labels)) in &found {
        let (said_kind, said_labels) = &said[name];
        assert_eq!(kind, said_kind, "{name}");
        // Of what is not there is no sample: of workspaces that wait, mostly, and of certificates.
        let may_be_empty = ["tributary_lag_workspace", "tributary_certificate"].iter().any(|it| name.starts_with(it));
        assert!(labels == said_labels || labels.is_empty(), "{name}: {labels:?}, documented {said_labels:?}");
        assert!(!labels.is_empty() || said_labels.is_empty() || may_be_empty, "{name}");
        let unit = ["_seconds", "_bytes", "_records", "_total"].iter().any(|unit| name.ends_with(unit));
        let bare = ["known", "open", "owned", "halted", "throughput", "refusing", "in_flight", "connections"];
        assert!(unit || bare.iter().any(|end| name.ends_with(end)), "{name} says no unit");
    }
}

/// Each event's message with `…` for what varies, and its levels.
fn events(sources: &Path, found: &mut BTreeMap<String, BTreeSet<String>>) {
    for entry in std::fs::read_dir(sources).expect("sources") {
        let path = entry.expect("an entry").path();
        let is_test = path.file_stem().is_some_and(|name| name.to_string_lossy().contains("tests"));
        match path.is_dir() {
            _ if is_test => {}
            true => events(&path, found),
            false => {
                let text = std::fs::read_to_string(&path).expect("a source");
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                for (at, _) in text.match_indices("tracing::") {
                    let event = &text[at + "tracing::".len()..];
                    let level = ["info!(", "warn!(", "error!("].into_iter().find(|level| event.starts_with(level));
                    let Some(level) = level else { continue };
                    let message = message(&event[level.len()..]);
                    found.entry(message).or_default().insert(level.trim_end_matches("!(").to_owned());
                }
            }
        }
    }
}

/// The longest string of a macro's arguments.
fn message(arguments: &str) -> String {
    let (mut depth, mut strings, mut current, mut escaped) = (1, Vec::new(), None::<String>, false);
    for letter in arguments.chars() {
        match (&mut current, letter) {
            (Some(string), letter) if escaped => {
                escaped = false;
                string.push(letter);
            }
            (Some(_), '\\') => escaped = true,
            (Some(_), '"') => strings.extend(current.take()),
            (Some(string), letter) => string.push(letter),
            (None, '"') => current = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            break;
        }
    }
    let longest = strings.into_iter().max_by_key(String::len).unwrap_or_default();
    // A line that goes on, and what is filled in.
    let joined = longest.split('\n').map(str::trim_start).collect::<String>();
    let mut parts = joined.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "…" + part.split_once('}').map_or("", |(_, rest)| rest))
}

#[test]
fn the_log_events_of_the_sources_are_those_of_the_document() {
    let mut found = BTreeMap::new();
    for part in ["schemas", "backends", "ingest-api", "pipeline", "tributary"] {
        events(&root().join(part).join("src"), &mut found);
    }
    let levels = |cell: &str| cell.split(',').map(|level| level.trim().to_owned()).collect();
    let said: BTreeMap<String, BTreeSet<String>> =
        rows("Log events").iter().map(|row| (code(&row[0]), levels(&row[1]))).collect();
    let missing: Vec<_> = found.iter().filter(|(message, _)| !said.contains_key(*message)).collect();
    assert!(missing.is_empty(), "not documented: {missing:#?}");
    let gone: Vec<_> = said.keys().filter(|message| !found.contains_key(*message)).collect();
    assert!(gone.is_empty(), "nobody says any more: {gone:#?}");
    assert_eq!(said, found);
    assert!(said.len() > 60, "{}", said.len());
}

#[test]
fn the_spans_of_the_sources_are_those_of_the_document() {
    let mut found = BTreeSet::new();
    for part in ["backends", "ingest-api", "pipeline", "tributary"] {
        spans(&root().join(part).join("src"), &mut found);
    }
    let said: BTreeSet<_> = rows("Spans").iter().map(|row| code(&row[0])).collect();
    assert_eq!(said, found);
}

/// The fields of each span that is exported.
pub fn exported_spans() -> BTreeMap<String, BTreeSet<String>> {
    let rows = rows("Spans").into_iter().filter(|row| row[1].contains("trace"));
    let fields = |cell: &str| cell.split(',').map(code).collect();
    rows.map(|row| (code(&row[0]), fields(&row[2]))).collect()
}

fn spans(sources: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(sources).expect("sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            spans(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source");
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        // Its first text is its name.
        let named = text.split("info_span!(").skip(1).filter_map(|rest| rest.split('"').nth(1));
        found.extend(named.map(str::to_owned));
    }
}
