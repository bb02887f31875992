//! Where bodies are decompressed, parsed and encoded: beside the async workers, as many at once as there are cores.

use crate::failure::Failure;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Work on fewer bytes takes well under a millisecond: handing it to another thread would cost more than it holds up.
const INLINE_BYTES: usize = 32 * 1024;

/// Runs work that computes.
#[derive(Debug, Clone)]
pub struct Cpu(Arc<Semaphore>);

impl Default for Cpu {
    /// As many at once as the machine has cores: more would only hold more memory.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self(Arc::new(Semaphore::new(cores)))
    }
}

impl Cpu {
    /// Runs `work` on about `bytes` bytes.
    ///
    /// # Errors
    /// 500 when it panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        if bytes <= INLINE_BYTES {
            return Ok(work());
        }
        // The semaphore is never closed; without a permit the work is done all the same.
        let permit = self.0.clone().acquire_owned().await.ok();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "work on a body failed");
            Failure::internal()
        })
    }
}
