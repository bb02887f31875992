//! The server dies and comes back while commits are under way.

use super::{acme, server::Server};
use crate::lake::{
    LakeError, Table, TableCommit,
    tests::{
        live,
        rows::{self, Row},
    },
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::watch;

const COMMITS: i64 = 60;

/// Lands the row `n` as a lane would: what is in is not done again, whatever the answers were.
async fn land(table: &mut Table, n: i64, troubles: &mut u32) {
    while table.txn("lane-0").unwrap_or(0) < n {
        let row = Row { number: n.cast_unsigned(), version: n, day: 0 };
        let landed = async {
            let written = table.write(0, &rows::batch(&[row])).await?;
            let txns = BTreeMap::from([("lane-0".to_owned(), n)]);
            table.commit(TableCommit { adds: written.files, txns, ..TableCommit::default() }).await
        };
        match landed.await {
            Ok(_) => return,
            Err(LakeError::Unavailable(_) | LakeError::Conflict(_)) => *troubles += 1,
            Err(other) => panic!("{other}"),
        }
        while let Err(error) = table.refresh().await {
            assert!(matches!(error, LakeError::Unavailable(_)), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_among_commits_loses_and_doubles_nothing() {
    let server = Arc::new(tokio::task::spawn_blocking(Server::start).await.unwrap());
    let mut table = acme(&server.lake(1)).await;
    let (progress, mut seen) = watch::channel(0);
    let writer = tokio::spawn(async move {
        let mut troubles = 0;
        for n in 1..=COMMITS {
            land(&mut table, n, &mut troubles).await;
            progress.send_replace(n);
        }
        troubles
    });
    let mut random = StdRng::seed_from_u64(11);
    for kill in 1..=3 {
        seen.wait_for(|n| *n >= kill * COMMITS / 5).await.unwrap();
        // Anywhere in what the writer does next.
        tokio::time::sleep(Duration::from_micros(random.random_range(0..8_000))).await;
        let server = server.clone();
        let again =
            move || (server.script("kill"), std::thread::sleep(Duration::from_millis(300)), server.script("start"));
        tokio::task::spawn_blocking(again).await.unwrap();
    }
    let troubles = tokio::time::timeout(Duration::from_secs(120), writer).await.expect("it goes on").unwrap();
    let table = acme(&server.lake(2)).await;
    assert_eq!((table.version(), table.txn("lane-0")), (COMMITS.cast_unsigned(), Some(COMMITS)), "{troubles} troubles");
    assert_eq!(live(&table, 0, None).await, (1..=COMMITS).map(|n| (n.cast_unsigned(), n)).collect());
    assert!(table.missing_or_resized().await.unwrap().is_empty());
    drop(table);
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}
