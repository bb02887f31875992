//! What a batch lists beside its records: rejected ones, and attachments. Rows in a keyspace of their own, under
//! workspace, batch id and the place in the batch, read back page by page in the order of the places.

use super::{
    codec::{Key, decode, encode},
    failure::Classified,
    state::State,
};
use crate::tables::{AttachmentPosition, TablesError};
use fjall::Keyspace;
use serde::{Serialize, de::DeserializeOwned};
use std::ops::Bound;
use tributary_schemas::frame::{Attachment, Reject};

/// A row that stands at a place of a batch.
pub(super) trait Listed: Serialize + DeserializeOwned {
    /// Names it in errors.
    const NAME: &'static str;
    type Place;
    /// There is none behind it.
    const LAST: Self::Place;

    fn keyspace(state: &State) -> &Keyspace;
    /// Workspace, batch id, place.
    fn stands_at(&self) -> (&str, &str, Self::Place);
    /// Appends the place, so that keys sort by it.
    fn add(key: Key, place: Self::Place) -> Key;
}

impl Listed for Reject {
    const NAME: &'static str = "rejected record";
    type Place = u32;
    const LAST: u32 = u32::MAX;

    fn keyspace(state: &State) -> &Keyspace {
        &state.rejects
    }

    fn stands_at(&self) -> (&str, &str, u32) {
        (&self.workspace, &self.batch_id, self.record_index)
    }

    fn add(key: Key, index: u32) -> Key {
        key.number(index)
    }
}

impl Listed for Attachment {
    const NAME: &'static str = "attachment";
    type Place = AttachmentPosition;
    const LAST: AttachmentPosition = AttachmentPosition { record_index: u32::MAX, n: u32::MAX };

    fn keyspace(state: &State) -> &Keyspace {
        &state.attachments
    }

    fn stands_at(&self) -> (&str, &str, AttachmentPosition) {
        (&self.workspace, &self.batch_id, AttachmentPosition { record_index: self.record_index, n: self.n })
    }

    fn add(key: Key, AttachmentPosition { record_index, n }: AttachmentPosition) -> Key {
        key.number(record_index).number(n)
    }
}

/// Writes all rows at once; what stands at the same place already is overwritten.
pub(super) fn put<T: Listed>(state: &State, rows: &[T]) -> Result<(), TablesError> {
    let mut batch = state.begin();
    for row in rows {
        let (workspace, batch_id, place) = row.stands_at();
        let key = T::add(Key::new().text(workspace).text(batch_id), place).done()?;
        batch.insert(T::keyspace(state), key, encode(row)?);
    }
    state.commit(batch)
}

/// Rows of a batch behind `after`, in order.
pub(super) fn page<T: Listed>(
    state: &State,
    workspace: &str,
    batch_id: &str,
    after: Option<T::Place>,
    limit: usize,
) -> Result<Vec<T>, TablesError> {
    let of_batch = || Key::new().text(workspace).text(batch_id);
    let from = match after {
        Some(after) => Bound::Excluded(T::add(of_batch(), after).done()?),
        None => Bound::Included(of_batch().done()?),
    };
    let to = Bound::Included(T::add(of_batch(), T::LAST).done()?);
    let rows = T::keyspace(state).range((from, to)).take(limit);
    rows.map(|entry| decode(&entry.value().classified()?, T::NAME)).collect()
}
