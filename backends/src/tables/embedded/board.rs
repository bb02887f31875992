//! Notes between processes, in memory: all that use these tables are this one process, and notes need not outlive it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use uuid::Uuid;

/// By board and process: until when it lives, and what it says.
type Written = BTreeMap<(String, Uuid), (i64, Vec<u8>)>;

#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Written>);

impl Notes {
    pub(super) fn exchange(
        &self,
        board: &str,
        process: Uuid,
        note: &[u8],
        now: i64,
        until: i64,
    ) -> Vec<(Uuid, Vec<u8>)> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|_, (lives_until, _)| *lives_until > now);
        written.insert((board.to_owned(), process), (until, note.to_vec()));
        let here = written.range((board.to_owned(), Uuid::nil())..).take_while(|((at, _), _)| at == board);
        here.filter(|(_, (until, _))| *until > now).map(|((_, process), (_, note))| (*process, note.clone())).collect()
    }
}
