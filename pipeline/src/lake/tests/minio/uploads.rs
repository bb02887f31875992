//! Files that take more than one request.

use super::{acme, assert_unavailable, harmed, proxy::Harm};
use crate::lake::{
    LakeError, Table, TableCommit,
    tests::{
        live,
        rows::{self, Row},
    },
    upload::PART_BYTES,
};
use arrow::{array::StringArray, record_batch::RecordBatch};
use hyper::Method;
use object_store::{ObjectStoreExt, path::Path};
use rand::{RngExt, SeedableRng, distr::Alphanumeric, rngs::StdRng};
use std::{io::Write, sync::Arc};

/// Rows that fill two pieces and a bit.
fn bulky() -> RecordBatch {
    let rows: Vec<_> = (0..6_000).map(|n| Row { number: n * 5, version: n as i64, day: 0 }).collect();
    let batch = rows::batch(&rows);
    let mut random = StdRng::seed_from_u64(1);
    let data: StringArray = rows
        .iter()
        .map(|_| Some((&mut random).sample_iter(Alphanumeric).take(4_000).map(char::from).collect::<String>()))
        .collect();
    let mut columns = batch.columns().to_vec();
    columns[batch.schema().index_of("data").unwrap()] = Arc::new(data);
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// Data files of the table, as anybody sees them.
async fn data_files(table: &Table) -> Vec<String> {
    let objects = table.store.list(&table.root).await.unwrap().into_iter();
    objects.map(|object| object.location.to_string()).filter(|path| path.ends_with(".parquet")).collect()
}

#[tokio::test]
async fn a_large_file_goes_in_pieces_and_survives_what_a_store_does() {
    let (proxy, straight, through) = harmed().await;
    let mut table = acme(&through).await;
    proxy.harm(Method::PUT, "partNumber=1", Harm::Answer(500, "InternalError"), 1);
    proxy.harm(Method::PUT, "partNumber=2", Harm::CutUpload, 1);
    // Completed, but the client does not hear of it: the next try finds no upload any more.
    proxy.harm(Method::POST, "uploadId=", Harm::DropAnswer, 1);
    let written = table.write(0, &bulky()).await.unwrap();
    assert!(written.files[0].0.live.size > 2 * PART_BYTES as u64, "{} bytes", written.files[0].0.live.size);
    assert_eq!(proxy.count(&Method::POST, "uploads"), 1, "one multipart upload");
    assert!(proxy.count(&Method::PUT, "partNumber=3") == 1);
    table.commit(TableCommit { adds: written.files, ..TableCommit::default() }).await.unwrap();
    let read = acme(&straight).await;
    assert_eq!(live(&read, 0, None).await.len(), 6_000);
    assert!(read.missing_or_resized().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_large_file_that_fails_leaves_nothing() {
    let (proxy, straight, through) = harmed().await;
    let table = acme(&through).await;
    proxy.harm(Method::PUT, "partNumber=2", Harm::Answer(503, "SlowDown"), 100);
    assert_unavailable(table.write(0, &bulky()).await.map(drop), "SlowDown");
    assert_eq!(data_files(&acme(&straight).await).await, Vec::<String>::new());
    assert_eq!(proxy.count(&Method::DELETE, "uploadId="), 1, "the upload is aborted");
    proxy.heal();
    table.write(0, &bulky()).await.unwrap();
    assert_eq!(data_files(&table).await.len(), 1);
}

#[tokio::test]
async fn a_file_is_no_object_before_it_is_whole() {
    let (proxy, _, through) = harmed().await;
    let table = acme(&through).await;
    let path = table.root.clone().join("large.bin");
    let (mut files, jobs) = table.store.uploads.start();
    let (pieces, mut written) = tokio::sync::mpsc::channel(1);
    let (go, wait) = std::sync::mpsc::channel();
    let whole = path.clone();
    let writer = tokio::task::spawn_blocking(move || {
        let mut file = files.file(whole);
        for piece in 0..4u8 {
            file.write_all(&vec![piece; PART_BYTES]).unwrap();
            pieces.blocking_send(()).unwrap();
            wait.recv().unwrap();
        }
        file.finish().unwrap()
    });
    let look = async {
        while written.recv().await.is_some() {
            assert!(table.store.head(&path).await.unwrap().is_none(), "half a file is visible");
            go.send(()).unwrap();
        }
    };
    let (size, uploaded, ()) = tokio::join!(writer, jobs.run(), look);
    uploaded.unwrap();
    assert!(proxy.count(&Method::PUT, "partNumber=") >= 4);
    assert_eq!(table.store.head(&path).await.unwrap().map(|found| found.size), Some(size.unwrap()));
}

#[tokio::test]
async fn a_file_whose_writer_gives_up_is_aborted() {
    let (proxy, straight, through) = harmed().await;
    let table = acme(&through).await;
    let path = table.root.clone().join("given-up.bin");
    let (mut files, jobs) = table.store.uploads.start();
    let writer = tokio::task::spawn_blocking(move || {
        let mut file = files.file(path);
        file.write_all(&vec![1; 2 * PART_BYTES]).unwrap();
    });
    let (written, uploaded) = tokio::join!(writer, jobs.run());
    written.unwrap();
    assert_unavailable(uploaded, "given-up.bin");
    assert_eq!(proxy.count(&Method::DELETE, "uploadId="), 1);
    let objects = straight.store.list(&table.root).await.unwrap();
    assert!(objects.iter().all(|object| !object.location.as_ref().contains("given-up")));
}

#[tokio::test]
async fn what_was_written_is_what_is_read() {
    let (_, straight, _) = harmed().await;
    let table = acme(&straight).await;
    for size in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES] {
        let path = table.root.clone().join(format!("{size}.bin"));
        let bytes: Vec<u8> = (0..size).map(|place| (place / 1_000) as u8).collect();
        assert_eq!(upload(&table, path.clone(), bytes.clone()).await.unwrap(), size as u64);
        let read = table.store.objects().get(&path).await.unwrap().bytes().await.unwrap();
        assert!(read == bytes, "{size} bytes differ");
    }
}

async fn upload(table: &Table, path: Path, bytes: Vec<u8>) -> Result<u64, LakeError> {
    let (mut files, jobs) = table.store.uploads.start();
    let written = tokio::task::spawn_blocking(move || {
        let mut file = files.file(path);
        // Not in step with the pieces.
        bytes.chunks(700_001).for_each(|bytes| file.write_all(bytes).unwrap());
        file.finish()
    });
    let (size, uploaded) = tokio::join!(written, jobs.run());
    uploaded?;
    size.unwrap()
}
