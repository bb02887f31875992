//! What `lake check` asks of a table: are the files there, and what else is.

use super::{KeyRow, LakeError, Table, deletion, keys, store::CONCURRENCY};
use futures::{StreamExt, stream};
use object_store::path::Path;
use std::collections::HashSet;
use uuid::Uuid;

/// An object below a table's root that its newest version does not refer to: left by a write that was never committed,
/// or by a version that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreferenced {
    /// Path below the table's root.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the Unix epoch, by the store's clock.
    pub modified: i64,
}

impl Table {
    /// What is wrong with the live files as the store shows them without opening them: each must be there, with the
    /// size that the log gives. Empty when all is well.
    pub async fn missing_or_resized(&self) -> Result<Vec<LakeError>, LakeError> {
        let mut heads = stream::iter(self.state.files.values())
            .map(|file| async {
                let path = super::below(&self.root, &file.live.path)?;
                let found = self.store.head(&path).await?;
                Ok::<_, LakeError>(
                    match found {
                        Some(meta) if meta.size == file.live.size => None,
                        Some(meta) => Some(format!("it has {} bytes, the log says {}", meta.size, file.live.size)),
                        None => Some("it is missing".to_owned()),
                    }
                    .map(|reason| LakeError::corrupt(format!("/{path}"), reason)),
                )
            })
            .buffer_unordered(CONCURRENCY);
        let mut wrong = Vec::new();
        while let Some(found) = heads.next().await {
            wrong.extend(found?);
        }
        Ok(wrong)
    }

    /// Keys of the live rows of one file.
    pub async fn keys_of(&self, id: &Uuid, each: &mut (dyn FnMut(&[KeyRow]) + Send)) -> Result<(), LakeError> {
        let Some(file) = self.state.files.get(id) else { return Ok(()) };
        keys::read(self, &[file], each).await
    }

    /// Objects that nothing in this version refers to, sorted by path. A write that is under way has some.
    pub async fn unreferenced(&self) -> Result<Vec<Unreferenced>, LakeError> {
        let log = self.root.clone().join("_delta_log");
        let mut referenced: HashSet<Path> = HashSet::new();
        for file in self.state.files.values() {
            referenced.insert(super::below(&self.root, &file.live.path)?);
            if let Some(vector) = &file.vector {
                referenced.extend(deletion::file_of(&self.url, vector)?);
            }
        }
        let objects = self.store.list(&self.root).await?.into_iter();
        let rest =
            objects.filter(|object| !object.location.prefix_matches(&log) && !referenced.contains(&object.location));
        let prefix = format!("{}/", self.root);
        let mut rest: Vec<_> = rest
            .map(|object| Unreferenced {
                path: object.location.as_ref().strip_prefix(&prefix).unwrap_or(object.location.as_ref()).to_owned(),
                size: object.size,
                modified: object.last_modified.timestamp_millis(),
            })
            .collect();
        rest.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(rest)
    }
}
