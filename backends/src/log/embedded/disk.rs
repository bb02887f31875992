//! The few things asked of a file system, each as durable as it says, behind a trait so that tests can make them fail.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
};

/// Writing and syncing of segment files.
pub trait Disk: Send + Sync + std::fmt::Debug + 'static {
    /// Writes all of `bytes` at the file's cursor.
    ///
    /// # Errors
    /// Any part may have been written.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file's contents and length durable.
    ///
    /// # Errors
    /// What was written since the last success may be on the disk or not, and trying again proves nothing.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The file system as it is.
#[derive(Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Cuts the file to `len` bytes and puts its cursor there.
pub fn cut(mut file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)?;
    file.seek(SeekFrom::Start(len)).map(|_| ())
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `path` with `bytes` in it so that after a crash it is there whole or not at all.
pub fn create_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(TEMPORARY);
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), sync_dir)
    })();
    if written.is_err() {
        // Best effort: what stays is removed at the next start.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Extension of files that are not yet what they will be.
pub const TEMPORARY: &str = "tmp";

/// Whether an error means that there is no room: the disk, a quota, or the largest file that the process may write.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
