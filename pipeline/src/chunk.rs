//! A chunk on its way through a lane: a type per stage, offsets riding along.
//!
//! [`RawChunk`] → [`NormalizedChunk`] → per table [`DedupedChunk`] → [`WrittenChunk`] → [`Committed`].

use crate::{dedup::Outcomes, dedup::Seen, lake::WrittenFiles, normalize::Attachments};
use arrow::record_batch::RecordBatch;
use tokio::sync::OwnedSemaphorePermit;
use tributary_backends::{log::Message, tables::Location};
use tributary_schemas::{batch::Fact, frame::DeadLetter, identity::Identity};

/// Consecutive messages of one partition as they were read.
#[derive(Debug, Default)]
pub(crate) struct RawChunk {
    pub(crate) messages: Vec<Message>,
    /// Bytes of their keys and values.
    pub(crate) bytes: usize,
    /// Its part of the memory budget, given back when the chunk is dropped.
    pub(crate) held: Option<OwnedSemaphorePermit>,
}

impl RawChunk {
    /// Offset after the last message; `None` without messages.
    pub(crate) fn next(&self) -> Option<i64> {
        self.messages.last().map(|message| message.offset + 1)
    }
}

/// A chunk as columns, and what could not become columns.
#[derive(Debug)]
pub(crate) struct NormalizedChunk {
    /// Offset after the last message.
    pub(crate) next: i64,
    /// What the chunk holds for each workspace.
    pub(crate) tables: Vec<TableChunk>,
    /// Messages to put aside before the offsets move.
    pub(crate) dead: Vec<DeadLetter>,
    /// How many of `dead` name no workspace that can be trusted, so that no table counts them.
    pub(crate) dead_without_table: u64,
    /// As in [`RawChunk`]; the columns need it still.
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) held: Option<OwnedSemaphorePermit>,
}

/// One workspace's part of a chunk, in offset order.
#[derive(Debug)]
pub(crate) struct TableChunk {
    pub(crate) workspace: String,
    /// Offset after the chunk that this is a part of.
    pub(crate) next: i64,
    /// Rows of the table.
    pub(crate) rows: RecordBatch,
    /// Offset of each row.
    pub(crate) offsets: Vec<i64>,
    /// Who and what each row is.
    pub(crate) seen: Vec<Seen>,
    /// Offsets of its dead letters.
    pub(crate) dead: Vec<i64>,
    /// Of its records; said once they are committed.
    pub(crate) attachments: Option<Attachments>,
    /// By batch; said after that.
    pub(crate) facts: Vec<(String, Fact)>,
}

impl TableChunk {
    /// How many messages it is made of, dead letters too.
    pub(crate) fn records(&self) -> u64 {
        (self.offsets.len() + self.dead.len()) as u64
    }
}

/// The rows that have to be written, and those that they replace.
#[derive(Debug)]
pub(crate) struct DedupedChunk {
    pub(crate) next: i64,
    pub(crate) outcomes: Outcomes,
    pub(crate) rows: RecordBatch,
    /// Of each row: who, content hash, version.
    pub(crate) keys: Vec<(Identity, i64, i64)>,
    pub(crate) replaced: Vec<Location>,
}

/// The same with its rows in files that nobody can see yet.
#[derive(Debug)]
pub(crate) struct WrittenChunk {
    pub(crate) deduped: DedupedChunk,
    pub(crate) files: WrittenFiles,
}

/// A chunk that is in the table.
#[derive(Debug)]
pub(crate) struct Committed {
    /// Version of the table that has it.
    pub(crate) version: u64,
    /// What the index has to learn.
    pub(crate) entries: Vec<(Identity, Location)>,
}
