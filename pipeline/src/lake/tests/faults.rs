//! What a lake answers when its store fails or its objects are not what was written.

use super::{
    Home,
    faulty::{Fault, FaultyStore},
    land, live, log_entry,
    rows::{self, Row},
};
use crate::lake::{Lake, LakeError, Table, TableCommit, deletion, object_path, store::Store};
use object_store::local::LocalFileSystem;
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

fn row(number: u64) -> Row {
    Row { number, version: number as i64, day: 0 }
}

fn assert_corrupt<T>(answer: Result<T, LakeError>, part: &str) {
    match answer {
        Err(LakeError::Corrupt { path, .. }) => assert!(path.contains(part), "{path} does not name {part}"),
        Err(other) => panic!("{other:?}, not corrupt"),
        Ok(_) => panic!("{part} was passed over"),
    }
}

/// A lake on a store that fails when told to.
fn faulty(home: &Home) -> (Arc<FaultyStore>, Lake) {
    // Without waiting for the disk, which is not what these tests are about.
    let under = if home.lake.store.local { Arc::new(LocalFileSystem::new()) } else { home.objects() };
    let store = Arc::new(FaultyStore::over(under));
    let mut lake = home.lake.clone();
    lake.store = Store::over(store.clone(), false).unwrap();
    (store, lake)
}

#[tokio::test]
async fn a_corrupt_newest_commit_is_named() {
    let home = Home::new();
    let mut table = home.table().await;
    let mut behind = home.table().await;
    for number in 0..3 {
        land(&mut table, &[row(number)]).await;
    }
    let entry = log_entry(3);
    let sound = home.read(&entry).await;
    let damages: [&[u8]; 4] = [b"", b"\n", b"\xff\xfe garbage", &sound[..sound.len() - 30]];
    for damage in damages {
        home.write(&entry, damage).await;
        assert_corrupt(home.lake.existing("acme").await, "00000000000000000003.json");
        assert_corrupt(behind.refresh().await, "00000000000000000003.json");
        assert_eq!(behind.version(), 2, "the handle stands before the corrupt commit");
    }
    home.write(&entry, sound).await;
    home.flip(&entry, 500).await;
    assert_corrupt(home.lake.existing("acme").await, "00000000000000000003.json");
}

#[tokio::test]
async fn a_corrupt_checkpoint_or_hint_is_named() {
    let home = Home::new();
    let mut table = home.table().await;
    land(&mut table, &[row(1)]).await;
    table.checkpoint().await.unwrap();
    let hint = "_delta_log/_last_checkpoint";
    let sound = home.read(hint).await;
    for damage in [&b"garbage"[..], b"", b"{}"] {
        home.write(hint, damage).await;
        assert_corrupt(home.lake.existing("acme").await, "_last_checkpoint");
    }
    home.write(hint, sound).await;
    home.write("_delta_log/00000000000000000001.checkpoint.parquet", b"PAR1 garbage PAR1").await;
    assert_corrupt(home.lake.existing("acme").await, "checkpoint.parquet");
}

