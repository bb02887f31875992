//! The dashboard: every query of it gives something on a system in which everything has happened.

use super::prometheus::{Prometheus, docker};
use crate::{
    harness::Home,
    model::{MESSAGES, record},
};
use serde_json::Value;
use std::time::{Duration, Instant};

/// What Grafana does with the lengths that it knows.
fn filled_in(expression: &str) -> String {
    expression.replace("$__rate_interval", "10s")
}

/// All queries below a value, each with the title of its panel.
fn queries(below: &Value, title: &str, found: &mut Vec<(String, String)>) {
    let title = below["title"].as_str().unwrap_or(title);
    match below {
        Value::Object(members) => {
            if let Some(expression) = members.get("expr").and_then(Value::as_str) {
                found.push((title.to_owned(), filled_in(expression)));
            }
            members.values().for_each(|value| queries(value, title, found));
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, title, found)),
        _ => {}
    }
}

/// Nothing to be shown of it is as it should be: lanes are not behind, nothing is read from files, nothing fires.
const MAY_BE_EMPTY: [&str; 3] = ["tributary_lag_workspace_records", "tributary_certificate_", "ALERTS{"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn every_query_of_the_dashboard_gives_something() {
    let dashboard: Value = serde_json::from_str(&docker("grafana/dashboard.json")).expect("JSON");
    let mut all = Vec::new();
    queries(&dashboard, "", &mut all);
    assert!(all.len() > 30, "{all:?}");
    let (mut home, prometheus) = (Home::new(), Prometheus::start().await);
    let up = home.start();
    prometheus.watch(&[up.admin]).await;

    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        up.http.land(format!("{}\n{{\"_type\":", record("good", 1_600_000_000, "{}"))).await;
        up.http.land(MESSAGES).await;
        let mut empty = Vec::new();
        for (title, expression) in &all {
            let samples = prometheus.query(expression).await;
            let is_number = |sample: &Value| super::prometheus::value(sample).is_some_and(|value| !value.is_nan());
            if !samples.iter().any(is_number) && !MAY_BE_EMPTY.iter().any(|metric| expression.contains(metric)) {
                empty.push((title, expression));
            }
        }
        if empty.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "these show nothing: {empty:#?}");
    }
    // Those that may show nothing name what there is.
    let text = reqwest::get(format!("http://{}/metrics", up.admin)).await.expect("metrics").text().await.expect("text");
    for (title, expression) in &all {
        for metric in MAY_BE_EMPTY[..2].iter().filter(|metric| expression.contains(**metric)) {
            assert!(text.contains(&format!("# TYPE {metric}")), "{title}: there is no {metric}");
        }
    }
}
