//! Writing, committing, overwriting, reading back.

use super::{Home, land, live, rows::Row};
use crate::lake::{LakeError, TableCommit};
use std::collections::BTreeMap;

fn row(number: u64, version: i64, day: i32) -> Row {
    Row { number, version, day }
}

#[tokio::test]
async fn what_is_committed_is_there_and_nothing_before() {
    let home = Home::new();
    let mut table = home.table().await;
    let rows: Vec<_> = (0..100).map(|n| row(n, n as i64, (n % 7) as i32)).collect();
    let written = table.write(0, &super::rows::batch(&rows)).await.unwrap();
    assert_eq!(home.table().await.files().len(), 0, "nothing is visible before the commit");
    assert_eq!(table.unreferenced().await.unwrap().len(), written.files.len());

    let txns = BTreeMap::from([("lane-0".to_owned(), 100)]);
    let commit = TableCommit { adds: written.files, txns, ..TableCommit::default() };
    assert_eq!(table.commit(commit).await.unwrap(), 1);

    for table in [table, home.table().await] {
        assert_eq!((table.version(), table.txn("lane-0")), (1, Some(100)));
        assert_eq!(live(&table, 0, None).await, rows.iter().map(|r| (r.number, r.version)).collect());
        assert_eq!(live(&table, 1, None).await, BTreeMap::new(), "another lane's rows");
        assert_eq!(table.unreferenced().await.unwrap(), []);
        assert!(table.missing_or_resized().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn each_row_is_where_write_says() {
    let home = Home::new();
    let mut table = home.table().await;
    // Neither days nor times of day in order.
    let rows: Vec<_> = (0..500).map(|n| row(n * 7_919 % 500, n as i64, (n * 31 % 11) as i32 - 5)).collect();
    let places = land(&mut table, &rows).await;
    let mut found = BTreeMap::new();
    let each = &mut |keys: &[crate::lake::KeyRow]| {
        for key in keys {
            found.insert((key.location.file, key.location.row), key.location.version);
        }
    };
    table.keys_since(0, None, each).await.unwrap();
    assert_eq!(found, places.into_iter().zip(rows.iter().map(|r| r.version)).collect());
}

#[tokio::test]
async fn an_overwritten_row_is_gone_and_its_file_with_its_last_row() {
    let home = Home::new();
    let mut table = home.table().await;
    let old = land(&mut table, &[row(1, 1, 0), row(2, 2, 0), row(3, 3, 0)]).await;
    for (version, gone) in [(4, 0), (5, 1)] {
        let written = table.write(0, &super::rows::batch(&[row(gone as u64 + 1, version, 0)])).await.unwrap();
        let deletes = BTreeMap::from([(old[gone].0, vec![old[gone].1])]);
        table.commit(TableCommit { adds: written.files, deletes, ..TableCommit::default() }).await.unwrap();
    }
    let expected = BTreeMap::from([(1, 4), (2, 5), (3, 3)]);
    assert_eq!(live(&table, 0, None).await, expected);
    assert_eq!(table.file(&old[0].0).map(|file| (file.rows, file.deleted)), Some((3, 2)));

    let deletes = BTreeMap::from([(old[2].0, vec![old[2].1])]);
    table.commit(TableCommit { deletes, ..TableCommit::default() }).await.unwrap();
    for table in [table, home.table().await] {
        assert_eq!(table.file(&old[0].0), None, "a file without live rows is not live");
        assert_eq!(live(&table, 0, None).await, BTreeMap::from([(1, 4), (2, 5)]));
    }
}

#[tokio::test]
async fn of_two_commits_on_one_version_one_wins() {
    let home = Home::new();
    let (mut one, mut two) = (home.table().await, home.table().await);
    land(&mut one, &[row(1, 1, 0)]).await;
    let txns = BTreeMap::from([("lane-1".to_owned(), 9)]);
    let lost = two.commit(TableCommit { txns: txns.clone(), ..TableCommit::default() }).await;
    assert!(matches!(lost, Err(LakeError::Conflict(_))), "{lost:?}");
    assert_eq!((two.version(), two.txn("lane-1")), (0, None), "the loser stays where it was");
    two.refresh().await.unwrap();
    assert_eq!(two.files(), one.files());
    assert_eq!(two.commit(TableCommit { txns, ..TableCommit::default() }).await.unwrap(), 2);
}

#[tokio::test]
async fn deleting_what_is_not_there_is_refused() {
    let home = Home::new();
    let mut table = home.table().await;
    let places = land(&mut table, &[row(1, 1, 0)]).await;
    let deletes = |id, row| TableCommit { deletes: BTreeMap::from([(id, vec![row])]), ..TableCommit::default() };
    let unknown = table.commit(deletes(uuid::Uuid::nil(), 0)).await;
    assert!(matches!(unknown, Err(LakeError::Conflict(_))), "{unknown:?}");
    let past = table.commit(deletes(places[0].0, 1)).await;
    assert!(matches!(past, Err(LakeError::Halted(_))), "{past:?}");
    assert_eq!(home.table().await.version(), 1);
}

#[tokio::test]
async fn keys_since_a_version_are_those_of_new_files_only() {
    let home = Home::new();
    let mut table = home.table().await;
    let first = land(&mut table, &[row(1, 1, 0), row(2, 2, 0)]).await;
    let seen = table.version();
    let written = table.write(0, &super::rows::batch(&[row(1, 3, 0)])).await.unwrap();
    let deletes = BTreeMap::from([(first[0].0, vec![first[0].1])]);
    table.commit(TableCommit { adds: written.files, deletes, ..TableCommit::default() }).await.unwrap();
    assert_eq!(live(&table, 0, Some(seen)).await, BTreeMap::from([(1, 3)]), "a file with a new vector is not new");
    assert_eq!(live(&table, 0, Some(table.version())).await, BTreeMap::new());

    home.remove(&super::log_entry(2)).await;
    let all = BTreeMap::from([(1, 3), (2, 2)]);
    assert_eq!(live(&table, 0, Some(seen)).await, all, "a log that was cut gives everything");
}

#[tokio::test]
async fn a_workspace_is_a_plain_name() {
    let home = Home::new();
    for name in ["", ".", "..", "a/b", "a b", &"x".repeat(65)] {
        let refused = home.lake.existing(name).await;
        assert!(matches!(refused, Err(LakeError::Halted(_))), "{name}");
    }
    assert!(home.lake.existing("acme").await.unwrap().is_none());
    home.table().await;
    assert_eq!(home.lake.workspaces().await.unwrap(), ["acme"]);
}
