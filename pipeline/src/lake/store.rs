//! Objects of the lake: how they become durable, and the kernel's engine on the same store.

use super::{LakeError, error::refusal, open, prove, upload::Uploads};
use bytes::Bytes;
use delta_kernel_default_engine::{DefaultEngine, DefaultEngineBuilder, executor::tokio::TokioMultiThreadExecutor};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};
use std::sync::{Arc, OnceLock};
use tokio::sync::OnceCell;
use tributary_backends::memory::BLOCKING_THREAD_STAYS;
use url::Url;
use uuid::Uuid;

/// Requests that are under way at once.
pub(super) const CONCURRENCY: usize = 16;

pub(super) type KernelEngine = DefaultEngine<TokioMultiThreadExecutor>;

/// The object store that holds the lake. Everything put through it is durable when its call returns.
#[derive(Clone)]
pub(super) struct Store {
    objects: Arc<dyn ObjectStore>,
    engine: Arc<KernelEngine>,
    /// True when objects are files of this machine.
    pub(super) local: bool,
    /// Set once the store has shown its create-only puts; shared by all handles.
    proven: Arc<OnceCell<()>>,
    /// Bounds what all tables together have on its way to the store.
    pub(super) uploads: Uploads,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("objects", &self.objects).finish_non_exhaustive()
    }
}

impl Store {
    /// The store behind `url`; a local directory is created.
    pub(super) fn open(url: &Url, options: &[(String, String)]) -> Result<Self, LakeError> {
        Self::over(open::open(url, options)?, url.scheme() == "file")
    }

    /// The same over a given store.
    pub(super) fn over(objects: Arc<dyn ObjectStore>, local: bool) -> Result<Self, LakeError> {
        let executor = Arc::new(TokioMultiThreadExecutor::new(kernel_runtime()?.clone()));
        let engine = DefaultEngineBuilder::new(objects.clone()).with_task_executor(executor).build();
        let uploads = Uploads::to(objects.clone());
        Ok(Self { objects, engine: Arc::new(engine), local, proven: Arc::default(), uploads })
    }

    /// Has the store show, once in this process, that two writers cannot both create one object.
    pub(super) async fn prove(&self, root: &Path, id: Uuid) -> Result<(), LakeError> {
        self.proven.get_or_try_init(|| prove::create_only(self, root, id)).await.copied()
    }

    /// For readers of Parquet.
    pub(super) fn objects(&self) -> Arc<dyn ObjectStore> {
        self.objects.clone()
    }

    /// Runs kernel code, which blocks, away from the runtime's workers.
    pub(super) async fn with_kernel<T: Send + 'static>(
        &self,
        work: impl FnOnce(&KernelEngine) -> T + Send + 'static,
    ) -> Result<T, LakeError> {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || work(&engine)).await.map_err(LakeError::of_join)
    }

    /// The whole object, `None` when there is none.
    pub(super) async fn get(&self, path: &Path) -> Result<Option<Bytes>, LakeError> {
        let read = async { self.objects.get(path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            // Without the bucket there is nothing to say about the object.
            Err(error @ object_store::Error::NotFound { .. }) if refusal(&error).is_none() => Ok(None),
            Err(error) => Err(LakeError::of_store(path, error)),
        }
    }

    /// Size and time, `None` when there is no such object.
    pub(super) async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>, LakeError> {
        match self.objects.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(LakeError::of_store(path, error)),
        }
    }

    /// Puts an object that must not exist yet: one of two racers gets [`object_store::Error::AlreadyExists`].
    ///
    /// An error is no proof that nothing was put, and `AlreadyExists` none that somebody else did: the answer may have
    /// been lost, and the client may have asked again and met its own object.
    pub(super) async fn create(&self, path: &Path, bytes: Bytes) -> Result<(), object_store::Error> {
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.objects.put_opts(path, bytes.into(), create).await.map(drop)
    }

    /// Puts an object under a name that nobody else has.
    pub(super) async fn put(&self, path: &Path, bytes: Bytes) -> Result<(), LakeError> {
        self.objects.put(path, bytes.into()).await.map(drop).map_err(|error| LakeError::not_put(path, error))
    }

    /// Removes an object; that there is none is well.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), LakeError> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(LakeError::of_store(path, error)),
        }
    }

    /// Everything below `prefix`, in no order.
    pub(super) async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, LakeError> {
        self.objects.list(Some(prefix)).try_collect().await.map_err(|error| LakeError::of_store(prefix, error))
    }

    /// Names of the directories right below `prefix`, sorted.
    pub(super) async fn directories(&self, prefix: &Path) -> Result<Vec<String>, LakeError> {
        let listed = self.objects.list_with_delimiter(Some(prefix)).await;
        let listed = listed.map_err(|error| LakeError::of_store(prefix, error))?;
        let names = listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned));
        let mut names: Vec<_> = names.collect();
        names.sort();
        Ok(names)
    }
}

/// The kernel is synchronous code over an asynchronous store: its calls wait on a blocking thread for work that runs
/// here. A runtime of its own keeps it from waiting for workers that wait for it, and lets the caller's be of any kind.
fn kernel_runtime() -> Result<&'static tokio::runtime::Handle, LakeError> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle());
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).thread_name("lake").enable_all().thread_keep_alive(BLOCKING_THREAD_STAYS);
    let runtime = runtime.build();
    let runtime = runtime.map_err(|error| LakeError::Unavailable(format!("no threads for the lake: {error}")))?;
    // When two threads come here at once, the loser's idle runtime goes without waiting for anything.
    if let Err(spare) = RUNTIME.set(runtime) {
        spare.shutdown_background();
    }
    RUNTIME
        .get()
        .map(tokio::runtime::Runtime::handle)
        .ok_or_else(|| LakeError::Unavailable("no threads for the lake".to_owned()))
}
