//! Commands of the binary that run to their end.

use std::{ffi::OsStr, path::Path, process::Command};

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Finished {
    /// Standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The same, having ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// A command of the binary under test, with nothing of the surrounding environment that could steer it.
pub fn command<S: AsRef<OsStr>>(directory: &Path, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
    let steers = |name: &OsStr| ["TRIBUTARY_", "OTEL_"].iter().any(|start| name.to_string_lossy().starts_with(start));
    for (name, _) in std::env::vars_os().filter(|(name, _)| steers(name)) {
        command.env_remove(name);
    }
    command.current_dir(directory).env("XDG_STATE_HOME", directory.join("state")).args(args);
    command
}

/// Runs `tributary …` in `directory`, off the test's runtime.
pub async fn tributary<S: AsRef<OsStr>>(directory: &Path, args: impl IntoIterator<Item = S>) -> Finished {
    finish(command(directory, args)).await
}

/// Runs a command to its end.
pub async fn finish(mut command: Command) -> Finished {
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it starts");
    Finished {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
