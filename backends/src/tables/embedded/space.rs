//! Room on the disk, looked at before each write.
//!
//! A write that fails half-way poisons `fjall` until it is opened anew. So writes are refused while there is little
//! room left, and go on by themselves once there is room again.

use crate::{disk, tables::TablesError};
use std::path::PathBuf;

/// Watches the file system of one directory.
#[derive(Debug, Clone)]
pub(super) struct Space {
    dir: PathBuf,
    reserve: u64,
}

impl Space {
    /// Refuses writes below `reserve` bytes of free space.
    pub(super) fn of(dir: PathBuf, reserve: u64) -> Self {
        Self { dir, reserve }
    }

    /// [`TablesError::Full`] when there is too little room to begin a write.
    pub(super) fn check(&self) -> Result<(), TablesError> {
        // A file system that does not tell is taken to have room; a write that fails says so itself.
        let Ok(disk::Room { free, .. }) = disk::room(&self.dir) else { return Ok(()) };
        if free < self.reserve {
            return Err(TablesError::Full(format!(
                "{} has {free} bytes left, and writes stop below {}: make room there",
                self.dir.display(),
                self.reserve
            )));
        }
        Ok(())
    }
}
