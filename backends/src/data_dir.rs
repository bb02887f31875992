//! The data directory of the embedded backends: its layout, and the lock that keeps a second process out.
//!
//! ```text
//! DIR/lock      locked by the process that runs on DIR, whose id it holds
//! DIR/version   the layout's number
//! DIR/log/      the embedded log
//! DIR/tables/   the embedded tables
//! DIR/lake/     the lake, unless it is elsewhere
//! DIR/socket    where the running process answers commands
//! ```
//!
//! What is made here only its owner may read or change. The lock is the operating system's: it ends with the process,
//! however that ends.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{ErrorKind, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// The only layout so far.
const LAYOUT: u32 = 1;
const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
/// A glance of [`DataDir::running`] holds the lock for a moment; only who holds it longer runs here.
const GLANCES: u32 = 20;
const GLANCE: Duration = Duration::from_millis(10);

/// Why a directory cannot be used. The operator must act on every one of them.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Only one process at a time may.
    #[error("{} is in use by another process{}: stop it, or take another directory", dir.display(), with_id(*pid))]
    InUse {
        /// Which directory.
        dir: PathBuf,
        /// The other process, when it has said.
        pid: Option<u32>,
    },
    /// It cannot be written to.
    #[error("{} cannot be written to ({reason}): give this user write permission, or take another directory", dir.display())]
    ReadOnly {
        /// Which directory or file.
        dir: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Files made by this process would shut out its owner, and the other way round.
    #[error(
        "{} belongs to user id {owner}, and this process runs as {user}: run it as that user, or change the owner",
        dir.display()
    )]
    NotOwner {
        /// Which directory.
        dir: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs this process.
        user: u32,
    },
    /// There is something else of that name.
    #[error("{} is not a directory: take another path", dir.display())]
    NotADirectory {
        /// Which path.
        dir: PathBuf,
    },
    /// An older version must not touch it.
    #[error(
        "{} was made by a newer version (layout {found}, this one knows {LAYOUT}): run that version",
        dir.display()
    )]
    Newer {
        /// Which directory.
        dir: PathBuf,
        /// Its layout.
        found: u32,
    },
    /// Anything else the file system says.
    #[error("{} cannot be used: {reason}", path.display())]
    Unusable {
        /// Which directory or file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn with_id(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// A data directory that this process holds, until this value is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl DataDir {
    /// Makes the directory and its layout where they are missing, and takes the lock.
    ///
    /// # Errors
    /// Another process runs on it, it cannot be written to, it is another user's, it is no directory, or a newer
    /// version made it.
    pub fn lock(dir: &Path) -> Result<Self, DataDirError> {
        make_private(dir)?;
        check_owner(dir)?;
        let lock = take_lock(dir, || std::thread::sleep(GLANCE))?;
        check_version(dir)?;
        let data = Self { root: dir.to_owned(), _lock: lock };
        for part in [data.log_dir(), data.tables_dir(), data.lake_dir()] {
            make_private(&part)?;
        }
        Ok(data)
    }

    /// The process that runs on a directory, if any does: `Some(None)` when it has not said its id yet. A directory
    /// that is not there has none.
    ///
    /// # Errors
    /// The lock file is there but cannot be read.
    pub fn running(dir: &Path) -> Result<Option<Option<u32>>, DataDirError> {
        let path = lock_path(dir);
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(cannot_use(&path, &error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_pid(lock))),
            Err(TryLockError::Error(error)) => Err(cannot_use(&path, &error)),
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Of the embedded log.
    pub fn log_dir(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Of the embedded tables.
    pub fn tables_dir(&self) -> PathBuf {
        self.root.join("tables")
    }

    /// Of the lake, unless it is elsewhere.
    pub fn lake_dir(&self) -> PathBuf {
        self.root.join("lake")
    }

    /// Where the process that runs on `dir` answers commands.
    pub fn socket_path(dir: &Path) -> PathBuf {
        dir.join("socket")
    }
}

fn lock_path(dir: &Path) -> PathBuf {
    dir.join("lock")
}

/// Makes a directory that only its owner may enter; one that is there keeps its mode.
fn make_private(dir: &Path) -> Result<(), DataDirError> {
    match DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(dir) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotADirectory) => {
            Err(DataDirError::NotADirectory { dir: dir.to_owned() })
        }
        Err(error) => Err(cannot_use(dir, &error)),
    }
}

fn check_owner(dir: &Path) -> Result<(), DataDirError> {
    let owner = std::fs::metadata(dir).map_err(|error| cannot_use(dir, &error))?.uid();
    let user = rustix::process::geteuid().as_raw();
    if owner == user { Ok(()) } else { Err(DataDirError::NotOwner { dir: dir.to_owned(), owner, user }) }
}

