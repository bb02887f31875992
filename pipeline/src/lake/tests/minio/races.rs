//! Writers that want the same version.

use super::{acme, fresh_url, lake_at, txn};
use crate::lake::{LakeError, object_path};
use futures::future::join_all;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_racing_commits_exactly_one_wins() {
    let url = fresh_url();
    acme(&lake_at(&url, &[])).await;
    for round in 1..=10i64 {
        // Each a client of its own, as eight processes would be.
        let tables = join_all((0..8).map(async |_| acme(&lake_at(&url, &[])).await)).await;
        let racers = tables.into_iter().zip(0i64..).map(|(mut table, racer)| {
            tokio::spawn(async move { (racer, table.commit(txn(round * 100 + racer)).await) })
        });
        let answers: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, answer)| answer.is_ok());
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        assert!(lost.iter().all(|(_, answer)| matches!(answer, Err(LakeError::Conflict(_)))), "{lost:?}");
        let table = acme(&lake_at(&url, &[])).await;
        assert_eq!(table.version(), round.cast_unsigned());
        assert_eq!(table.txn("lane-0"), Some(round * 100 + won[0].0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_that_make_one_table_all_get_the_same() {
    let url = fresh_url();
    let tables = join_all((0..8).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { acme(&lake_at(&url, &[])).await })
    }));
    let tables: Vec<_> = tables.await.into_iter().map(Result::unwrap).collect();
    assert!(tables.iter().all(|table| table.version() == 0));
    let objects = tables[0].store.list(&object_path(&url).unwrap()).await.unwrap();
    assert_eq!(objects.len(), 1, "one first commit, and no probes: {objects:?}");
}
