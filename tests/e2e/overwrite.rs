//! The same identity again: one row, the last version, at every moment.

use crate::{
    harness::{Home, Up, query},
    model::{MESSAGES, NOTES, TRANSCRIPTS, Table, record, with_data},
};

async fn outcomes(up: &Up) -> [u64; 3] {
    let count = async |outcome| up.metric("tributary_records_total", &format!("outcome=\"{outcome}\"")).await;
    [count("landed").await, count("overwritten").await, count("unchanged").await]
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_records_are_replaced_and_unchanged_ones_written_nowhere() {
    let mut home = Home::new();
    let up = home.start();
    let mut table = Table::default();
    for text in [MESSAGES, NOTES, TRANSCRIPTS] {
        up.http.land(text).await;
        table.take(text);
    }
    up.table().assert_is(&table);
    let before = up.files().data().await;
    assert_eq!(outcomes(&up).await, [420, 0, 0]);

    up.http.land(MESSAGES).await;
    assert_eq!(up.files().data().await, before, "nothing has changed, so nothing is written");
    assert_eq!(outcomes(&up).await, [420, 0, 400]);

    // One in twenty, with data that has every trap of JSON in it.
    let changed: Vec<String> = MESSAGES
        .lines()
        .enumerate()
        .map(|(n, line)| match n % 20 {
            7 => with_data(
                line,
                &format!("{{ \"v\" : 1.0, \"v\":1e400,\"s\":\"\\u00e9\\/\\ud83d\\ude00\", \"n\":{n} }}"),
            ),
            _ => line.to_owned(),
        })
        .collect();
    let changed = changed.join("\n");
    up.http.land(changed.as_str()).await;
    table.take(&changed);
    up.table().assert_is(&table);
    assert_eq!(outcomes(&up).await, [420, 20, 780]);
    let rows = query(&format!("SELECT count(*) FROM {}", up.scan()));
    assert_eq!(rows[0][0], 420);
    home.lake(&["check"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_a_sender_may_change_is_a_new_version_too() {
    let mut home = Home::new();
    let up = home.start();
    let one = record("r", 1_600_000_000, "{}");
    up.http.land(one.as_str()).await;
    let tagged = one.replacen('{', "{\"_tags\":[\"later\"],", 1);
    up.http.land(tagged).await;
    let rows = query(&format!("SELECT tags FROM {}", up.scan()));
    assert_eq!(rows, [[serde_json::json!(["later"])]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_identity_a_thousand_times_in_one_batch() {
    let mut home = Home::new();
    let up = home.start();
    let mut versions: Vec<String> = (0..1_000).map(|n| record("r", 1_600_000_000, &format!("{{\"v\":{n}}}"))).collect();
    up.http.land(versions.join("\n")).await;
    assert_eq!(outcomes(&up).await, [1, 999, 0]);
    up.table().assert_is(&Table::of(&versions.join("\n")));
    versions.reverse();
    up.http.land(versions.join("\n")).await;
    up.table().assert_is(&Table::of(&versions.join("\n")));
    home.lake(&["check"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_records_of_a_thousand_dates() {
    let mut home = Home::new();
    let up = home.start();
    let records: Vec<String> =
        (0..1_000).map(|n| record("r", 86_400 * (10_000 + n) + n, &format!("{{\"v\":{n}}}"))).collect();
    up.http.land(records.join("\n")).await;
    up.table().assert_is(&Table::of(&records.join("\n")));
    let rows = query(&format!("SELECT count(DISTINCT date) FROM {}", up.scan()));
    assert_eq!(rows[0][0], 1_000);
    assert_eq!(up.files().data().await.len(), 1, "dates with one record each share a file");
    // Every row of every file overwritten is the other half of the worst case.
    let again: Vec<String> = records.iter().map(|line| with_data(line, "{\"again\":true}")).collect();
    up.http.land(again.join("\n")).await;
    up.table().assert_is(&Table::of(&again.join("\n")));
    home.lake(&["check"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_on_date_opens_only_files_that_may_hold_it() {
    let mut home = Home::new();
    let up = home.start();
    for day in [10_000, 10_001, 10_002] {
        up.http.land(record("r", 86_400 * day, "{}")).await;
    }
    let plan = query(&format!("EXPLAIN ANALYZE SELECT max(data) FROM {} WHERE date = '1997-05-20'", up.scan()));
    let plan = plan[0][1].as_str().expect("a plan").to_owned();
    assert!(plan.contains("Scanning Files: 1/3"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_overwrite_each_others_record_at_once() {
    let mut home = Home::new();
    let up = home.start();
    let client = async |who: &str| {
        let mut last = String::new();
        for n in 0..60 {
            let record = record("r", 1_600_000_000, &format!("{{\"who\":\"{who}\",\"v\":{n}}}"));
            assert_eq!(up.http.ndjson(record.as_str()).await.status, 202);
            last = record;
        }
        last
    };
    let (a, b) = tokio::join!(client("a"), client("b"));
    up.until_landed().await;
    let table = up.table();
    assert!(table == Table::of(&a) || table == Table::of(&b), "one of the two last versions: {table:?}");
    let [landed, overwritten, unchanged] = outcomes(&up).await;
    assert_eq!((landed, overwritten + unchanged), (1, 119));
    home.lake(&["check"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_a_record_is_does_not_depend_on_how_it_is_written() {
    let mut home = Home::new();
    let up = home.start();
    let plain = r#"{"_type":"message","_schema_version":"1.0.0","_event_at":"2020-01-01T00:00:01Z","_vendor_ids":{"a":"1","b":"2"},"_product_id":"p","_project_id":"q","data":{"v":1}}"#;
    let other = r#"{"_type":"MeSSage","_schema_version":"1.0.0","_event_at":"2020-01-01T00:00:00.5Z","_vendor_ids":{"b":"2","\u0061":"1"},"_product_id":"p","_project_ids":["q"],"data":{"v":2}}"#;
    up.http.land(plain).await;
    up.http.land(other).await;
    up.table().assert_is(&Table::of(other));
}
