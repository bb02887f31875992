//! Flow control of `up`: a lane that takes too long shuts the door and opens it again.

use crate::{
    harness::Home,
    model::{Table, record},
};
use std::time::{Duration, Instant};

/// Commits come seldom, so that each record waits for longer than it may: the door is shut until the commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_behind_is_429_until_it_has_caught_up() {
    let mut home = Home::new().flags(&["--max-lag", "500ms", "--commit-interval", "5s"]);
    let up = home.start();
    let (mut table, mut turns) = (Table::default(), Vec::new());
    let begun = Instant::now();
    // Open, shut, open again, and once more.
    while turns.len() < 5 {
        let line = record(&format!("{:?}", begun.elapsed()), 1_600_000_000, "{}");
        let answer = up.http.ndjson(line.as_str()).await;
        match answer.status {
            202 => table.take(&line),
            429 => {
                assert_eq!(answer.json["error"], "PIPELINE_BEHIND", "{answer:?}");
                let wait = answer.retry_after.expect("a header");
                assert!((1..=60).contains(&wait) && answer.json["retryAfter"] == wait, "{answer:?}");
            }
            _ => panic!("{answer:?}"),
        }
        if turns.last() != Some(&answer.status) {
            turns.push(answer.status);
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{turns:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(turns, [202, 429, 202, 429, 202]);
    up.until_landed().await;
    up.table().assert_is(&table);
}