/// Tries a few times, and calls `wait` before each but the first.
fn take_lock(dir: &Path, mut wait: impl FnMut()) -> Result<File, DataDirError> {
    let path = lock_path(dir);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE_FILE)
        .open(&path)
        .map_err(|error| cannot_use(&path, &error))?;
    for glance in 0.. {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if glance < GLANCES => wait(),
            Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::InUse { dir: dir.to_owned(), pid: read_pid(lock) });
            }
            Err(TryLockError::Error(error)) => return Err(cannot_use(&path, &error)),
        }
    }
    write_pid(&mut lock).map_err(|error| cannot_use(&path, &error))?;
    Ok(lock)
}

fn write_pid(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn read_pid(mut lock: File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Reads the layout's number; writes it at first.
fn check_version(dir: &Path) -> Result<(), DataDirError> {
    let path = dir.join("version");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return write_version(dir, &path),
        Err(error) => return Err(cannot_use(&path, &error)),
    };
    match text.trim().parse() {
        Ok(found) if found > LAYOUT => Err(DataDirError::Newer { dir: dir.to_owned(), found }),
        Ok(_) => Ok(()),
        Err(error) => Err(DataDirError::Unusable {
            path,
            reason: format!("it should hold the layout's number, and holds {text:?} ({error})"),
        }),
    }
}

/// Under another name first, so that a crash leaves either no file or a whole one.
fn write_version(dir: &Path, path: &Path) -> Result<(), DataDirError> {
    let draft = dir.join("version.new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE_FILE).open(&draft)?;
        writeln!(file, "{LAYOUT}")?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| cannot_use(path, &error))
}

fn cannot_use(path: &Path, error: &std::io::Error) -> DataDirError {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            DataDirError::ReadOnly { dir: path.to_owned(), reason: error.to_string() }
        }
        _ => DataDirError::Unusable { path: path.to_owned(), reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn makes_a_private_layout() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let data = DataDir::lock(&dir).unwrap();
        for made in [data.root().to_owned(), data.log_dir(), data.tables_dir(), data.lake_dir()] {
            assert_eq!(mode(&made), 0o700, "{}", made.display());
        }
        assert_eq!(mode(&dir.join("lock")), 0o600);
        assert_eq!(std::fs::read_to_string(dir.join("version")).unwrap(), "1\n");
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DataDir::running(dir.path()).unwrap(), None);
        let held = DataDir::lock(dir.path()).unwrap();
        assert_eq!(DataDir::running(dir.path()).unwrap(), Some(Some(std::process::id())));
        let refused = DataDir::lock(dir.path()).unwrap_err();
        assert!(
            matches!(refused, DataDirError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
            "{refused}"
        );
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        assert_eq!(DataDir::running(dir.path()).unwrap(), None);
        DataDir::lock(dir.path()).unwrap();
    }

    #[test]
    fn a_glance_does_not_shut_a_start_out() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::lock(dir.path()).unwrap());
        let glance = File::open(lock_path(dir.path())).unwrap();
        glance.lock_shared().unwrap();
        let mut glance = Some(glance);
        take_lock(dir.path(), || drop(glance.take())).unwrap();
        assert!(glance.is_none(), "it had to wait");
    }

    #[test]
    fn refuses_a_file() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(DataDir::lock(&path), Err(DataDirError::NotADirectory { .. })));
        assert!(matches!(DataDir::lock(&path.join("below")), Err(DataDirError::NotADirectory { .. })));
        assert_eq!(DataDir::running(&path).unwrap(), None);
    }

    #[test]
    fn refuses_a_newer_layout_and_nonsense() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::lock(dir.path()).unwrap());
        std::fs::write(dir.path().join("version"), "2\n").unwrap();
        assert!(matches!(DataDir::lock(dir.path()), Err(DataDirError::Newer { found: 2, .. })));
        std::fs::write(dir.path().join("version"), "new").unwrap();
        assert!(matches!(DataDir::lock(dir.path()), Err(DataDirError::Unusable { .. })));
        std::fs::write(dir.path().join("version"), "1\n").unwrap();
        DataDir::lock(dir.path()).unwrap();
    }

    #[test]
    fn refuses_what_it_may_not_write_or_does_not_own() {
        let dir = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            // Root may write anywhere, and must not leave its files in another's directory.
            std::os::unix::fs::chown(dir.path(), Some(12_345), None).unwrap();
            let refused = DataDir::lock(dir.path()).unwrap_err();
            assert!(matches!(refused, DataDirError::NotOwner { owner: 12_345, user: 0, .. }), "{refused}");
        } else {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
            let refused = DataDir::lock(dir.path()).unwrap_err();
            assert!(matches!(refused, DataDirError::ReadOnly { .. }), "{refused}");
        }
        let read_only = std::io::Error::from(ErrorKind::ReadOnlyFilesystem);
        assert!(matches!(cannot_use(dir.path(), &read_only), DataDirError::ReadOnly { .. }));
    }
}
