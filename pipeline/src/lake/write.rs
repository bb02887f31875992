//! Rows of a chunk → durable Parquet files that no commit refers to yet.

use super::{
    LakeError, LiveFile, WrittenFile, WrittenFiles,
    durable::UnsyncedFiles,
    encode::Encoder,
    partition,
    split::{self, Ordered, Run},
    state::Entry,
    stats,
    store::{self, Store},
};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use object_store::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;
use tributary_backends::world::World;
use url::Url;
use uuid::Uuid;

/// Encoded files that wait for their upload.
const UPLOADS_WAITING: usize = 4;

/// Where one chunk's files go.
pub(super) struct Target {
    pub(super) store: Store,
    pub(super) world: Arc<dyn World>,
    pub(super) url: Url,
    pub(super) root: Path,
    pub(super) lane: u32,
}

/// Where an encoded file goes.
enum Sink {
    Disk(UnsyncedFiles),
    Upload(mpsc::Sender<(Path, Bytes)>),
}

/// Orders, encodes and stores the rows; one encoded file at a time is in memory, and a few that are being uploaded.
pub(super) async fn write(target: Target, rows: RecordBatch) -> Result<WrittenFiles, LakeError> {
    let written = if target.store.local {
        let sink = Sink::Disk(UnsyncedFiles::below(store::local_path(&target.url)?));
        on_blocking_thread(target, sink, rows).await?
    } else {
        let (sender, waiting) = mpsc::channel(UPLOADS_WAITING);
        let store = target.store.clone();
        let encode = on_blocking_thread(target, Sink::Upload(sender), rows);
        let (written, uploaded) = tokio::join!(encode, store.put_all(waiting));
        uploaded?;
        written?
    };
    Ok(written)
}

async fn on_blocking_thread(target: Target, sink: Sink, rows: RecordBatch) -> Result<WrittenFiles, LakeError> {
    let work = tokio::task::spawn_blocking(move || encode_all(&target, sink, &rows));
    work.await.map_err(LakeError::of_join)?
}

fn encode_all(target: &Target, mut sink: Sink, rows: &RecordBatch) -> Result<WrittenFiles, LakeError> {
    let ordered = split::order(rows)?;
    let encoder = Encoder::new(ordered.rows.schema())?;
    let modified = target.world.now_micros() / 1_000;
    let mut files = Vec::with_capacity(ordered.runs.len());
    let mut encoded = Vec::new();
    for run in &ordered.runs {
        let rows = ordered.rows.slice(run.start, run.rows);
        encoder.encode(&rows, &mut encoded)?;
        let id = target.world.uuid_v7();
        let path = partition::file_path(&run.values, target.lane, id);
        sink.put(target, &path, &encoded)?;
        let live =
            LiveFile { id, lane: target.lane, path, rows: run.rows as u64, deleted: 0, size: encoded.len() as u64 };
        let stats = Some(stats::of(&rows)?.into_boxed_str());
        files.push(WrittenFile(Entry { live, stats, modified, vector: None }));
    }
    sink.finish()?;
    let ids: Vec<Uuid> = files.iter().map(|file| file.0.live.id).collect();
    Ok(WrittenFiles { places: places(&ordered, &ids), files })
}

/// For each input row the file and the row in it.
fn places(ordered: &Ordered, ids: &[Uuid]) -> Vec<(Uuid, u32)> {
    let mut places = vec![(Uuid::nil(), 0); ordered.rows.num_rows()];
    for (Run { start, rows, .. }, id) in ordered.runs.iter().zip(ids) {
        for (row, at) in (*start..start + rows).enumerate() {
            let input = ordered.order.as_ref().map_or(at, |order| order[at] as usize);
            places[input] = (*id, row as u32);
        }
    }
    places
}

impl Sink {
    fn put(&mut self, target: &Target, path: &str, bytes: &[u8]) -> Result<(), LakeError> {
        match self {
            Self::Disk(files) => files.write(path, bytes),
            Self::Upload(sender) => {
                let object = super::below(&target.root, path)?;
                // The other end is gone when an upload failed, and that error is the one to tell.
                let sent = sender.blocking_send((object, Bytes::copy_from_slice(bytes)));
                sent.map_err(|_| LakeError::Unavailable("uploads have stopped".to_owned()))
            }
        }
    }

    fn finish(self) -> Result<(), LakeError> {
        match self {
            Self::Disk(files) => files.sync(),
            Self::Upload(_) => Ok(()),
        }
    }
}
