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
//! at its beginning, and at most as many as there are at its end. For a lane without work that is exact. A small part is read
//! first and so held against its table before anything is looked up in it; of a large one that has lost entries under its
//! watermark, which no index should, rows may be doubled until it is read.

use crate::{
    context::Context,
    filter::SeenFilter,
    index::{self, Scan},
    lake::Table,
    trouble::{Trouble, patiently},
};
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;
use tributary_backends::tables::IndexPart;
use tributary_schemas::identity::Identity;

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
        let (context, part) = (context.clone(), part.clone());
        let task = tokio::spawn(async move {
            // A process that gets many large tables at once has work to do besides.
            let _turn = context.readings.acquire().await.map_err(|closed| Trouble::Halt(closed.to_string()))?;
            patiently!(context.patience, "reading the key index", index::scan(&*context.tables, &part, live))
        });
        let state = State::Reading { version, live, task: AbortOnDropHandle::new(task) };
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

    /// Judges a reading that has ended, when the lane has `live` rows. It stays to be judged unless it ended well.
    pub(crate) async fn judge(&mut self, live: u64) -> Result<Ended, Trouble> {
        if !self.is_to_be_judged() {
            return Ok(Ended::Well);
        }
        let State::Reading { version, live: at_least, task } = std::mem::replace(&mut self.state, State::Unread) else {
            return Ok(Ended::InVain);
        };
        let Scan { filter, entries, complete_to } = task.await.map_err(|panic| Trouble::Halt(panic.to_string()))??;
        if complete_to.is_none_or(|to| to < version) {
            return Ok(Ended::InVain);
        }
        if !(at_least..=live).contains(&entries) {
            return Ok(Ended::Wrong(format!("the index has {entries} entries for {at_least} to {live} live rows")));
        }
        self.filter.absorb(filter);
        self.state = State::Whole;
        Ok(Ended::Well)
    }
}
