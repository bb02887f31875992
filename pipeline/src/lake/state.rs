//! What a table holds at one version: its live files and `txn`s, kept in memory and moved on commit by commit.

use super::{
    LakeError, LiveFile,
    actions::{Action, Add, Vector},
    partition,
};
use std::collections::{BTreeMap, HashMap};
use tributary_schemas::columns::PARTITION_COLUMNS;
use uuid::Uuid;

/// A live file with what its next `add` action needs.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) live: LiveFile,
    pub(super) stats: Option<Box<str>>,
    /// Milliseconds.
    pub(super) modified: i64,
    pub(super) vector: Option<Vector>,
}

/// A table at one version.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) version: u64,
    pub(super) files: HashMap<Uuid, Entry>,
    pub(super) txns: BTreeMap<String, i64>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rows {
    num_records: u64,
}

impl Entry {
    /// Reads an `add` action. Anything that Tributary did not write has no place in the key index: halt rather than
    /// leave its rows out.
    pub(super) fn of(add: Add) -> Result<Self, LakeError> {
        let path = partition::from_log_path(&add.path);
        let named = path.and_then(|path| Some((partition::parse_file_path(&path)?, path)));
        let Some(((lane, id, _), path)) = named else {
            return Err(LakeError::Halted(format!(
                "{} was not written by Tributary: restore the table to the version before it came in",
                add.path
            )));
        };
        let rows = add.stats.as_deref().and_then(|stats| serde_json::from_str::<Rows>(stats).ok());
        let Some(Rows { num_records: rows }) = rows else {
            return Err(LakeError::corrupt(path, "its add action does not say how many rows it has"));
        };
        let deleted = add.deletion_vector.as_ref().map_or(Ok(0), |vector| u64::try_from(vector.cardinality));
        let deleted = deleted.map_err(|_| LakeError::corrupt(&path, "its deletion vector has a negative size"))?;
        Ok(Self {
            live: LiveFile { id, lane, path, rows, deleted, size: add.size },
            stats: add.stats.map(String::into_boxed_str),
            modified: add.modification_time,
            vector: add.deletion_vector,
        })
    }

    /// The `add` action of the file as it is now.
    pub(super) fn to_add(&self) -> Add {
        Add {
            path: partition::to_log_path(&self.live.path),
            partition_values: self.partition_values(),
            size: self.live.size,
            modification_time: self.modified,
            data_change: true,
            stats: self.stats.as_deref().map(str::to_owned),
            deletion_vector: self.vector.clone(),
        }
    }

    /// Values of the partition columns; the file's path is where they are kept.
    pub(super) fn partition_values(&self) -> BTreeMap<String, Option<String>> {
        let values = self.live.partition_values().into_iter();
        // Delta writes an empty string as null.
        let values = values.map(|value| Some(value).filter(|value| !value.is_empty()));
        PARTITION_COLUMNS.iter().map(|column| (*column).to_owned()).zip(values).collect()
    }
}

impl LiveFile {
    /// Values of [`PARTITION_COLUMNS`], in their order.
    pub fn partition_values(&self) -> Vec<String> {
        partition::parse_file_path(&self.path).map_or_else(Vec::new, |(_, _, values)| values)
    }
}

impl State {
    /// Moves on by one commit. True when the table's protocol or metadata changed, which only a full load can judge.
    pub(super) fn apply(&mut self, version: u64, actions: Vec<Action>) -> Result<bool, LakeError> {
        let mut redefined = false;
        let mut adds = Vec::new();
        for action in actions {
            redefined |= action.protocol.is_some() || action.meta_data.is_some();
            if let Some(remove) = action.remove {
                self.remove(&remove.path);
            }
            if let Some(txn) = action.txn {
                self.txns.insert(txn.app_id, txn.version);
            }
            adds.extend(action.add);
        }
        // A file that gets a deletion vector is removed and added in the same commit, in any order.
        for add in adds {
            self.insert(Entry::of(add)?);
        }
        self.version = version;
        Ok(redefined)
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.files.insert(entry.live.id, entry);
    }

    fn remove(&mut self, log_path: &str) {
        let named = partition::from_log_path(log_path).and_then(|path| partition::parse_file_path(&path));
        if let Some((_, id, _)) = named {
            self.files.remove(&id);
        }
    }
}
