//! Rejected records.

use super::{
    codec::{Key, decode, encode},
    failure::Classified,
    state::State,
};
use crate::tables::TablesError;
use tributary_schemas::frame::Reject;

pub(super) fn put(state: &State, rejects: &[Reject]) -> Result<(), TablesError> {
    let mut batch = state.begin();
    for reject in rejects {
        let key = Key::new().text(&reject.workspace).text(&reject.batch_id).number(reject.record_index).done()?;
        batch.insert(&state.rejects, key, encode(reject)?);
    }
    state.commit(batch)
}

/// Rejects of a batch with index > `after`, in order.
pub(super) fn page(
    state: &State,
    workspace: &str,
    batch_id: &str,
    after: Option<u32>,
    limit: usize,
) -> Result<Vec<Reject>, TablesError> {
    let of_batch = || Key::new().text(workspace).text(batch_id);
    let Some(from) = after.map_or(Some(0), |after| after.checked_add(1)) else { return Ok(Vec::new()) };
    let (from, to) = (of_batch().number(from).done()?, of_batch().number(u32::MAX).done()?);
    state
        .rejects
        .range(from..=to)
        .take(limit)
        .map(|entry| decode(&entry.value().classified()?, "rejected record"))
        .collect()
}
