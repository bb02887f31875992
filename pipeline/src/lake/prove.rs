//! A store is trusted with a table only after it has shown that it creates an object once and never again: that is all
//! that keeps two writers from putting the same version.

use super::{LakeError, error::refusal, store::Store};
use bytes::Bytes;
use object_store::{Error, path::Path};
use uuid::Uuid;

/// Puts one object twice below `root`; `id` makes its name, the same one in all tries of a process.
///
/// # Errors
/// [`LakeError::Halted`] when the store lacks create-only puts, refuses the credentials, or has no such bucket, with
/// what to do; [`LakeError::Unavailable`] when it does not answer.
pub(super) async fn create_only(store: &Store, root: &Path, id: Uuid) -> Result<(), LakeError> {
    let path = root.clone().join(format!("_create-only-probe-{id}"));
    let first = Bytes::from_static(b"first");
    match store.create(&path, first.clone()).await {
        // It exists when the answer to an earlier try was lost.
        Ok(()) | Err(Error::AlreadyExists { .. }) => {}
        Err(error) => return Err(judge(&path, error)),
    }
    let proof = refuses_a_second(store, &path, &first).await;
    if let Err(error) = store.delete(&path).await {
        tracing::warn!(%error, "the object by which the store was tried stays behind, which harms nothing");
    }
    proof
}

async fn refuses_a_second(store: &Store, path: &Path, first: &Bytes) -> Result<(), LakeError> {
    match store.create(path, Bytes::from_static(b"second")).await {
        Err(Error::AlreadyExists { .. }) => {}
        Ok(()) => return Err(lacking("it let an object be created twice")),
        Err(error) => return Err(judge(path, error)),
    }
    match store.get(path).await? {
        Some(found) if found == first => Ok(()),
        _ => Err(lacking("a refused put has changed the object")),
    }
}

fn lacking(seen: &str) -> LakeError {
    LakeError::Halted(format!(
        "the store has no create-only puts ({seen}), so two writers could overwrite each other's commits: use one that \
         honours If-None-Match on PUT, such as Amazon S3, Google Cloud Storage, Azure Blob Storage or MinIO"
    ))
}

/// At the start nobody waits for what an operator has to mend.
fn judge(path: &Path, error: Error) -> LakeError {
    if let Error::NotImplemented { .. } | Error::NotSupported { .. } = error {
        return lacking(&error.to_string());
    }
    match refusal(&error) {
        Some(refusal) => LakeError::Halted(refusal),
        None => LakeError::of_store(path, error),
    }
}
