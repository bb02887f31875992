//! The faults of one machine.

use super::Prometheus;
use crate::{
    harness::{Home, SmallDisk, Up, may_mount},
    model::{MESSAGES, record},
};
use bytes::Bytes;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    log::{Append, Topic, embedded},
    world::SystemWorld,
};
use tributary_schemas::identity::Lanes;

/// Keeps doing something until the token is cancelled.
async fn until(done: CancellationToken, what: impl Future<Output = ()>) {
    tokio::select! {
        () = done.cancelled() => {}
        () = what => unreachable!("it goes on for ever"),
    }
}

/// Fires these while something goes on, and no others than these and those named.
async fn fires(prometheus: &Prometheus, wanted: &[&str], also: &[&str], meanwhile: impl Future<Output = ()>) {
    let done = CancellationToken::new();
    let watching = async {
        let fired = prometheus.until_fired(wanted).await;
        done.cancel();
        fired
    };
    let (fired, ()) = tokio::join!(watching, until(done.clone(), meanwhile));
    let strange: Vec<_> =
        fired.iter().filter(|name| !wanted.contains(&name.as_str()) && !also.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?} fired as well");
}

async fn started(home: &mut Home) -> (Up, Prometheus) {
    started_under(home, Prometheus::start().await).await
}

async fn started_under(home: &mut Home, prometheus: Prometheus) -> (Up, Prometheus) {
    let up = home.start();
    up.http.land(MESSAGES).await;
    prometheus.watch(&[up.admin]).await;
    (up, prometheus)
}

