//! What a failure of `fjall` means to the caller.

use crate::tables::TablesError;
use std::io::ErrorKind;

/// Classifies by what the caller must do.
pub(super) fn classify(error: &fjall::Error) -> TablesError {
    match error {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => classify_io(io),
        fjall::Error::Poisoned => TablesError::Halted(
            "the tables take no more writes, because an earlier one failed (see the log): \
             solve its cause and start again; nothing acknowledged is lost"
                .to_owned(),
        ),
        fjall::Error::Locked => TablesError::Halted("another process has the tables open: stop it first".to_owned()),
        fjall::Error::InvalidVersion(version) => TablesError::Halted(format!(
            "the tables have a format that this version does not know ({version:?}): run the version that wrote them"
        )),
        other => TablesError::Halted(format!(
            "the tables' files are damaged ({other:?}): restore the data directory from a backup"
        )),
    }
}

fn classify_io(error: &std::io::Error) -> TablesError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => TablesError::Full(error.to_string()),
        ErrorKind::Interrupted | ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            TablesError::Unavailable(error.to_string())
        }
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => TablesError::Halted(format!(
            "the tables' files are damaged ({error}): restore the data directory from a backup"
        )),
        _ => TablesError::Halted(format!("the tables' files cannot be used: {error}")),
    }
}

/// A task or thread of the tables is gone.
pub(super) fn stopped(what: &str) -> TablesError {
    TablesError::Halted(format!("the tables' {what} has stopped"))
}

/// Lets `?` classify.
pub(super) trait Classified<T> {
    fn classified(self) -> Result<T, TablesError>;
}

impl<T> Classified<T> for fjall::Result<T> {
    fn classified(self) -> Result<T, TablesError> {
        self.map_err(|error| classify(&error))
    }
}
