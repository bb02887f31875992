//! The socket and what goes over it: lines of JSON.

use anyhow::{Context, ensure};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{File, Permissions},
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};
use tributary_backends::data_dir::DataDir;

/// Longest message. A check of very many tables is the longest answer there is.
const MAX_MESSAGE: u64 = 64 * 1024 * 1024;

/// Listens in the data directory; the caller holds its lock, so that a socket already there is a dead process's.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(data: &Path) -> io::Result<UnixListener> {
    let (path, _directory) = short_path(data, "socket.new")?;
    remove(&data.join("socket.new"))?;
    let listener = UnixListener::bind(path)?;
    // Only under its final name can it be found, and then it is already closed to others.
    std::fs::set_permissions(data.join("socket.new"), Permissions::from_mode(0o600))?;
    std::fs::rename(data.join("socket.new"), DataDir::socket_path(data))?;
    Ok(listener)
}

/// Removes a file that may not be there.
///
/// # Errors
/// It is there and stays.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Connects to the process that has the data directory open; `None` when nobody listens.
///
/// # Errors
/// Somebody may listen, but not to this user.
pub async fn connect(data: &Path) -> anyhow::Result<Option<UnixStream>> {
    let file = DataDir::socket_path(data);
    let (path, _directory) = short_path(data, "socket").with_context(|| format!("cannot open {}", data.display()))?;
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot ask the running process through {}", file.display())),
    }
}

/// A socket's path holds about 100 bytes; through an open directory every data directory fits. The directory must stay
/// open while the path is used.
fn short_path(data: &Path, name: &str) -> io::Result<(PathBuf, Option<File>)> {
    let path = data.join(name);
    if path.as_os_str().len() < 100 || !cfg!(target_os = "linux") {
        return Ok((path, None));
    }
    let directory = File::open(data)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())), Some(directory)))
}

/// Writes one message.
///
/// # Errors
/// The other side went away.
pub async fn write<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), message: &T) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads one message.
///
/// # Errors
/// The other side went away before its end, or it is no such message.
pub async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncBufRead + Unpin)) -> anyhow::Result<T> {
    let mut line = Vec::new();
    stream.take(MAX_MESSAGE).read_until(b'\n', &mut line).await?;
    ensure!(line.ends_with(b"\n"), "the message broke off after {} bytes", line.len());
    serde_json::from_slice(&line).context("not a message of this version of tributary")
}
