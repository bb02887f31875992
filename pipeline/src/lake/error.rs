//! What can go wrong in the lake, by what the caller must do.

use delta_kernel::KernelError;
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

    /// An object that must be there could not be read or written. What the operator can mend passes, so that a lane
    /// goes on by itself once it is mended.
    pub(super) fn of_store(path: &Path, error: object_store::Error) -> Self {
        if let Some(refusal) = refusal(&error) {
            return Self::Unavailable(refusal);
        }
        match error {
            object_store::Error::NotFound { .. } => Self::corrupt(format!("/{path}"), "it is missing"),
            object_store::Error::AlreadyExists { .. } => Self::Conflict(format!("/{path} exists already")),
            other => Self::Unavailable(format!("/{path}: {}", explain(&other))),
        }
    }

    /// An object could not be put: nothing of it is there, and nothing was lost.
    pub(super) fn not_put(path: &Path, error: object_store::Error) -> Self {
        Self::Unavailable(refusal(&error).unwrap_or_else(|| format!("/{path}: {}", explain(&error))))
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
        match error {
            KernelError::Backtraced { source, .. } => Self::of_kernel(path, source),
            KernelError::IOError(_) | KernelError::CheckpointWrite(_) => Self::Unavailable(explain(error)),
            error if store_in(error).is_some() => {
                Self::Unavailable(store_in(error).and_then(refusal).unwrap_or_else(|| explain(error)))
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

/// The store's trouble behind an error of a reader: it passes, a file that is missing or does not read does not.
fn store_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a object_store::Error> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let store = causes.find_map(|error| {
        // The kernel does not name what it got from a store as its cause, and what an I/O error carries is none either.
        if let Some(KernelError::ObjectStore(error)) = error.downcast_ref::<KernelError>() {
            return Some(error);
        }
        let carried = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        carried.map_or(error.downcast_ref(), |carried| carried.downcast_ref())
    });
    store.filter(|error| !matches!(error, object_store::Error::NotFound { .. }))
}

/// What to do about a store that answers, but will not serve us; `None` for other trouble.
pub(super) fn refusal(error: &object_store::Error) -> Option<String> {
    use object_store::Error;
    let text = explain(error);
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let advice = match error {
        _ if says(&["RequestTimeTooSkewed"]) => "the store's clock and this machine's differ: set the right time",
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } if says(&["status code: 40"]) => {
            "the store refuses the credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (GOOGLE_…, AZURE_…), \
             and that they may read, write, list and delete below the lake's URL"
        }
        Error::NotFound { .. } if says(&["NoSuchBucket", "ContainerNotFound", "bucket does not exist"]) => {
            "the lake's bucket does not exist: create it, or correct the lake's URL"
        }
        _ if says(&["AuthorizationHeaderMalformed", "PermanentRedirect", "incorrectly configured region"]) => {
            "the bucket is in another region: set AWS_REGION"
        }
        _ if says(&["URL scheme is not allowed"]) => {
            "the store's endpoint is http://, which everybody on the way can read: make it https://, or set \
             AWS_ALLOW_HTTP=true (GOOGLE_…, AZURE_…)"
        }
        _ if says(&["invalid peer certificate"]) => {
            "the store's certificate is not to be trusted: renew it if it has expired; if an authority of your own signed it, \
             name that authority's file in SSL_CERT_FILE"
        }
        _ if says(&["169.254.169.254", "metadata.google.internal"]) => {
            "there are no credentials for the store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (GOOGLE_…, \
             AZURE_…), or run where the machine has a role"
        }
        _ => return None,
    };
    Some(format!("{advice} ({text})"))
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
    without_xml(&text)
}

/// The stores answer in XML: of that, code and message.
fn without_xml(text: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.trim())
    };
    let Some((before, _)) = text.split_once("<?xml").or_else(|| text.split_once("<Error>")) else {
        return text.to_owned();
    };
    let answer: Vec<_> = ["Code", "Message"].into_iter().filter_map(element).collect();
    format!("{}{}", before.trim_start(), answer.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str) -> String {
        format!(
            "Server returned non-2xx status code: {status} X: <?xml version=\"1.0\"?>\n<Error><Code>{code}</Code>\
             <Message>So it is.</Message><RequestId>17</RequestId></Error>"
        )
    }

    #[test]
    fn a_refusal_says_what_to_do_and_what_the_store_said() {
        let path = "lake/x".to_owned();
        let denied = object_store::Error::PermissionDenied { path, source: answered(403, "InvalidAccessKeyId").into() };
        let refusal = refusal(&denied).unwrap();
        assert!(refusal.contains("AWS_ACCESS_KEY_ID"), "{refusal}");
        assert!(refusal.ends_with("InvalidAccessKeyId: So it is.)"), "{refusal}");
    }

    #[test]
    fn a_certificate_that_nobody_trusts_is_for_the_operator() {
        let source = std::io::Error::other("invalid peer certificate: certificate expired");
        let refusal = refusal(&object_store::Error::Generic { store: "S3", source: Box::new(source) }).unwrap();
        assert!(refusal.contains("renew") && refusal.contains("SSL_CERT_FILE"), "{refusal}");
    }

    #[test]
    fn a_file_of_this_machine_is_not_about_credentials() {
        let source = Box::new(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        assert_eq!(refusal(&object_store::Error::PermissionDenied { path: "a".to_owned(), source }), None);
    }

    #[test]
    fn the_stores_trouble_behind_a_reader_passes_and_damage_does_not() {
        use parquet::errors::ParquetError;
        let reader = |error: object_store::Error| KernelError::Parquet(ParquetError::External(Box::new(error)));
        let slow = object_store::Error::Generic { store: "S3", source: answered(503, "SlowDown").into() };
        let slow = LakeError::of_kernel("x", &reader(slow));
        assert!(matches!(&slow, LakeError::Unavailable(text) if text.contains("SlowDown")), "{slow:?}");
        let gone = object_store::Error::NotFound { path: "a".to_owned(), source: answered(404, "NoSuchKey").into() };
        assert!(matches!(LakeError::of_kernel("x", &reader(gone)), LakeError::Corrupt { .. }));
        let damaged = KernelError::Parquet(ParquetError::EOF("short".to_owned()));
        assert!(matches!(LakeError::of_kernel("x", &damaged), LakeError::Corrupt { .. }));
    }
}
