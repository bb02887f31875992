//! Flow control from end to end: a pipeline that stands still shuts the door and opens it again, and a flood waits for
//! itself alone.

use super::{
    Fleet,
    proxy::{Net, Proxy},
};
use crate::{
    harness::{Answer, Http, Servers, finish, read_table},
    model::{Table, record},
};
use std::time::{Duration, Instant};
use tokio::{sync::watch, task::JoinSet, time::timeout};

/// Of everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// The `429` of a lane that is behind, with its wait in body and header.
#[track_caller]
fn assert_behind(answer: &Answer) {
    assert_eq!((answer.status, &answer.json["error"]), (429, &"PIPELINE_BEHIND".into()), "{answer:?}");
    let wait = answer.retry_after.expect("a header");
    assert!((1..=60).contains(&wait) && answer.json["retryAfter"] == wait, "{answer:?}");
}

/// A paused pipeline: what is sent meanwhile is refused once it would wait too long, and goes in when it has caught up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_stands_still_is_429_until_it_has_caught_up() {
    let mut fleet = Fleet::new().await;
    let serve = fleet.start("serve", "127.0.0.1:0", vec![("TRIBUTARY_MAX_LAG", "4s".to_owned())]).await;
    let pipeline = fleet.pipeline().await;
    let http = fleet.clients([&serve]).remove(0);
    let (mut table, mut batches) = (Table::default(), Vec::new());
    let mut sent = 0..;
    let mut send = async |until: u16| {
        let begun = Instant::now();
        loop {
            let line = record(&sent.next().expect("endless").to_string(), 1_600_000_000, "{}");
            let answer = http.ndjson(line.as_str()).await;
            if answer.status == 202 {
                table.take(&line);
                batches.push(answer.batch_id());
            } else {
                assert_behind(&answer);
            }
            if answer.status == until {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let first = send(202).await;
    http.complete(&first.batch_id()).await;
    pipeline.signal("-STOP");
    let behind = send(429).await;
    let message = behind.json["message"].as_str().expect("a message");
    assert!(message.contains("nothing of this request was kept"), "{message}");
    assert_eq!(http.get("/batches").await.status, 200, "reading goes on");
    pipeline.signal("-CONT");
    send(202).await;
    for id in &batches {
        http.complete(id).await;
    }
    read_table(&fleet.scan()).assert_is(&table);
}

/// So many bodies of 1,000 records that the lane cannot keep up; told what they were answered.
async fn flood(http: Http, refused: watch::Sender<Vec<String>>) {
    for batch in 0.. {
        let text = "x".repeat(300);
        let lines =
            (0..1_000).map(|n| record(&format!("{batch}-{n}"), 1_600_000_000, &format!("{{\"t\":\"{text}\"}}")));
        let answer = http.ndjson(lines.collect::<Vec<_>>().join("\n")).await;
        if answer.status != 202 {
            assert_behind(&answer);
            let message = answer.json["message"].as_str().expect("a message").to_owned();
            refused.send_modify(|all| all.push(message));
            // Sooner than it was told to.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A little of another workspace, all the time, so that there is somebody to be slowed.
async fn trickle(http: Http) {
    for n in 0.. {
        let _ = http.ndjson(record(&format!("trickle-{n}"), 1_600_000_000, "{}")).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// One lane, a slow store behind it, and two workspaces: one that floods is told that it sends more than its part, and the
/// batches of the other are taken at once and land meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_waits_and_the_others_go_on() {
    let max_lag = Duration::from_secs(20);
    let store = Proxy::to(std::env::var("AWS_ENDPOINT_URL").expect("set").trim_start_matches("http://")).await;
    let mut fleet = Fleet::spread(Servers::new().with("TRIBUTARY_LANES", "1".to_owned()), 1).await;
    let serve =
        fleet.start("serve", "127.0.0.1:0", vec![("TRIBUTARY_MAX_LAG", format!("{}s", max_lag.as_secs()))]).await;
    let behind = vec![
        ("AWS_ENDPOINT_URL", format!("http://{}", store.address)),
        // Small chunks.
        ("TRIBUTARY_LANE_MEMORY", "7".to_owned()),
    ];
    let _pipeline = fleet.start("pipeline", "", behind).await;
    let created = finish(fleet.command(
        "keys create --workspace small --label tests --source tests --json --permission api:read --permission api:write",
    ))
    .await
    .ok()
    .json();
    let small = Http::new(serve.listen.expect("an API"), created["key"].as_str().expect("a key"));
    small.land(record("0", 1_600_000_000, "{}")).await;
    let (refused, mut refusals) = watch::channel(Vec::new());
    let mut senders = JoinSet::new();
    senders.spawn(trickle(small.clone()));
    senders.spawn(flood(fleet.clients([&serve]).remove(0), refused));
    let more_than_its_part = |all: &Vec<String>| all.last().is_some_and(|last| last.contains("more than its part"));
    // The store gets slower until the lane does not keep up, and by no more than that, however quick this machine is.
    let mut late = Duration::from_millis(100);
    let before = loop {
        store.set(Net::Late(late));
        if let Ok(told) = timeout(max_lag / 2, refusals.wait_for(more_than_its_part)).await {
            break told.expect("it goes on").len();
        }
        late = late * 3 / 2;
        assert!(late < Duration::from_secs(5), "the flood is never refused");
    };
    let mut landed_in = Vec::new();
    for n in 1..=4 {
        let begun = Instant::now();
        let answer = small.ndjson(record(&n.to_string(), 1_600_000_000, "{}")).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        small.complete(&answer.batch_id()).await;
        landed_in.push(begun.elapsed());
    }
    assert!(landed_in.iter().all(|took| *took < max_lag), "{landed_in:?}");
    let refused = refusals.borrow().len() - before;
    eprintln!("{late:?} late: landed in {landed_in:.1?}, the flood was refused {refused} times meanwhile");
    assert!(refused > 0, "the flood did not go on");
    assert!(senders.try_join_next().is_none(), "a sender has ended");
}
