//! What was written down at first start.

use super::{
    codec::{decode, encode},
    state::{State, get},
};
use crate::tables::TablesError;
use tributary_schemas::identity::Lanes;

const LANES: &str = "lanes";
const STARTS: &str = "starts";

/// The lanes written down, or else `wanted`, written down now.
pub(super) fn lanes(state: &State, wanted: Lanes) -> Result<Lanes, TablesError> {
    if let Some(row) = get(&state.settings, LANES.as_bytes())? {
        return decode(&row, "number of lanes");
    }
    let mut batch = state.begin();
    batch.insert(&state.settings, LANES, encode(&wanted)?);
    state.commit(batch)?;
    Ok(wanted)
}

/// Counts this start. Durable at the latest with the first change that follows, which is all that uses it.
pub(super) fn count_start(state: &State) -> Result<u64, TablesError> {
    let last: u64 = match get(&state.settings, STARTS.as_bytes())? {
        Some(row) => decode(&row, "number of starts")?,
        None => 0,
    };
    let this = last + 1;
    let mut batch = state.begin();
    batch.insert(&state.settings, STARTS, encode(&this)?);
    state.commit(batch)?;
    Ok(this)
}
