//! What can go wrong in the lake, by what the caller must do.

use object_store::path::Path;

/// Classified by what the caller must do.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The store is away or full: wait and try again; nothing was committed.
    #[error("the lake is not available: {0}")]
    Unavailable(String),
    /// Another commit came first, or the answer to ours is unclear: refresh, look at `txn`, resolve again.
    #[error("the commit may have lost a race: {0}")]
    Conflict(String),
    /// What is stored is not what was written: halt and tell the operator which file.
    #[error("{path} is corrupt: {reason}")]
    Corrupt {
        /// Which object.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Cannot ever work.
    #[error("{0}")]
    Halted(String),
}

impl LakeError {
    pub(super) fn corrupt(path: impl ToString, reason: impl ToString) -> Self {
        Self::Corrupt { path: path.to_string(), reason: reason.to_string() }
    }

    /// An object that must be there could not be read or written.
    pub(super) fn of_store(path: &Path, error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::corrupt(format!("/{path}"), "it is missing"),
            object_store::Error::AlreadyExists { .. } => Self::Conflict(format!("/{path} exists already")),
            other => Self::Unavailable(format!("/{path}: {}", explain(&other))),
        }
    }

    /// A local file could not be written.
    pub(super) fn of_io(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Unavailable(format!("{}: {}", path.display(), explain(error)))
    }

    /// A Parquet file that must be there could not be read: the store's trouble passes, the file's does not.
    pub(super) fn of_parquet(path: &Path, error: parquet::errors::ParquetError) -> Self {
        use parquet::errors::ParquetError;
        match error {
            ParquetError::External(source) => match source.downcast::<object_store::Error>() {
                Ok(error) => Self::of_store(path, *error),
                Err(other) => Self::corrupt(format!("/{path}"), other),
            },
            other => Self::corrupt(format!("/{path}"), other),
        }
    }

    /// The kernel failed without saying at which object.
    pub(super) fn of_kernel(path: impl ToString, error: &delta_kernel::KernelError) -> Self {
        use delta_kernel::KernelError;
        match error {
            KernelError::Backtraced { source, .. } => Self::of_kernel(path, source),
            KernelError::IOError(_) => Self::Unavailable(explain(error)),
            KernelError::ObjectStore(source) if !matches!(source, object_store::Error::NotFound { .. }) => {
                Self::Unavailable(explain(error))
            }
            KernelError::Unsupported(reason) => Self::Halted(format!("{}: {reason}", path.to_string())),
            other => Self::corrupt(path, other),
        }
    }

    /// Work on a blocking thread ended early: only a shutdown or a bug does that, and a bug would only come again.
    pub(super) fn of_join(error: tokio::task::JoinError) -> Self {
        if error.is_panic() {
            return Self::Halted(format!("a bug: {error}"));
        }
        Self::Unavailable(format!("work was cut off: {error}"))
    }
}

/// An error with its causes, and what to do when the disk is full.
fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let full = error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded));
        if full {
            return format!("no space left, free some for the lake: {text}");
        }
        cause = error.source();
        if let Some(next) = cause.map(ToString::to_string).filter(|next| !text.contains(next)) {
            text = format!("{text}: {next}");
        }
    }
    text
}
