//! Notes between processes, in memory: all that use these tables are this one process, and notes need not outlive it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

/// What one says, since when, and until when.
#[derive(Debug)]
struct Note {
    written: Instant,
    ends: Instant,
    text: Vec<u8>,
}

/// By board and process.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<BTreeMap<(String, Uuid), Note>>);

impl Notes {
    pub(super) fn exchange(&self, board: &str, process: Uuid, note: &[u8], lives: Duration) -> Vec<(Uuid, Vec<u8>)> {
        let seconds = lives.as_millis().div_ceil(1_000).clamp(1, 86_400) as u64;
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = Instant::now();
        notes.retain(|_, note| note.ends > written);
        let ends = written + Duration::from_secs(seconds);
        notes.insert((board.to_owned(), process), Note { written, ends, text: note.to_vec() });
        let mut here: Vec<_> = notes.iter().filter(|((at, _), _)| at == board).collect();
        here.sort_by_key(|((_, process), note)| (note.written, *process));
        here.into_iter().map(|((_, process), note)| (*process, note.text.clone())).collect()
    }
}
