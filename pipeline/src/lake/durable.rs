//! Data files on a local disk: written plainly, made durable together.
//!
//! A file's bytes, its name in its directory and the names of new directories above it must all be on the disk before
//! a commit refers to the file, since the log that it came from is cut once the commit is there. `object_store` syncs
//! every file by itself, which for a chunk of a thousand small files is a thousand waits for the disk. Here many files
//! are written first and then synced with one `syncfs`, and few are synced one by one, so that other writers of the
//! same disk are not waited for.

use super::LakeError;
use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

/// Up to so many files are synced one by one. Only Linux can wait for one file system to be on the disk.
const FEW: usize = if cfg!(target_os = "linux") { 16 } else { usize::MAX };

/// Files of one chunk that are written but not yet durable.
pub(super) struct UnsyncedFiles {
    root: PathBuf,
    files: Vec<PathBuf>,
    directories: HashSet<PathBuf>,
}

impl UnsyncedFiles {
    /// Files below `root`, an existing directory.
    pub(super) fn below(root: PathBuf) -> Self {
        Self { root, files: Vec::new(), directories: HashSet::new() }
    }

    /// Writes a new file; its directories are created.
    pub(super) fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), LakeError> {
        let path = self.root.join(path);
        let mut file = self.create(&path).map_err(|error| LakeError::of_io(&path, &error))?;
        file.write_all(bytes).map_err(|error| LakeError::of_io(&path, &error))?;
        self.files.push(path);
        Ok(())
    }

    fn create(&mut self, path: &Path) -> std::io::Result<File> {
        if let Some(directory) = path.parent().filter(|directory| !self.directories.contains(*directory)) {
            fs::create_dir_all(directory)?;
            // A directory that exists may have been made by a chunk whose process died before it synced.
            for above in directory.ancestors().take_while(|above| above.starts_with(&self.root)) {
                if !self.directories.insert(above.to_path_buf()) {
                    break;
                }
            }
        }
        File::create_new(path)
    }

    /// Returns when everything written is on the disk.
    pub(super) fn sync(self) -> Result<(), LakeError> {
        let synced = if self.files.len() > FEW { self.sync_file_system() } else { self.sync_each() };
        synced.map_err(|error| LakeError::of_io(&self.root, &error))
    }

    fn sync_each(&self) -> std::io::Result<()> {
        for file in &self.files {
            File::open(file)?.sync_all()?;
        }
        for directory in &self.directories {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn sync_file_system(&self) -> std::io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.root)?)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_file_system(&self) -> std::io::Result<()> {
        self.sync_each()
    }
}
