//! A table's newest version, read from nothing: the kernel finds and judges the log and reads its checkpoint, the
//! commits after it are read here, the same way as [`super::Table::refresh`] reads them.

use super::{
    LakeError,
    actions::{self, Action, Add, Txn, Vector},
    state::{Entry, State},
    store::{CONCURRENCY, KernelEngine, Store},
};
use arrow::{
    array::{Array, ArrayRef, AsArray, StructArray},
    datatypes::{Int32Type, Int64Type},
    record_batch::RecordBatch,
};
use delta_kernel::{
    KernelResult, Snapshot,
    actions::{LOG_ADD_SCHEMA, LOG_TXN_SCHEMA},
    engine::arrow_data::EngineDataArrowExt,
    log_segment::LogSegment,
    schema::StructType,
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use std::sync::Arc;
use url::Url;

/// Path of a commit file.
pub(super) fn commit_path(root: &Path, version: u64) -> Path {
    root.clone().join("_delta_log").join(format!("{version:020}.json"))
}

/// One commit's actions; `None` when there is no such commit.
pub(super) async fn commit(store: &Store, root: &Path, version: u64) -> Result<Option<Vec<Action>>, LakeError> {
    let path = commit_path(root, version);
    let Some(text) = store.get(&path).await? else { return Ok(None) };
    actions::from_commit(&text).map(Some).map_err(|reason| LakeError::corrupt(format!("/{path}"), reason))
}

/// The newest version; `None` when there is no table.
pub(super) async fn newest(store: &Store, url: &Url, root: &Path) -> Result<Option<State>, LakeError> {
    let log = root.clone().join("_delta_log");
    if !check_hint(store, &log).await? && !exists(store, root).await? {
        return Ok(None);
    }
    let table = url.clone();
    let loaded = store.with_kernel(move |engine| from_checkpoint(engine, &table)).await?;
    let (mut state, newest) = match loaded {
        Ok(loaded) => loaded?,
        // The kernel does not say which object it stumbled over: find it.
        Err(error) => return Err(diagnose(store, root, &log, &error).await),
    };
    let first = state.as_ref().map_or(0, |state| state.version + 1);
    let mut commits = stream::iter(first..=newest)
        .map(|version| async move { Ok((version, commit(store, root, version).await?)) })
        .buffered(CONCURRENCY);
    let state_ref = state.get_or_insert_with(State::default);
    while let Some((version, actions)) = commits.try_next().await? {
        let actions =
            actions.ok_or_else(|| LakeError::corrupt(format!("/{}", commit_path(root, version)), "it is missing"))?;
        state_ref.apply(version, actions)?;
    }
    drop(commits);
    Ok(state)
}

/// True when there is a `_last_checkpoint`. One that cannot be read is an error: the kernel would pass over it and read
/// the log from its beginning, which may be long gone.
async fn check_hint(store: &Store, log: &Path) -> Result<bool, LakeError> {
    #[derive(serde::Deserialize)]
    struct Hint {
        #[expect(dead_code, reason = "only its form is checked")]
        version: u64,
    }
    let path = log.clone().join("_last_checkpoint");
    let Some(text) = store.get(&path).await? else { return Ok(false) };
    match serde_json::from_slice::<Hint>(&text) {
        Ok(_) => Ok(true),
        Err(error) => {
            let reason =
                format!("{error}; it only says where the newest checkpoint is: delete it when the rest is sound");
            Err(LakeError::corrupt(format!("/{path}"), reason))
        }
    }
}

/// True when there is a table below `root`, whether it can be read or not.
pub(super) async fn exists(store: &Store, root: &Path) -> Result<bool, LakeError> {
    if store.head(&commit_path(root, 0)).await?.is_some() {
        return Ok(true);
    }
    let objects = store.list(&root.clone().join("_delta_log")).await?;
    Ok(objects.iter().any(|object| object.location.as_ref().ends_with(".json")))
}

type Loaded = Result<(Option<State>, u64), LakeError>;

/// The state of the newest checkpoint, if there is one, and the newest version.
fn from_checkpoint(engine: &KernelEngine, url: &Url) -> KernelResult<Loaded> {
    let snapshot = Snapshot::builder_for(url).build(engine)?;
    let newest = snapshot.version();
    let mut segment: LogSegment = snapshot.log_segment().clone();
    let Some(version) = segment.checkpoint_version else { return Ok(Ok((None, newest))) };
    segment.listed.ascending_commit_files.clear();
    segment.listed.ascending_compaction_files.clear();
    let fields = LOG_ADD_SCHEMA.fields().chain(LOG_TXN_SCHEMA.fields()).cloned();
    let schema = Arc::new(StructType::try_new(fields)?);
    let mut state = State { version, ..State::default() };
    for batch in segment.read_actions(engine, schema)? {
        let batch = batch?.actions.try_into_record_batch()?;
        if let Err(error) = read_batch(&mut state, &batch) {
            return Ok(Err(error));
        }
    }
    Ok(Ok((Some(state), newest)))
}

fn read_batch(state: &mut State, batch: &RecordBatch) -> Result<(), LakeError> {
    let (Some(adds), Some(txns)) = (structs(batch.column_by_name("add")), structs(batch.column_by_name("txn"))) else {
        return Err(LakeError::corrupt("_delta_log", "a checkpoint without add and txn"));
    };
    for row in 0..batch.num_rows() {
        if adds.is_valid(row) {
            let add =
                add(adds, row).ok_or_else(|| LakeError::corrupt("_delta_log", "an add action without its path"))?;
            state.insert(Entry::of(add)?);
        }
        if txns.is_valid(row) {
            let txn = txn(txns, row).ok_or_else(|| LakeError::corrupt("_delta_log", "a txn action without its id"))?;
            state.txns.insert(txn.app_id, txn.version);
        }
    }
    Ok(())
}

fn add(adds: &StructArray, row: usize) -> Option<Add> {
    let vector = structs(adds.column_by_name("deletionVector")).filter(|vectors| vectors.is_valid(row));
    Some(Add {
        path: text(adds, "path", row)?,
        // Read from the path, which is what named the file.
        partition_values: Default::default(),
        size: u64::try_from(long(adds, "size", row)?).ok()?,
        modification_time: long(adds, "modificationTime", row)?,
        data_change: false,
        stats: text(adds, "stats", row),
        deletion_vector: match vector {
            Some(vectors) => Some(self::vector(vectors, row)?),
            None => None,
        },
    })
}

fn vector(vectors: &StructArray, row: usize) -> Option<Vector> {
    Some(Vector {
        storage_type: text(vectors, "storageType", row)?,
        path_or_inline_dv: text(vectors, "pathOrInlineDv", row)?,
        offset: int(vectors, "offset", row),
        size_in_bytes: int(vectors, "sizeInBytes", row)?,
        cardinality: long(vectors, "cardinality", row)?,
    })
}

fn txn(txns: &StructArray, row: usize) -> Option<Txn> {
    Some(Txn { app_id: text(txns, "appId", row)?, version: long(txns, "version", row)?, last_updated: None })
}

fn structs(column: Option<&ArrayRef>) -> Option<&StructArray> {
    column?.as_struct_opt()
}

fn text(of: &StructArray, name: &str, row: usize) -> Option<String> {
    let column = of.column_by_name(name)?.as_string_opt::<i32>()?;
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn long(of: &StructArray, name: &str, row: usize) -> Option<i64> {
    let column = of.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
    column.is_valid(row).then(|| column.value(row))
}

fn int(of: &StructArray, name: &str, row: usize) -> Option<i32> {
    let column = of.column_by_name(name)?.as_primitive_opt::<Int32Type>()?;
    column.is_valid(row).then(|| column.value(row))
}

/// Names the object that the kernel could not read: the first commit file that does not read, or the newest checkpoint.
async fn diagnose(store: &Store, root: &Path, log: &Path, error: &delta_kernel::KernelError) -> LakeError {
    let classified = LakeError::of_kernel(format!("/{log}"), error);
    if !matches!(classified, LakeError::Corrupt { .. }) {
        return classified;
    }
    let mut names = match store.list(log).await {
        Ok(objects) => objects.into_iter().map(|object| object.location).collect::<Vec<_>>(),
        Err(error) => return error,
    };
    names.sort();
    let checkpoint = names.iter().rev().find(|name| name.as_ref().contains(".checkpoint"));
    let covered = checkpoint.and_then(version_of);
    for version in names.iter().filter(|name| name.as_ref().ends_with(".json")).filter_map(version_of) {
        if covered.is_some_and(|covered| version <= covered) {
            continue;
        }
        if let Err(error) = commit(store, root, version).await {
            return error;
        }
    }
    match checkpoint {
        Some(path) => LakeError::corrupt(format!("/{path}"), error),
        None => classified,
    }
}

fn version_of(path: &Path) -> Option<u64> {
    path.filename()?.get(..20)?.parse().ok()
}
