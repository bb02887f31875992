//! Connections that end too early, and a store that is slow: trouble that passes is never taken for damage.

use super::{acme, assert_unavailable, harmed, proxy::Harm, txn};
use crate::lake::tests::{
    land, live,
    rows::{self, Row},
};
use hyper::Method;
use std::time::Duration;

fn some_rows() -> Vec<Row> {
    (0..200).map(|n| Row { number: n, version: n as i64, day: (n % 3) as i32 }).collect()
}

#[tokio::test]
async fn an_upload_that_is_cut_is_sent_again() {
    let (proxy, straight, through) = harmed().await;
    let mut table = acme(&through).await;
    proxy.harm(Method::PUT, ".parquet", Harm::CutUpload, 3);
    land(&mut table, &some_rows()).await;
    let read = acme(&straight).await;
    assert_eq!(live(&read, 0, None).await.len(), 200);
    assert_eq!(read.unreferenced().await.unwrap(), []);
}

#[tokio::test]
async fn an_upload_that_is_always_cut_leaves_no_half_file() {
    let (proxy, straight, through) = harmed().await;
    let table = acme(&through).await;
    proxy.harm(Method::PUT, ".parquet", Harm::CutUpload, 1_000);
    assert_unavailable(table.write(0, &rows::batch(&some_rows())).await.map(drop), ".parquet");
    assert_eq!(acme(&straight).await.unreferenced().await.unwrap(), []);
}

#[tokio::test]
async fn a_commit_that_is_cut_is_no_commit() {
    let (proxy, straight, through) = harmed().await;
    let mut table = acme(&through).await;
    proxy.harm(Method::PUT, "_delta_log", Harm::CutUpload, 100);
    assert_unavailable(table.commit(txn(7)).await, "_delta_log");
    assert_eq!(acme(&straight).await.version(), 0);
    proxy.heal();
    proxy.harm(Method::PUT, "_delta_log", Harm::CutUpload, 1);
    assert_eq!(table.commit(txn(7)).await.unwrap(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_now_is_not_corrupt() {
    let (proxy, straight, through) = harmed().await;
    let mut table = acme(&straight).await;
    for version in 0..3 {
        let rows: Vec<_> = some_rows().iter().map(|row| Row { number: row.number + 1_000 * version, ..*row }).collect();
        land(&mut table, &rows).await;
    }
    table.checkpoint().await.unwrap();
    table.commit(txn(7)).await.unwrap();
    let reader = acme(&through).await;
    let parts = ["_last_checkpoint", ".checkpoint.parquet", "00000000000000000004.json", "list-type=2"];
    for harm in [Harm::Answer(503, "SlowDown"), Harm::CutDownload] {
        for part in parts {
            // Of the headers of an answer there is no half, and a hint that is away is passed over.
            proxy.harm(Method::GET, part, harm, 1_000);
            match through.existing("acme").await {
                Err(error) => assert_unavailable(Err::<(), _>(error), ""),
                Ok(opened) => assert_eq!(opened.unwrap().txn("lane-0"), Some(7), "{part} {harm:?}"),
            }
            proxy.heal();
        }
        proxy.harm(Method::GET, ".parquet", harm, 1_000);
        assert_unavailable(reader.keys_since(0, None, &mut |_| ()).await, ".parquet");
        proxy.heal();
    }
    assert_eq!(live(&reader, 0, None).await.len(), 600);
}

#[tokio::test]
async fn a_slow_store_is_only_slow() {
    let (proxy, straight, through) = harmed().await;
    let mut table = acme(&through).await;
    for method in [Method::PUT, Method::GET, Method::HEAD] {
        proxy.harm(method, "", Harm::Delay(Duration::from_millis(150)), 1_000);
    }
    for version in 0..3 {
        land(&mut table, &[Row { number: version, version: 1, day: 0 }]).await;
    }
    assert_eq!(live(&acme(&straight).await, 0, None).await.len(), 3);
}
