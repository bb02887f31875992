//! Commits whose answers do not say what happened.

use super::{acme, assert_unavailable, harmed, harmed_with, proxy::Harm, txn};
use crate::lake::{
    LakeError, TableCommit,
    tests::{
        live,
        rows::{self, Row},
    },
};
use hyper::Method;
use std::time::{Duration, Instant};

/// Path of the commit that every test here is about.
const FIRST: &str = "_delta_log/00000000000000000001.json";

#[tokio::test]
async fn a_commit_whose_answer_is_dropped_is_ours_all_the_same() {
    // The client asks again and is refused: there is its own commit.
    for harm in [Harm::DropAnswer, Harm::AnswerInstead(500, "InternalError"), Harm::AnswerInstead(503, "SlowDown")] {
        let (proxy, straight, through) = harmed().await;
        let mut table = acme(&through).await;
        let written = table.write(0, &rows::batch(&[Row { number: 1, version: 1, day: 0 }])).await.unwrap();
        proxy.harm(Method::PUT, FIRST, harm, 1);
        let commit = TableCommit { adds: written.files, ..txn(7) };
        assert_eq!(table.commit(commit).await.unwrap(), 1, "{harm:?}");
        assert!(proxy.count(&Method::PUT, FIRST) >= 2, "{harm:?}: the client has asked again");
        assert_eq!(table.txn("lane-0"), Some(7));
        let read = acme(&straight).await;
        assert_eq!((read.version(), live(&read, 0, None).await.len()), (1, 1));
        assert_eq!(table.commit(txn(8)).await.unwrap(), 2, "the handle goes on");
    }
}

#[tokio::test]
async fn a_commit_that_never_arrives_is_not_taken_for_anothers() {
    // 409: S3 says so of a put that runs into another operation, whatever becomes of that one.
    let (proxy, straight, through) = harmed().await;
    let mut table = acme(&through).await;
    for (status, code) in [(409, "ConditionalRequestConflict"), (500, "InternalError"), (503, "SlowDown")] {
        proxy.harm(Method::PUT, FIRST, Harm::Answer(status, code), 100);
        assert_unavailable(table.commit(txn(7)).await, code);
        assert_eq!(acme(&straight).await.version(), 0);
        proxy.heal();
    }
    assert_eq!(table.commit(txn(7)).await.unwrap(), 1);
}

#[tokio::test]
async fn anothers_commit_is_told_from_our_own() {
    for harm in [Harm::Answer(500, "InternalError"), Harm::Answer(409, "ConditionalRequestConflict")] {
        let (proxy, straight, through) = harmed().await;
        let (mut ours, mut theirs) = (acme(&through).await, acme(&straight).await);
        theirs.commit(txn(7)).await.unwrap();
        proxy.harm(Method::PUT, FIRST, harm, 1);
        // The very same change: only the commit's own id tells them apart.
        let lost = ours.commit(txn(7)).await;
        assert!(matches!(lost, Err(LakeError::Conflict(_))), "{harm:?}: {lost:?}");
        ours.refresh().await.unwrap();
        assert_eq!(ours.txn("lane-0"), Some(7));
    }
}

#[tokio::test]
async fn a_commit_that_cannot_be_read_back_is_a_conflict() {
    let (proxy, _, through) = harmed().await;
    let mut table = acme(&through).await;
    proxy.harm(Method::PUT, FIRST, Harm::DropAnswer, 1);
    proxy.harm(Method::GET, FIRST, Harm::Answer(403, "AccessDenied"), 1);
    let unclear = table.commit(txn(7)).await;
    assert!(matches!(unclear, Err(LakeError::Conflict(_))), "{unclear:?}");
    table.refresh().await.unwrap();
    assert_eq!(table.txn("lane-0"), Some(7), "txn settles it");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_in_time() {
    let (proxy, straight, through) = harmed_with(&[("AWS_TIMEOUT", "2 seconds")]).await;
    let mut table = acme(&through).await;
    proxy.harm(Method::PUT, FIRST, Harm::Swallow, 100);
    let started = Instant::now();
    assert_unavailable(table.commit(txn(7)).await, "_delta_log");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    proxy.heal();
    // Later than the client waits, and yet it happens: the next try meets it.
    proxy.harm(Method::PUT, FIRST, Harm::Delay(Duration::from_secs(3)), 1);
    let late = table.commit(txn(7)).await;
    assert_unavailable(late, "_delta_log");
    let arrived = async {
        while acme(&straight).await.version() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), arrived).await.unwrap();
    assert!(matches!(table.commit(txn(8)).await, Err(LakeError::Conflict(_))));
    table.refresh().await.unwrap();
    assert_eq!((table.version(), table.txn("lane-0")), (1, Some(7)));
}

#[tokio::test]
async fn a_table_whose_first_answer_is_lost_is_there() {
    for harm in [Harm::DropAnswer, Harm::AnswerInstead(500, "InternalError")] {
        let (proxy, straight, through) = harmed().await;
        proxy.harm(Method::PUT, "_delta_log/00000000000000000000.json", harm, 1);
        assert_eq!(acme(&through).await.version(), 0);
        assert_eq!(acme(&straight).await.version(), 0);
    }
}
