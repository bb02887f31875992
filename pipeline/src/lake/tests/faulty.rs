//! A store that counts what is read and fails when told to.

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

/// What goes wrong with the Delta log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Nothing is stored.
    Full,
    /// It is stored, and the answer is lost.
    AnswerLost,
    /// The same, and nothing can be read.
    AllAnswersLost,
    /// The same once: what comes after is in order.
    OneAnswerLost,
    /// The second half of that.
    OneReadFails,
    /// Nothing is stored, because of another put that fails as well.
    NobodyWins,
    /// An object that exists is replaced, wherever it is.
    CreatesTwice,
}

#[derive(Debug)]
pub(super) struct FaultyStore {
    under: Arc<dyn ObjectStore>,
    pub(super) gets: AtomicUsize,
    pub(super) fault: Mutex<Fault>,
}

impl FaultyStore {
    pub(super) fn over(under: Arc<dyn ObjectStore>) -> Self {
        Self { under, gets: AtomicUsize::new(0), fault: Mutex::new(Fault::None) }
    }

    pub(super) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyStore")
    }
}

fn failed(kind: std::io::ErrorKind) -> Error {
    Error::Generic { store: "FaultyStore", source: Box::new(std::io::Error::from(kind)) }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let fault = *self.fault.lock().unwrap();
        let log = location.as_ref().contains("_delta_log");
        match fault {
            Fault::Full if log => Err(failed(std::io::ErrorKind::StorageFull)),
            Fault::AnswerLost | Fault::AllAnswersLost if log => {
                self.under.put_opts(location, payload, opts).await?;
                Err(failed(std::io::ErrorKind::TimedOut))
            }
            Fault::OneAnswerLost if log => {
                self.under.put_opts(location, payload, opts).await?;
                self.set(Fault::OneReadFails);
                Err(failed(std::io::ErrorKind::TimedOut))
            }
            Fault::NobodyWins if log => {
                Err(Error::AlreadyExists { path: location.to_string(), source: "409 Conflict".into() })
            }
            Fault::CreatesTwice => {
                self.under.put_opts(location, payload, PutOptions { mode: PutMode::Overwrite, ..opts }).await
            }
            _ => self.under.put_opts(location, payload, opts).await,
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.under.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        let fault = *self.fault.lock().unwrap();
        if fault == Fault::OneReadFails {
            self.set(Fault::None);
        }
        if matches!(fault, Fault::AllAnswersLost | Fault::OneReadFails) {
            return Err(failed(std::io::ErrorKind::TimedOut));
        }
        self.under.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.under.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.under.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.under.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.under.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.under.copy_opts(from, to, options).await
    }
}
