//! The log's id: a UUID in a file, written when the log is made.

use super::{corrupt, io_error};
use crate::{log::LogError, world::World};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};
use uuid::Uuid;

const NAME: &str = "id";

/// The id of the log in `dir`, made when there is none. A log that lost only its id gets another: its messages then
/// land again, and are found unchanged.
pub(super) fn of(dir: &Path, world: &dyn World) -> Result<String, LogError> {
    let path = dir.join(NAME);
    match fs::read_to_string(&path) {
        Ok(text) => match Uuid::try_parse(text.trim()) {
            Ok(id) => Ok(id.to_string()),
            Err(error) => Err(corrupt(&path, 0, &format!("it holds no UUID ({error}): restore it, or remove it"))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = world.uuid_v7().to_string();
            write(dir, &id).map_err(|error| io_error("write", &path, &error))?;
            Ok(id)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(corrupt(&path, 0, "it holds no text")),
        Err(error) => Err(io_error("read", &path, &error)),
    }
}

/// There whole or not at all, also after a loss of power.
fn write(dir: &Path, id: &str) -> io::Result<()> {
    let new = dir.join("id.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&new, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}
