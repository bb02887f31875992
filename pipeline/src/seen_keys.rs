//! Which identities a lane may have written to a table: all that the index has, read before the lane lands anything or, where
//! they are many, beside its work.
//!
//! **A filter that is not whole is never asked.** As long as the index is being read, every identity may have been written
//! before, so each is looked up: slower, and right. Meanwhile the filter takes in what comes into the table, by commits of
//! this lane and of others, from the version on at which the reading began. The reading gives everything up to that version:
//! it counts only if the index was complete up to it before the first entry was read, and was not dropped before the last
//! one was (`KeyIndex::scan`). Both together are all of it.
//!
//! **What was read is held against the table** all the same, in case that an index lies: it has one entry for each live
//! row. What came during the reading may have been read or not, so there must be at least as many entries as there were rows
//! at its beginning, and at most as many as there are at its end. So that new keys cannot stand in for lost ones, those that
//! are no newer than its beginning are counted by themselves: each row of then that is still live has had such an entry all the
//! time, so there must be at least as many. What is left is that an entry that was read before its row was overwritten can
//! stand in for a lost one; for a lane that overwrites nothing meanwhile the count is exact.
//!
//! A small part is read first and so held against its table before anything is looked up in it. Of a large one that has lost
//! entries under its watermark, which no index should, rows may be doubled until it is read; docs/ARCHITECTURE.md says what
//! that takes.

use crate::{
    context::Context,
    filter::SeenFilter,
    index::{self, Scan, files_of, rows_of},
    lake::{LiveFile, Table},
    trouble::{Trouble, patiently},
};
use std::{collections::HashSet, sync::Arc};
use tokio_util::task::AbortOnDropHandle;
use tributary_backends::tables::IndexPart;
use tributary_schemas::identity::Identity;
use uuid::Uuid;

#[derive(Debug)]
pub(crate) struct SeenKeys {
    /// Of all identities when the state is `Whole`, else of those that came since the reading began.
    filter: SeenFilter,
    state: State,
}

#[derive(Debug)]
enum State {
    Whole,
    Reading {
        /// Version of the table when it began.
        version: u64,
        /// Rows of the lane at that version.
        live: u64,
        /// The files that they are in.
        files: HashSet<Uuid>,
        /// Ends with its owner.
        task: AbortOnDropHandle<Result<Scan, Trouble>>,
    },
    /// It was in vain.
    Unread,
}

/// How a reading has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Not yet, or well: the filter is whole.
    Well,
    /// The index was dropped meanwhile: it has to be read again.
    InVain,
    /// It has not what the table has.
    Wrong(String),
}

impl SeenKeys {
    /// All of them are in the filter.
    pub(crate) fn whole(filter: SeenFilter) -> Self {
        Self { filter, state: State::Whole }
    }

    /// Begins to read the index, which has been brought up to the table's version.
    pub(crate) fn read(context: &Arc<Context>, table: &Table, part: &IndexPart) -> Self {
        let (version, live) = (table.version(), index::live_rows(table, part.lane));
        let files = files_of(table, part.lane).map(|file| file.id).collect();
        let (context, part) = (context.clone(), part.clone());
        let task = tokio::spawn(async move {
            // A process that gets many large tables at once has work to do besides.
            let _turn = context.readings.acquire().await.map_err(|closed| Trouble::Halt(closed.to_string()))?;
            patiently!(context.patience, "reading the key index", index::scan(&*context.tables, &part, live, version))
        });
        let state = State::Reading { version, live, files, task: AbortOnDropHandle::new(task) };
        Self { filter: SeenFilter::with_capacity(0), state }
    }

    pub(crate) fn may_contain(&self, identity: &Identity) -> bool {
        !matches!(self.state, State::Whole) || self.filter.may_contain(identity)
    }

    /// It is in the table now.
    pub(crate) fn insert(&mut self, identity: &Identity) {
        self.filter.insert(identity);
    }

    /// A reading has ended, and is to be judged.
    pub(crate) fn is_to_be_judged(&self) -> bool {
        match &self.state {
            State::Whole => false,
            State::Reading { task, .. } => task.is_finished(),
            State::Unread => true,
        }
    }

    /// Judges a reading that has ended, when the lane has these files. It stays to be judged unless it ended well.
    pub(crate) async fn judge(&mut self, now: &[&LiveFile]) -> Result<Ended, Trouble> {
        if !self.is_to_be_judged() {
            return Ok(Ended::Well);
        }
        let State::Reading { version, live: at_least, files, task } = std::mem::replace(&mut self.state, State::Unread)
        else {
            return Ok(Ended::InVain);
        };
        let Scan { filter, entries, old, complete_to } =
            task.await.map_err(|panic| Trouble::Halt(panic.to_string()))??;
        if complete_to.is_none_or(|to| to < version) {
            return Ok(Ended::InVain);
        }
        let live = rows_of(now.iter().copied());
        let left = rows_of(now.iter().copied().filter(|file| files.contains(&file.id)));
        if !(at_least..=live).contains(&entries) {
            return Ok(Ended::Wrong(format!("the index has {entries} entries for {at_least} to {live} live rows")));
        }
        if old < left {
            return Ok(Ended::Wrong(format!(
                "the index has {old} entries up to version {version} for {left} live rows"
            )));
        }
        self.filter.absorb(filter);
        self.state = State::Whole;
        Ok(Ended::Well)
    }
}
