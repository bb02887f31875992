//! Commands on embedded state. Only one process can have it open, so a command asks the process that has: `up` answers
//! on a socket in the data directory (mode 0600). When none runs, the command opens the directory itself. Both ways end
//! in the same [`execute::execute`].
//!
//! On the socket: one line of JSON there, a [`Request`]; back come lines that say how far long work is, and then one with what
//! came of it ([`Reply`]). Then the connection closes.

use crate::{
    cli::Place,
    dead_letters::desk::{Found, Order},
    lag::report::Report,
    state::{self, State},
};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::{io::BufReader, net::UnixStream};
use tributary_backends::tables::{ApiKey, Permission};
use tributary_pipeline::check::TableReport;

pub mod execute;
pub mod server;
#[cfg(test)]
mod tests;
pub mod wire;

/// Something to do on embedded state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    CreateKey(NewKey),
    /// How far the lake is behind.
    Lag,
    /// About messages that could not be processed.
    DeadLetters(Order),
    /// Of one workspace or of all.
    ListKeys {
        workspace: Option<String>,
    },
    RevokeKey {
        id: String,
    },
    TableUrl {
        workspace: String,
    },
    /// Of one workspace or of all.
    CheckLake {
        workspace: Option<String>,
    },
    /// Of one workspace or of all.
    RebuildIndex {
        workspace: Option<String>,
    },
}

/// A key to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    pub workspace: String,
    pub label: String,
    pub source: String,
    pub permissions: Vec<Permission>,
    /// Requests per second; 0: off.
    pub rate_limit: Option<u32>,
}

/// What came of a [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "did", content = "result", rename_all = "kebab-case")]
pub enum Answer {
    KeyCreated(CreatedKey),
    Keys(Vec<KeyView>),
    KeyRevoked,
    TableUrl(String),
    Checked(Vec<CheckedTable>),
    IndexRebuilt(Vec<RebuiltIndex>),
    Lag(Report),
    DeadLetters(Found),
}

/// A fresh key: the only time that the key itself is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedKey {
    pub id: String,
    pub key: String,
    pub workspace: String,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyView {
    pub id: String,
    pub workspace: String,
    pub label: String,
    pub source: String,
    pub permissions: Vec<Permission>,
    pub rate_limit: Option<u32>,
    /// Milliseconds since the Unix epoch, like the two below.
    pub created_at: i64,
    pub last_used_at: Option<i64>,
    pub revoked_at: Option<i64>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            workspace: key.workspace,
            label: key.label,
            source: key.source,
            permissions: key.permissions,
            rate_limit: key.rate_limit,
            created_at: key.created_at.div_euclid(1_000),
            last_used_at: key.last_used_at.map(|at| at.div_euclid(1_000)),
            revoked_at: key.revoked_at.map(|at| at.div_euclid(1_000)),
        }
    }
}

/// What a check found in one workspace's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckedTable {
    pub workspace: String,
    pub version: u64,
    pub files: u64,
    /// Rows that a reader sees.
    pub live_rows: u64,
    /// Rows that deletion vectors mark.
    pub deleted_rows: u64,
    pub index_entries: u64,
    /// Of these, how many are of versions after the one that was checked: lanes are at work.
    #[serde(default)]
    pub newer_entries: u64,
    /// Identities that have landed, by the lanes' own counters.
    pub landed: u64,
    /// Everything that does not agree; 0 when all is well.
    pub finding_count: u64,
    /// The first hundred of it, in words.
    pub findings: Vec<String>,
}

impl From<TableReport> for CheckedTable {
    fn from(report: TableReport) -> Self {
        Self {
            workspace: report.workspace,
            version: report.version,
            files: report.files,
            live_rows: report.live_rows,
            deleted_rows: report.deleted_rows,
            index_entries: report.index_entries,
            newer_entries: report.newer_entries,
            landed: report.landed,
            finding_count: report.finding_count,
            findings: report.findings,
        }
    }
}

/// One workspace's index, made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuiltIndex {
    pub workspace: String,
    /// Identities in it now.
    pub entries: u64,
}

/// What comes back over the socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Not done yet, but so much of it.
    Progress(u64),
    /// Done.
    Done(Box<Answer>),
    /// Not done, and why.
    Failed(String),
}

/// Is told how much of long work is done.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Nobody looks.
pub const UNSEEN: Progress<'static> = &|_| ();

/// Has `request` done: by the process that has the data directory open, or else by this one. What is shared by
/// processes is not asked for but opened.
///
/// # Errors
/// It cannot be done, or another process has the directory and does not answer.
pub async fn ask(place: &Place, request: Request) -> anyhow::Result<Answer> {
    if place.is_shared() {
        return execute::execute(&State::open(place, None).await?, None, request, UNSEEN).await;
    }
    if !place.data.is_dir() {
        // Creating a key prepares a directory for its first `up`; the others have nothing to work on.
        if !matches!(request, Request::CreateKey(_)) {
            state::is_there(&place.data)?;
        }
        crate::output::note(&format!("creating the data directory {}", place.data.display()));
    }
    match wire::connect(&place.data).await? {
        Some(stream) => ask_running(stream, &request, UNSEEN).await,
        None => {
            let directory = Arc::new(state::lock(&place.data)?);
            let state = State::open(place, Some(&directory)).await?;
            execute::execute(&state, None, request, UNSEEN).await
        }
    }
}

/// Has `request` done by the process that has the data directory open; `None` when none does.
///
/// # Errors
/// It cannot be done, or does not answer.
pub async fn ask_if_running(
    place: &Place,
    request: &Request,
    progress: Progress<'_>,
) -> anyhow::Result<Option<Answer>> {
    match wire::connect(&place.data).await? {
        Some(stream) => ask_running(stream, request, progress).await.map(Some),
        None => Ok(None),
    }
}

async fn ask_running(stream: UnixStream, request: &Request, progress: Progress<'_>) -> anyhow::Result<Answer> {
    let mut stream = BufReader::new(stream);
    wire::write(&mut stream, request).await.context("the running `tributary up` does not take commands")?;
    loop {
        let reply = wire::read(&mut stream).await;
        match reply.context("the running `tributary up` did not answer (did it stop?)")? {
            Reply::Progress(done) => progress(done),
            Reply::Done(answer) => return Ok(*answer),
            Reply::Failed(reason) => bail!(reason),
        }
    }
}

/// The running process answered something that this one did not ask for.
pub const OTHER_VERSION: &str =
    "the running `tributary up` gave an unexpected answer: is it of another version? Restart it";
