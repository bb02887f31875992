//! Rows whose fields no statement asks for are stored as JSON, which new fields do not change, and people can read.

use crate::tables::TablesError;
use serde::{Serialize, de::DeserializeOwned};

pub(super) fn encode(row: &impl Serialize) -> Result<String, TablesError> {
    serde_json::to_string(row).map_err(|error| TablesError::Halted(format!("cannot store a row: {error}")))
}

/// `what` names the row in errors.
pub(super) fn decode<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, TablesError> {
    serde_json::from_str(text).map_err(|error| {
        TablesError::Halted(format!("a stored {what} does not read: {error}; was it written by a newer program?"))
    })
}
