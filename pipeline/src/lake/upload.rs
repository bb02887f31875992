//! Files on their way to a store, piece by piece, so that neither a large file nor many small ones fill the memory.
//!
//! A file of one piece is one put. A larger one is a multipart upload: its pieces are no object before it is completed,
//! and when anything goes wrong it is aborted, so that nobody ever sees half a file.

use super::{LakeError, store::CONCURRENCY};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::FuturesUnordered};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, UploadPart, path::Path};
use std::{io::Write, sync::Arc};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

/// What is sent with one request. S3 wants at least 5 MiB, and takes 10,000 pieces of a file.
pub(super) const PART_BYTES: usize = 8 << 20;
/// Pieces of one file that are sent at once.
const PARTS_AT_ONCE: usize = 2;
/// All that waits for its upload or is being sent, of all tables.
const ROOM_BYTES: usize = 32 << 20;
/// What the semaphore counts in.
const ROOM_UNIT: usize = 1 << 10;

/// Where files go.
#[derive(Debug, Clone)]
pub(super) struct Uploads {
    objects: Arc<dyn ObjectStore>,
    room: Arc<Semaphore>,
}

/// Bytes, and the room that they take until they are sent.
struct Piece {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// One file.
enum Job {
    Whole(Path, Piece),
    InParts(Path, mpsc::Receiver<Part>),
}

enum Part {
    Piece(Piece),
    /// The file is complete. Without this, its writer has given up.
    End,
}

/// The end of [`Uploads::start`] that a blocking thread writes files into.
pub(super) struct Files {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    runtime: Handle,
}

/// The other end, to be [run](Jobs::run) at the same time.
pub(super) struct Jobs {
    jobs: mpsc::Receiver<Job>,
    objects: Arc<dyn ObjectStore>,
}

impl Uploads {
    pub(super) fn to(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, room: Arc::new(Semaphore::new(ROOM_BYTES / ROOM_UNIT)) }
    }

    /// Begins to upload the files of one chunk. Must be called on a runtime.
    pub(super) fn start(&self) -> (Files, Jobs) {
        let (sender, receiver) = mpsc::channel(1);
        let files = Files { jobs: sender, room: self.room.clone(), runtime: Handle::current() };
        (files, Jobs { jobs: receiver, objects: self.objects.clone() })
    }
}

impl Files {
    /// Begins a file; it is one only after [`FileUpload::finish`].
    pub(super) fn file(&mut self, path: Path) -> FileUpload<'_> {
        FileUpload { files: self, path, piece: Vec::new(), parts: None, size: 0 }
    }

    fn piece(&self, bytes: Vec<u8>) -> Piece {
        let units = u32::try_from(bytes.len().div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let room = self.runtime.block_on(self.room.clone().acquire_many_owned(units)).ok();
        Piece { bytes: bytes.into(), _room: room }
    }
}

/// A file that is being written. What is dropped unfinished never becomes an object.
pub(super) struct FileUpload<'a> {
    files: &'a mut Files,
    path: Path,
    piece: Vec<u8>,
    /// Once there is more than one piece.
    parts: Option<mpsc::Sender<Part>>,
    size: u64,
}

impl FileUpload<'_> {
    /// The rest is handed over; the size in bytes.
    pub(super) fn finish(mut self) -> Result<u64, LakeError> {
        self.end().map_err(|error| LakeError::Unavailable(format!("/{}: {error}", self.path)))?;
        Ok(self.size)
    }

    fn end(&mut self) -> std::io::Result<()> {
        if self.parts.is_none() {
            let piece = self.files.piece(std::mem::take(&mut self.piece));
            return self.files.jobs.blocking_send(Job::Whole(self.path.clone(), piece)).map_err(stopped);
        }
        if !self.piece.is_empty() {
            self.send_part()?;
        }
        self.parts.take().map_or(Ok(()), |parts| parts.blocking_send(Part::End).map_err(stopped))
    }

    fn send_part(&mut self) -> std::io::Result<()> {
        let piece = self.files.piece(std::mem::take(&mut self.piece));
        let parts = match &self.parts {
            Some(parts) => parts,
            None => {
                let (sender, receiver) = mpsc::channel(1);
                self.files.jobs.blocking_send(Job::InParts(self.path.clone(), receiver)).map_err(stopped)?;
                self.parts.insert(sender)
            }
        };
        parts.blocking_send(Part::Piece(piece)).map_err(stopped)
    }
}

/// The other end has met an error, and that is the one to tell.
fn stopped<T>(_: mpsc::error::SendError<T>) -> std::io::Error {
    std::io::Error::other("uploads have stopped")
}

impl Write for FileUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.piece.len() >= PART_BYTES {
            self.send_part()?;
        }
        let taken = bytes.len().min(PART_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        self.size += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Jobs {
    /// Uploads files as they come, several at once, until [`Files`] is dropped. All of them are objects then.
    ///
    /// # Errors
    /// [`LakeError::Unavailable`] for the first one that failed.
    pub(super) async fn run(self) -> Result<(), LakeError> {
        let Self { jobs, objects } = self;
        let jobs = stream::unfold(jobs, async |mut jobs| Some((jobs.recv().await?, jobs)));
        let uploads = jobs.map(move |job| upload(objects.clone(), job));
        uploads.buffer_unordered(CONCURRENCY).try_for_each(async |()| Ok(())).await
    }
}

async fn upload(objects: Arc<dyn ObjectStore>, job: Job) -> Result<(), LakeError> {
    match job {
        Job::Whole(path, Piece { bytes, _room }) => {
            objects.put(&path, bytes.into()).await.map(drop).map_err(|error| LakeError::not_put(&path, error))
        }
        Job::InParts(path, parts) => {
            let upload = objects.put_multipart(&path).await;
            let mut upload = upload.map_err(|error| LakeError::not_put(&path, error))?;
            let uploaded = in_parts(&*objects, &path, &mut *upload, parts).await;
            if uploaded.is_err()
                && let Err(error) = upload.abort().await
            {
                tracing::debug!(%path, %error, "pieces of an upload stay until the store's life-cycle rule removes them");
            }
            uploaded
        }
    }
}

async fn in_parts(
    objects: &dyn ObjectStore,
    path: &Path,
    upload: &mut dyn MultipartUpload,
    mut parts: mpsc::Receiver<Part>,
) -> Result<(), LakeError> {
    let (mut sending, mut size) = (FuturesUnordered::<UploadPart>::new(), 0);
    loop {
        tokio::select! {
            Some(sent) = sending.next(), if !sending.is_empty() => {
                sent.map_err(|error| LakeError::not_put(path, error))?;
            }
            part = parts.recv(), if sending.len() < PARTS_AT_ONCE => match part {
                Some(Part::Piece(Piece { bytes, _room })) => {
                    size += bytes.len() as u64;
                    sending.push(Box::pin(keeping(_room, upload.put_part(bytes.into()))));
                }
                Some(Part::End) => break,
                None => return Err(LakeError::Unavailable(format!("/{path}: its writer has given up"))),
            },
        }
    }
    while let Some(sent) = sending.next().await {
        sent.map_err(|error| LakeError::not_put(path, error))?;
    }
    let Err(error) = upload.complete().await else { return Ok(()) };
    // Its answer may have been lost; a second try then finds no upload to complete.
    match objects.head(path).await {
        Ok(found) if found.size == size => Ok(()),
        _ => Err(LakeError::not_put(path, error)),
    }
}

/// The room is free again when the piece is sent.
async fn keeping(_room: Option<OwnedSemaphorePermit>, sent: UploadPart) -> object_store::Result<()> {
    sent.await
}