#[tokio::test]
async fn a_corrupt_or_missing_parquet_file_is_named() {
    let home = Home::new();
    let mut table = home.table().await;
    let places = land(&mut table, &[row(1), row(2)]).await;
    let file = table.file(&places[0].0).unwrap().clone();
    let path = &file.path;
    let sound = home.read(path).await;
    let read = async |table: &Table| table.keys_since(0, None, &mut |_| ()).await;
    let name = file.id.to_string();

    home.flip(path, sound.len() - 6).await;
    assert_corrupt(read(&table).await, &name);
    home.write(path, &sound[..sound.len() / 2]).await;
    assert_corrupt(read(&table).await, &name);
    assert_eq!(table.missing_or_resized().await.unwrap().len(), 1);
    home.remove(path).await;
    assert_corrupt(read(&table).await, &name);
    assert_eq!(table.missing_or_resized().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_corrupt_deletion_vector_is_named() {
    let home = Home::new();
    let mut table = home.table().await;
    let places = land(&mut table, &[row(1), row(2)]).await;
    let deletes = BTreeMap::from([(places[0].0, vec![places[0].1])]);
    table.commit(TableCommit { deletes, ..TableCommit::default() }).await.unwrap();
    let vector = table.state.files[&places[0].0].vector.clone().unwrap();
    let name = deletion::file_of(table.url(), &vector).unwrap().unwrap().filename().unwrap().to_owned();
    home.flip(&name, 20).await;
    assert_corrupt(table.keys_since(0, None, &mut |_| ()).await, &name);
}

#[tokio::test]
async fn a_full_store_commits_nothing_and_takes_it_later() {
    let home = Home::new();
    home.table().await;
    let (store, lake) = faulty(&home);
    let mut table = lake.table_of("acme", rows::schema).await.unwrap();
    let commit = || TableCommit { txns: BTreeMap::from([("lane-0".to_owned(), 7)]), ..TableCommit::default() };
    store.set(Fault::Full);
    match table.commit(commit()).await {
        Err(LakeError::Unavailable(reason)) => assert!(reason.contains("no space left"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(home.table().await.txn("lane-0"), None);
    store.set(Fault::None);
    table.commit(commit()).await.unwrap();
    assert_eq!(home.table().await.txn("lane-0"), Some(7));
}

#[tokio::test]
async fn a_lost_answer_is_no_lost_commit() {
    let home = Home::new();
    home.table().await;
    let (store, lake) = faulty(&home);
    let mut table = lake.table_of("acme", rows::schema).await.unwrap();
    store.set(Fault::AnswerLost);
    let txns = BTreeMap::from([("lane-0".to_owned(), 7)]);
    assert_eq!(table.commit(TableCommit { txns, ..TableCommit::default() }).await.unwrap(), 1);
    assert_eq!(home.table().await.txn("lane-0"), Some(7));
}

#[tokio::test]
async fn an_unclear_answer_is_a_conflict_that_txn_settles() {
    let home = Home::new();
    home.table().await;
    let (store, lake) = faulty(&home);
    let mut table = lake.table_of("acme", rows::schema).await.unwrap();
    store.set(Fault::AllAnswersLost);
    let txns = BTreeMap::from([("lane-0".to_owned(), 7)]);
    let unclear = table.commit(TableCommit { txns, ..TableCommit::default() }).await;
    assert!(matches!(unclear, Err(LakeError::Conflict(_))), "{unclear:?}");
    assert_eq!(table.txn("lane-0"), None);
    store.set(Fault::None);
    table.refresh().await.unwrap();
    assert_eq!((table.version(), table.txn("lane-0")), (1, Some(7)));
}

#[tokio::test]
async fn a_refused_put_without_a_winner_is_tried_again() {
    let home = Home::new();
    home.table().await;
    let (store, lake) = faulty(&home);
    let mut table = lake.table_of("acme", rows::schema).await.unwrap();
    let commit = || TableCommit { txns: BTreeMap::from([("lane-0".to_owned(), 7)]), ..TableCommit::default() };
    store.set(Fault::NobodyWins);
    let refused = table.commit(commit()).await;
    assert!(matches!(refused, Err(LakeError::Unavailable(_))), "{refused:?}");
    store.set(Fault::None);
    assert_eq!(table.commit(commit()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_store_that_creates_twice_is_refused() {
    let home = Home::new();
    let (store, lake) = faulty(&home);
    store.set(Fault::CreatesTwice);
    match lake.table_of("acme", rows::schema).await {
        Err(LakeError::Halted(reason)) => assert!(reason.contains("create-only"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(objects_of(&home).await, Vec::<String>::new(), "neither a table nor the probe");
    store.set(Fault::None);
    lake.prove().await.unwrap();
    assert_eq!(objects_of(&home).await, Vec::<String>::new(), "the probe is gone");
    store.set(Fault::CreatesTwice);
    lake.prove().await.expect("it is asked once");
}

async fn objects_of(home: &Home) -> Vec<String> {
    let root = object_path(&home.lake.url).unwrap();
    home.lake.store.list(&root).await.unwrap().into_iter().map(|object| object.location.to_string()).collect()
}

#[tokio::test]
async fn uploads_go_through_the_store_and_read_back() {
    let home = Home::new();
    home.table().await;
    let (_, lake) = faulty(&home);
    let mut table = lake.table_of("acme", rows::schema).await.unwrap();
    let rows: Vec<_> = (0..40).map(|number| Row { day: number as i32, ..row(number) }).collect();
    land(&mut table, &rows).await;
    assert_eq!(live(&home.table().await, 0, None).await.len(), 40);
}

#[tokio::test]
async fn a_table_of_5000_commits_opens_like_one_of_100() {
    let home = Home::new();
    home.table().await;
    let (store, lake) = faulty(&home);
    let mut table = lake.table_of("acme", rows::schema).await.unwrap();
    let mut reads = Vec::new();
    for (version, measured) in (1..=5_050).map(|version| (version, matches!(version, 150 | 5_050))) {
        let txns = BTreeMap::from([("lane-0".to_owned(), version)]);
        table.commit(TableCommit { txns, ..TableCommit::default() }).await.unwrap();
        if measured {
            store.gets.store(0, Ordering::Relaxed);
            let opened = lake.existing("acme").await.unwrap().unwrap();
            assert_eq!(opened.txn("lane-0"), Some(version));
            reads.push(store.gets.load(Ordering::Relaxed));
        }
    }
    assert!(reads[0] > 0 && reads[0] == reads[1], "objects read: {reads:?}");
}
