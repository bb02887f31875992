//! A disk that can be filled.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Whether this is root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").expect("/proc").uid() == 0
}

/// Whether a test may mount file systems here. For whoever may not, it is run again, and judged, in a namespace of its
/// own in which it may.
pub fn may_mount(test: &str) -> bool {
    if is_root() {
        return true;
    }
    let program = std::env::current_exe().expect("this program");
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--mount"]).arg(program).args([
        "--exact",
        test,
        "--nocapture",
        "--include-ignored",
    ]);
    let passed = again.status().expect("unshare").success();
    assert!(passed, "{test} failed in a namespace of its own; it needs root, or a kernel that allows these");
    false
}

/// A file system of its own in memory, small enough to be filled.
pub struct SmallDisk {
    place: tempfile::TempDir,
}

impl SmallDisk {
    /// An empty one.
    pub fn new(megabytes: u32) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let size = format!("size={megabytes}m");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place.path()).status();
        assert!(status.expect("mount").success());
        Self { place }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Leaves only so many bytes free (a multiple of 4 KiB).
    pub fn leave(&self, free: u64) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.filler()).expect("a file");
        let block = [0; 4096];
        let mut written = 0;
        while file.write_all(&block).is_ok() {
            written += 4096;
        }
        file.set_len(written - free.min(written)).expect("shorter");
    }

    /// Takes that away.
    pub fn make_room(&self) {
        std::fs::remove_file(self.filler()).expect("the filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