/// A home whose lake is on this disk, running.
async fn started_on(disk: &SmallDisk) -> (Home, Up, Prometheus) {
    let mut home = Home::new().flags(&["--lake", &disk.path().join("lake").display().to_string()]);
    let (up, prometheus) = started_under(&mut home, Prometheus::start().await.with_disk_of_lake()).await;
    (home, up, prometheus)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn a_process_that_is_killed() {
    let mut home = Home::new();
    let (mut up, prometheus) = started(&mut home).await;
    up.kill();
    fires(&prometheus, &["TributaryDown"], &[], std::future::pending()).await;
    let up = home.start();
    prometheus.watch(&[up.admin]).await;
}

/// The lane waits for room; what it waits with becomes late, and nothing else is said of it than that it stands still.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn a_lake_on_a_full_disk() {
    if !may_mount("alerts::faults::a_lake_on_a_full_disk") {
        return;
    }
    let disk = SmallDisk::new(64);
    let (_home, up, prometheus) = started_on(&disk).await;
    disk.leave(0);
    let id = up.http.ndjson(MESSAGES.replace("\"data\":{", "\"data\":{\"changed\":1,")).await.batch_id();
    let wanted = ["TributaryDiskLow", "TributaryLagGrowing", "TributaryRecordsLate", "TributaryStuck"];
    fires(&prometheus, &wanted, &["TributaryDiskFilling"], std::future::pending()).await;
    disk.make_room();
    up.http.complete(&id).await;
    prometheus.until_quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn a_disk_that_fills() {
    if !may_mount("alerts::faults::a_disk_that_fills") {
        return;
    }
    let disk = SmallDisk::new(256);
    disk.leave(100 << 20);
    let (_home, _up, prometheus) = started_on(&disk).await;
    // 10 MiB in the time that the alert wants to be sure: full in a quarter of an hour.
    fires(&prometheus, &["TributaryDiskFilling"], &[], async {
        for n in 0.. {
            fs::write(disk.path().join(format!("more-{n}")), vec![1; 100 << 10]).expect("there is room");
            sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn a_sender_that_has_changed_what_it_sends() {
    let mut home = Home::new();
    let (up, prometheus) = started(&mut home).await;
    let bad = "{\"_type\":\"message\"}\n".repeat(10);
    fires(&prometheus, &["TributaryRejectedJump"], &[], async {
        loop {
            up.http.ndjson(format!("{MESSAGES}\n{}", bad.repeat(5))).await;
            sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
}

/// The API dies between the batch and its records.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn batches_that_never_land() {
    let mut home = Home::new().flags(&["--landing-deadline", "3s"]);
    let mut doomed = home.try_start(&[("TRIBUTARY_CRASH_AT", "accept.after_batch_row")]).expect("it starts");
    let _ = doomed.http.try_post("application/x-ndjson", MESSAGES.into(), None).await;
    doomed.ended().await;
    let (_up, prometheus) = started(&mut home).await;
    fires(&prometheus, &["TributaryStuckBatches"], &[], std::future::pending()).await;
}

/// Bytes that are no record, in the log of a system that does not run.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn bytes_in_the_log_that_are_no_record() {
    let mut home = Home::new();
    let up = home.start();
    up.http.land(MESSAGES).await;
    assert!(up.terminate().await.0.success());
    let options = embedded::Options { lanes: Lanes { partitions: 4, spread: 1 }, ..Default::default() };
    let log = embedded::open(&home.data().join("log"), options, Arc::new(SystemWorld)).expect("the log");
    let garbage = Bytes::from_static(b"no record");
    let message = Append { topic: Topic::Records, partition: 1, key: garbage.clone(), value: garbage };
    log.append(vec![message]).await.expect("appended");
    drop(log);
    let (_up, prometheus) = started(&mut home).await;
    fires(&prometheus, &["TributaryDeadLetters"], &[], std::future::pending()).await;
    let data = home.data().display().to_string();
    home.run(&["dead-letters", "discard", "--reason", "no record", "--data", &data, "--by", "tests", "--every"])
        .await
        .ok();
    prometheus.until_quiet().await;
}

/// The newest entry of a table's log.
fn newest(log: &Path) -> (u64, PathBuf) {
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let paths = fs::read_dir(log).expect("the table's log").map(|entry| entry.expect("an entry").path());
    let entries = paths.filter(|path| path.extension().is_some_and(|end| end == "json"));
    entries.filter_map(|path| Some((number(&path)?, path))).max().expect("an entry")
}

/// Another program commits to the lane's table all the time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn two_writers_of_one_table() {
    let mut home = Home::new();
    let (up, prometheus) = started(&mut home).await;
    let log = home.data().join("lake/default/records/_delta_log");
    fires(&prometheus, &["TributaryCommitConflicts"], &[], async {
        for n in 0.. {
            let next = log.join(format!("{:020}.json", newest(&log).0 + 1));
            fs::write(next, "{\"commitInfo\":{\"timestamp\":0,\"operation\":\"WRITE\"}}\n").expect("written");
            up.http.land(record(&format!("r{n}"), 1_600_000_000, "{}")).await;
        }
    })
    .await;
    prometheus.until_quiet().await;
}

/// An entry of a table's log is cut off while nothing runs; its lane finds out when something comes for that table.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn a_damaged_table() {
    let mut home = Home::new();
    let data = home.data().display().to_string();
    let up = home.start();
    let create = "keys create --workspace other --label tests --source tests --json --permission api:write \
                  --permission api:read --data";
    let words: Vec<_> = create.split_whitespace().chain([data.as_str()]).collect();
    let key = home.run(&words).await.ok().json()["key"].as_str().expect("a key").to_owned();
    crate::harness::Http::new(up.listen, &key).land(MESSAGES).await;
    assert!(up.terminate().await.0.success());
    let (_, victim) = newest(&home.data().join("lake/other/records/_delta_log"));
    let whole = fs::read(&victim).expect("the entry");
    fs::write(&victim, &whole[..whole.len() / 2]).expect("written");

    let (up, prometheus) = started(&mut home).await;
    let other = crate::harness::Http::new(up.listen, &key);
    let id = other.ndjson(MESSAGES).await.batch_id();
    let also = ["TributaryRecordsLate", "TributaryLagGrowing"];
    fires(&prometheus, &["TributaryHalted"], &also, std::future::pending()).await;
    drop(up);
    fs::write(&victim, whole).expect("written");
    let up = home.start();
    crate::harness::Http::new(up.listen, &key).complete(&id).await;
    prometheus.watch(&[up.admin]).await;
}

/// Sends all but the end of a body, and then a little now and then.
async fn slow_sender(up: &Up, key: &str) {
    const LENGTH: usize = 5_242_000;
    let mut connection = TcpStream::connect(up.listen).await.expect("a connection");
    let head = format!(
        "POST /api/v1/ingest HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\ncontent-type: application/x-ndjson\r\n\
         content-length: {LENGTH}\r\n\r\n"
    );
    let body = vec![b' '; LENGTH - 100_000];
    let sent = async {
        connection.write_all(head.as_bytes()).await?;
        connection.write_all(&body).await?;
        loop {
            sleep(Duration::from_secs(1)).await;
            connection.write_all(&[b' '; 2_048]).await?;
        }
    };
    // It is sent away after a while.
    let _ended: std::io::Result<()> = sent.await;
}

/// They fill the memory for bodies, so that others get 503.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: tests/alerts.sh --fire"]
async fn too_many_slow_senders() {
    let mut home = Home::new();
    let (up, prometheus) = started(&mut home).await;
    let key = home.key().to_owned();
    let senders = (0..19).map(|_| async {
        loop {
            slow_sender(&up, &key).await;
        }
    });
    let large = record("large", 1_600_000_000, &format!("{{\"text\":\"{}\"}}", "x".repeat(4 << 20)));
    let refused = async {
        loop {
            let _ = up.http.try_post("application/x-ndjson", large.clone().into_bytes(), None).await;
            sleep(Duration::from_millis(200)).await;
        }
    };
    let meanwhile = async {
        tokio::join!(futures::future::join_all(senders), refused);
    };
    fires(&prometheus, &["TributaryMemoryBudget", "TributaryApiErrors"], &[], meanwhile).await;
    prometheus.until_quiet().await;
}
