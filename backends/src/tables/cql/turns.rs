//! Turns: conditional writes of one process to the same row go one after the other.
//!
//! Right they would be without, for the servers decide. But conditional writes that meet make each other fail and try
//! again, so that of forty twins at once some would run into the time-out.

use tokio::sync::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64;

/// More than there are calls at once, so that strangers rarely wait for each other.
const STRIPES: usize = 256;

/// Locks, shared by the rows whose names fall on them.
#[derive(Debug)]
pub(super) struct Turns(Vec<Mutex<()>>);

impl Turns {
    pub(super) fn new() -> Self {
        Self((0..STRIPES).map(|_| Mutex::new(())).collect())
    }

    /// Waits for this row's turn, which lasts as long as what is returned.
    pub(super) async fn of(&self, workspace: &str, row: &str) -> MutexGuard<'_, ()> {
        let hash = xxh3_64(workspace.as_bytes()) ^ xxh3_64(row.as_bytes()).rotate_left(32);
        self.0[(hash % STRIPES as u64) as usize].lock().await
    }
}
