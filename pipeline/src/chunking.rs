//! Where a chunk ends, when the next one may go, in which order its tables land, and what of it a table has already.
//! Pure: lanes go by it, and so does the simulation of a thousand of them.

use crate::config::Config;
use std::time::Duration;

/// What a lane has gathered for its next chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Messages.
    pub records: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
}

/// What the next read may bring at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Messages, at least one.
    pub records: usize,
    /// Bytes, at least one.
    pub bytes: usize,
}

/// Bytes of a lane's first read: what one that is up to date takes of the budget.
const FIRST_READ: usize = 256 * 1024;
/// Bytes of one read after that.
const READ: usize = 4 * 1024 * 1024;

impl Gathered {
    /// As large as a chunk may be.
    pub fn is_whole(&self, config: &Config) -> bool {
        self.bytes >= config.chunk_bytes || self.records >= config.chunk_records
    }

    /// How long after this chunk the next one may go. A lane that is behind does not wait: it would land a chunk each
    /// interval, however quick it is.
    pub fn pause(&self, config: &Config) -> Duration {
        if self.is_whole(config) { Duration::ZERO } else { config.commit_interval }
    }

    /// What the next read may bring.
    pub fn room(&self, config: &Config) -> Room {
        let read = if self.records == 0 { FIRST_READ } else { READ };
        let bytes = config.chunk_bytes.saturating_sub(self.bytes).min(read).clamp(1, config.memory_bytes.max(1));
        Room { records: config.chunk_records.saturating_sub(self.records).max(1), bytes }
    }
}

/// Puts the tables' parts of a chunk in the order in which they land: a tenant waits only for tables that have less to do
/// than its own, and for none that has more.
pub fn smallest_first<T>(parts: &mut [T], records: impl Fn(&T) -> usize) {
    parts.sort_by_key(records);
}

/// How many of the offsets, which ascend, are in a table that has everything below `position`: whoever put them there.
pub fn landed_before(offsets: &[i64], position: i64) -> usize {
    offsets.partition_point(|offset| *offset < position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_whole_by_bytes_or_by_records_and_then_the_next_does_not_wait() {
        let config = Config { chunk_bytes: 1_000, chunk_records: 10, ..Config::default() };
        for (records, bytes, whole) in [(0, 0, false), (9, 999, false), (10, 1, true), (1, 1_000, true)] {
            let gathered = Gathered { records, bytes };
            assert_eq!(gathered.is_whole(&config), whole, "{gathered:?}");
            assert_eq!(gathered.pause(&config), if whole { Duration::ZERO } else { config.commit_interval });
        }
    }

    #[test]
    fn the_first_read_is_small_and_none_goes_beyond_the_chunk() {
        let config = Config::default();
        let room = |records, bytes| Gathered { records, bytes }.room(&config);
        assert_eq!(room(0, 0), Room { records: 50_000, bytes: FIRST_READ });
        assert_eq!(room(1, 100), Room { records: 49_999, bytes: READ });
        assert_eq!(room(49_999, config.chunk_bytes - 7), Room { records: 1, bytes: 7 });
        assert_eq!(room(60_000, config.chunk_bytes * 2), Room { records: 1, bytes: 1 }, "a message always fits");
    }

    #[test]
    fn what_is_below_the_position_has_landed() {
        for (position, landed) in [(0, 0), (3, 0), (4, 1), (5, 1), (9, 2), (10, 3)] {
            assert_eq!(landed_before(&[3, 5, 9], position), landed, "{position}");
        }
    }

    #[test]
    fn equal_parts_keep_their_order() {
        let mut parts = [("a", 5), ("b", 1), ("c", 5), ("d", 2)];
        smallest_first(&mut parts, |part| part.1);
        assert_eq!(parts.map(|part| part.0), ["b", "d", "a", "c"]);
    }
}
