//! Checkpoints of the Delta log, so that a table of many commits opens as quickly as one of few.

use super::{LakeError, store::Store};
use delta_kernel::Snapshot;
use url::Url;

/// Writes the checkpoint of `version` and `_last_checkpoint`. The commits that it sums up stay, so a crash anywhere in
/// between harms nothing.
pub(super) async fn write(store: &Store, url: &Url, version: u64) -> Result<(), LakeError> {
    let table = url.clone();
    let written = store.with_kernel(move |engine| {
        let snapshot = Snapshot::builder_for(&table).at_version(version).build(engine)?;
        snapshot.checkpoint(engine, None).map(drop)
    });
    written.await?.map_err(|error| LakeError::of_kernel(url, &error))?;
    tributary_backends::crash::point("lake.after_checkpoint");
    Ok(())
}
