//! Rows of a chunk → durable Parquet files that no commit refers to yet.

use super::{
    LakeError, LiveFile, WrittenFile, WrittenFiles,
    durable::UnsyncedFiles,
    encode::Encoder,
    open, partition,
    split::{self, Ordered, Run},
    state::Entry,
    stats,
    store::Store,
    upload::Files,
};
use arrow::record_batch::RecordBatch;
use object_store::path::Path;
use std::{io::Write, sync::Arc};
use tributary_backends::world::World;
use url::Url;
use uuid::Uuid;

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
    /// With the buffer that every file is encoded into.
    Disk(UnsyncedFiles, Vec<u8>),
    Upload(Files),
}

/// Orders, encodes and stores the rows. On a local disk one encoded file at a time is in memory, elsewhere what is being
/// uploaded.
pub(super) async fn write(target: Target, rows: RecordBatch) -> Result<WrittenFiles, LakeError> {
    if target.store.local {
        let sink = Sink::Disk(UnsyncedFiles::below(open::local_path(&target.url)?), Vec::new());
        return on_blocking_thread(target, sink, rows).await;
    }
    let (files, jobs) = target.store.uploads.start();
    let encode = on_blocking_thread(target, Sink::Upload(files), rows);
    let (written, uploaded) = tokio::join!(encode, jobs.run());
    // When an upload fails the encoder cannot go on; that is not what is to be told.
    uploaded?;
    written
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
    for run in &ordered.runs {
        let rows = ordered.rows.slice(run.start, run.rows);
        let id = target.world.uuid_v7();
        let path = partition::file_path(&run.values, target.lane, id);
        let size = sink.put(target, &path, |file| encoder.encode(&rows, file))?;
        let live = LiveFile { id, lane: target.lane, path, rows: run.rows as u64, deleted: 0, size };
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
    /// Stores what `encode` writes; its size in bytes.
    fn put(
        &mut self,
        target: &Target,
        path: &str,
        encode: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), LakeError>,
    ) -> Result<u64, LakeError> {
        match self {
            Self::Disk(files, buffer) => {
                buffer.clear();
                encode(buffer)?;
                files.write(path, buffer)?;
                Ok(buffer.len() as u64)
            }
            Self::Upload(files) => {
                let mut file = files.file(super::below(&target.root, path)?);
                encode(&mut file)?;
                file.finish()
            }
        }
    }

    fn finish(self) -> Result<(), LakeError> {
        match self {
            Self::Disk(files, _) => files.sync(),
            Self::Upload(_) => Ok(()),
        }
    }
}
