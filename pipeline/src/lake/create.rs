//! A new table: its first commit.

use super::{LakeError, actions, load, store::Store};
use arrow::datatypes::Schema;
use delta_kernel::{engine::arrow_conversion::TryFromArrow, schema::StructType};
use object_store::path::Path;
use serde_json::json;
use tributary_backends::world::World;
use tributary_schemas::columns::PARTITION_COLUMNS;
use uuid::Uuid;

/// Commits between two checkpoints.
pub(super) const CHECKPOINT_EVERY: u64 = 100;

/// Writes the first commit below `root`. When someone else just did, theirs stands.
///
/// Written here rather than by the kernel's builder, which takes time and the table's id from outside [`World`].
pub(super) async fn create(store: &Store, world: &dyn World, root: &Path, schema: &Schema) -> Result<(), LakeError> {
    let now = world.now_micros() / 1_000;
    let id = world.uuid_v7();
    let body = first_commit(schema, id, now)?;
    match store.create(&load::commit_path(root, 0), body.into()).await {
        Ok(()) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(LakeError::not_put(root, error)),
    }
}

fn first_commit(schema: &Schema, id: Uuid, now: i64) -> Result<Vec<u8>, LakeError> {
    let failed = |error: &dyn std::fmt::Display| LakeError::Halted(format!("a schema that Delta cannot hold: {error}"));
    let schema = StructType::try_from_arrow(schema).map_err(|error| failed(&error))?;
    let schema = serde_json::to_string(&schema).map_err(|error| failed(&error))?;
    let protocol = json!({"protocol": {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors"],
    }});
    let metadata = json!({"metaData": {
        "id": id.to_string(),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema,
        "partitionColumns": PARTITION_COLUMNS,
        "configuration": {
            "delta.enableDeletionVectors": "true",
            "delta.checkpointInterval": CHECKPOINT_EVERY.to_string(),
            // Each overwrite leaves a tombstone, which every checkpoint carries along until it is this old.
            "delta.deletedFileRetentionDuration": "interval 1 days",
        },
        "createdTime": now,
    }});
    actions::to_commit(now, "CREATE TABLE", id, &[protocol, metadata]).map_err(|error| failed(&error))
}
