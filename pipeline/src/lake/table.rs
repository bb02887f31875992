//! One table as a lane sees it.

use super::{
    KeyRow, LakeError, LiveFile, TableCommit, WrittenFiles, actions, checkpoint, commit,
    create::CHECKPOINT_EVERY,
    keys, load,
    state::State,
    store::Store,
    write::{self, Target},
};
use arrow::record_batch::RecordBatch;
use object_store::path::Path;
use std::{collections::BTreeMap, sync::Arc};
use tributary_backends::world::World;
use url::Url;
use uuid::Uuid;

/// A table at one version, held in memory: its live files and `txn`s. Reading and committing go by that version;
/// [`Self::refresh`] moves it to the newest.
#[derive(Debug)]
pub struct Table {
    pub(super) store: Store,
    pub(super) world: Arc<dyn World>,
    /// Ends with `/`.
    pub(super) url: Url,
    pub(super) root: Path,
    pub(super) state: State,
}

impl Table {
    /// The version this handle stands at.
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// Latest version of an application's `txn`.
    pub fn txn(&self, app_id: &str) -> Option<i64> {
        self.state.txns.get(app_id).copied()
    }

    /// All `txn` actions.
    pub fn txns(&self) -> &BTreeMap<String, i64> {
        &self.state.txns
    }

    /// A live file.
    pub fn file(&self, id: &Uuid) -> Option<&LiveFile> {
        self.state.files.get(id).map(|entry| &entry.live)
    }

    /// All live files.
    pub fn files(&self) -> Vec<&LiveFile> {
        self.state.files.values().map(|entry| &entry.live).collect()
    }

    /// Where the table is; ends with `/`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Moves the handle to the newest version, reading only the commits that it has not seen.
    ///
    /// # Errors
    /// [`LakeError::Unavailable`], or [`LakeError::Corrupt`] with the commit that does not read; the handle then stands
    /// at the version before it.
    pub async fn refresh(&mut self) -> Result<(), LakeError> {
        let seen = self.state.version;
        loop {
            let next = self.state.version + 1;
            let Some(actions) = load::commit(&self.store, &self.root, next).await? else { break };
            if self.state.apply(next, actions)? {
                return self.reload().await;
            }
        }
        let own = load::commit_path(&self.root, self.state.version);
        if self.state.version == seen && self.store.head(&own).await?.is_none() {
            // The log was cut behind this handle, so that its next commits may be gone as well.
            return self.reload().await;
        }
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), LakeError> {
        let newest = load::newest(&self.store, &self.url, &self.root).await?;
        self.state = newest.ok_or_else(|| LakeError::corrupt(format!("{}_delta_log", self.url), "it is missing"))?;
        Ok(())
    }

    /// Writes rows ([`tributary_schemas::columns::table_schema`]) as Parquet under fresh names, ordered by
    /// `event_at` within a partition and cut between dates. They are durable when this returns, and nothing is visible before [`Self::commit`].
    ///
    /// # Errors
    /// [`LakeError::Unavailable`] when the store is away or full (files that were written stay as unreferenced
    /// objects), [`LakeError::Halted`] for rows that are no rows of the table.
    pub async fn write(&self, lane: u32, rows: &RecordBatch) -> Result<WrittenFiles, LakeError> {
        let target = Target {
            store: self.store.clone(),
            world: self.world.clone(),
            url: self.url.clone(),
            root: self.root.clone(),
            lane,
        };
        write::write(target, rows.clone()).await
    }

    /// Commits on top of this handle's version, create-only; the handle then stands at the new version. Writes a
    /// checkpoint when one is due.
    ///
    /// # Errors
    /// [`LakeError::Conflict`]: another commit came first, the answer was unclear, or a file that is to lose rows is no
    /// longer live: refresh, look at `txn`, resolve again. [`LakeError::Unavailable`]: not committed, try again.
    pub async fn commit(&mut self, commit: TableCommit) -> Result<u64, LakeError> {
        let id = self.world.uuid_v7();
        self.commit_as(id, commit).await
    }

    /// The same under an id that no other commit has, so that [`Self::has_commit`] can tell it when the answer was lost.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn commit_as(&mut self, id: Uuid, commit: TableCommit) -> Result<u64, LakeError> {
        let version = commit::commit(self, id, commit).await?;
        if version % CHECKPOINT_EVERY == 0
            && let Err(error) = self.checkpoint().await
        {
            // The commit stands without it, and the next one sums up what this one would have.
            tracing::warn!(table = %self.url, version, %error, "no checkpoint was written");
        }
        Ok(version)
    }

    /// Whether the commit that made `version` is the one with this id. False when its file is gone.
    ///
    /// # Errors
    /// [`LakeError::Unavailable`].
    pub async fn has_commit(&self, version: u64, id: Uuid) -> Result<bool, LakeError> {
        let text = self.store.get(&load::commit_path(&self.root, version)).await?;
        Ok(text.is_some_and(|text| actions::is_of(&text, id)))
    }

    /// Writes a checkpoint of this handle's version.
    pub async fn checkpoint(&self) -> Result<(), LakeError> {
        checkpoint::write(&self.store, &self.url, self.state.version).await
    }

    /// Keys of the live rows of this lane's files that were added after table version `after` (all when `None`), with
    /// their `table_version` set to this handle's version; a slice of one file at a time, files in no order.
    ///
    /// # Errors
    /// [`LakeError::Corrupt`] with the file that is missing or does not read.
    pub async fn keys_since(
        &self,
        lane: u32,
        after: Option<u64>,
        each: &mut (dyn FnMut(&[KeyRow]) + Send),
    ) -> Result<(), LakeError> {
        let added = match after {
            Some(after) => keys::added_since(self, after).await?,
            None => None,
        };
        let files = self.state.files.values().filter(|entry| entry.live.lane == lane);
        let files = files.filter(|entry| added.as_ref().is_none_or(|added| added.contains(&entry.live.id)));
        let files: Vec<_> = files.collect();
        keys::read(self, &files, each).await
    }
}
