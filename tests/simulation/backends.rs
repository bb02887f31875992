//! The log and the lake as the model has them: only what their ports promise.
//!
//! A partition is a list of messages with a committed offset. A table is a version that a create-only put moves, and for
//! each lane the position that moves with it. That real logs and real tables keep these promises is what their own
//! tests show.

use super::agenda::Ms;
use std::collections::HashMap;
use tributary_backends::log::Progress;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    pub(crate) workspace: usize,
    pub(crate) at: Ms,
    /// How often it has landed in a table.
    pub(crate) landed: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub(crate) messages: Vec<Message>,
    /// What the group has committed.
    pub(crate) done: i64,
    pub(crate) moved_at: Ms,
    /// Workers that wait for a message.
    pub(crate) waiting: Vec<usize>,
}

impl Partition {
    pub(crate) fn high(&self) -> i64 {
        self.messages.len() as i64
    }

    pub(crate) fn message(&self, offset: i64) -> Option<&Message> {
        self.messages.get(usize::try_from(offset).ok()?)
    }

    /// Since when the oldest message that is not done waits.
    pub(crate) fn oldest(&self) -> Option<Ms> {
        self.message(self.done).map(|message| message.at)
    }
}

#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) partitions: Vec<Partition>,
}

impl Log {
    pub(crate) fn new(partitions: u32) -> Self {
        Self { partitions: (0..partitions).map(|_| Partition::default()).collect() }
    }

    /// Appends a message; the workers that have waited for it.
    pub(crate) fn append(&mut self, lane: u32, workspace: usize, at: Ms) -> Vec<usize> {
        let partition = &mut self.partitions[lane as usize];
        partition.messages.push(Message { workspace, at, landed: 0 });
        std::mem::take(&mut partition.waiting)
    }

    pub(crate) fn progress(&self) -> Vec<Progress> {
        self.partitions.iter().map(|one| Progress { done: one.done, high: one.high() }).collect()
    }

    pub(crate) fn waiting(&self) -> i64 {
        self.partitions.iter().map(|one| one.high() - one.done).sum()
    }
}

#[derive(Debug, Default)]
struct Table {
    version: u64,
    positions: HashMap<u32, i64>,
}

/// How a put ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Done,
    /// Somebody else's commit has this version.
    Conflict,
    /// The store does not answer.
    Away,
}

#[derive(Debug)]
pub(crate) struct Lake {
    tables: Vec<Table>,
    pub(crate) is_away: bool,
    pub(crate) commits: u64,
}

impl Lake {
    pub(crate) fn new(workspaces: usize) -> Self {
        Self { tables: (0..workspaces).map(|_| Table::default()).collect(), is_away: false, commits: 0 }
    }

    pub(crate) fn version(&self, workspace: usize) -> u64 {
        self.tables[workspace].version
    }

    /// Below it everything of the lane is in the table.
    pub(crate) fn position(&self, workspace: usize, lane: u32) -> i64 {
        self.tables[workspace].positions.get(&lane).copied().unwrap_or(0)
    }

    /// One create-only put on top of `version`, which moves the lane's position with the rows.
    pub(crate) fn put(&mut self, workspace: usize, version: u64, (lane, position): (u32, i64)) -> Put {
        let table = &mut self.tables[workspace];
        if self.is_away {
            return Put::Away;
        }
        if table.version != version {
            return Put::Conflict;
        }
        table.version += 1;
        table.positions.insert(lane, position);
        self.commits += 1;
        Put::Done
    }
}
