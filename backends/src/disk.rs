//! How much room there is where a directory is.

use std::{io, path::Path};

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// That we may still write; what is kept for root is not among them.
    pub free: u64,
    /// Of the whole.
    pub size: u64,
}

/// The room of the file system that `path` is on.
///
/// # Errors
/// The path is not there, or its file system does not tell.
pub fn room(path: &Path) -> io::Result<Room> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Room { free: bytes(stat.f_bavail), size: bytes(stat.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_on_a_disk_that_has_at_most_its_size_free() {
        let directory = tempfile::tempdir().unwrap();
        let room = room(directory.path()).unwrap();
        assert!(room.free > 0 && room.free <= room.size, "{room:?}");
        assert!(super::room(&directory.path().join("nothing")).is_err());
    }
}
