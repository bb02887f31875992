//! API keys.

use super::{
    codec::{Key, damaged, decode, encode},
    failure::Classified,
    state::{State, get},
};
use crate::tables::{ApiKey, TablesError};

/// A use within this many microseconds of the one noted is not noted again.
const TOUCH_EVERY: i64 = 60_000_000;

pub(super) fn create(state: &State, key: &ApiKey, limit: usize) -> Result<(), TablesError> {
    if let Some(owner) = get(&state.key_hashes, &key.hash)?
        && *owner != *key.id.as_bytes()
    {
        return Err(TablesError::Halted("this key belongs to another id already: make a new one".to_owned()));
    }
    if let Some(existing) = by_id(state, &key.id)? {
        if existing.hash == key.hash && existing.workspace == key.workspace {
            // The same call again: it must not take a second place, nor undo what came since.
            return Ok(());
        }
        return Err(TablesError::Halted(format!("there is another key {} already: make a new one", key.id)));
    }
    let live = of_workspace(state, &key.workspace)?.iter().filter(|key| key.revoked_at.is_none()).count();
    if live >= limit {
        return Err(TablesError::KeyLimit { workspace: key.workspace.clone(), limit });
    }
    let mut batch = state.begin();
    batch.insert(&state.keys, key.id.as_str(), encode(key)?);
    batch.insert(&state.key_hashes, key.hash, key.id.as_str());
    batch.insert(&state.workspace_keys, Key::new().text(&key.workspace).last(key.id.as_bytes()).done()?, []);
    state.commit(batch)
}

/// All keys, oldest first.
pub(super) fn list(state: &State, workspace: Option<&str>) -> Result<Vec<ApiKey>, TablesError> {
    let mut keys = match workspace {
        Some(workspace) => of_workspace(state, workspace)?,
        None => state
            .keys
            .iter()
            .map(|row| decode(&row.value().classified()?, "API key"))
            .collect::<Result<Vec<ApiKey>, _>>()?,
    };
    keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(keys)
}

pub(super) fn by_hash(state: &State, hash: &[u8; 32]) -> Result<Option<ApiKey>, TablesError> {
    let Some(id) = get(&state.key_hashes, hash)? else { return Ok(None) };
    let id = std::str::from_utf8(&id).map_err(|error| damaged("API key", &error))?;
    by_id(state, id)
}

/// False when there is no such key.
pub(super) fn revoke(state: &State, id: &str, at: i64) -> Result<bool, TablesError> {
    let Some(mut key) = by_id(state, id)? else { return Ok(false) };
    if key.revoked_at.is_none() {
        key.revoked_at = Some(at);
        replace(state, &key)?;
    }
    Ok(true)
}

pub(super) fn touch(state: &State, id: &str, at: i64) -> Result<(), TablesError> {
    let Some(mut key) = by_id(state, id)? else { return Ok(()) };
    if key.last_used_at.is_none_or(|last| at.saturating_sub(last) >= TOUCH_EVERY) {
        key.last_used_at = Some(at);
        replace(state, &key)?;
    }
    Ok(())
}

fn replace(state: &State, key: &ApiKey) -> Result<(), TablesError> {
    let mut batch = state.begin();
    batch.insert(&state.keys, key.id.as_str(), encode(key)?);
    state.commit(batch)
}

fn of_workspace(state: &State, workspace: &str) -> Result<Vec<ApiKey>, TablesError> {
    let prefix = Key::new().text(workspace).done()?;
    let mut keys = Vec::new();
    for entry in state.workspace_keys.prefix(&prefix) {
        let entry = entry.key().classified()?;
        let id = std::str::from_utf8(&entry[prefix.len()..]).map_err(|error| damaged("API key", &error))?;
        keys.push(by_id(state, id)?.ok_or_else(|| damaged("API key", "its row is missing"))?);
    }
    Ok(keys)
}

fn by_id(state: &State, id: &str) -> Result<Option<ApiKey>, TablesError> {
    if id.is_empty() {
        return Ok(None);
    }
    get(&state.keys, id.as_bytes())?.map(|row| decode(&row, "API key")).transpose()
}
