//! What an operator can tune in the pipeline.

use std::time::Duration;

/// Options of the pipeline. The defaults suit one machine with 2 cores and 512 MB for the whole process.
#[derive(Debug, Clone)]
pub struct Config {
    /// Raw bytes of one chunk at most (default 12 MiB). A lane that is behind takes chunks of this size: larger means
    /// fewer, larger files and fewer commits, but about five times as much memory while the chunk is decoded,
    /// written and committed.
    pub chunk_bytes: usize,
    /// Records of one chunk at most (default 50,000). Bounds the index look-up and the size of one commit when
    /// records are tiny.
    pub chunk_records: usize,
    /// Raw bytes that all lanes of this process hold at once, read ahead included (default 28 MiB). Smaller saves
    /// memory; lanes then take turns.
    pub memory_bytes: usize,
    /// Least time between two commits of a lane that is up to date (default 300 ms); one that is behind does not wait.
    /// Longer means fewer commits and
    /// larger files; a record waits up to this long before anyone can see it.
    pub commit_interval: Duration,
    /// Tables that a lane keeps open (default 64). Each costs its list of files and 2 bytes per key for the filter;
    /// one that was closed costs a read of its index part when its workspace sends again.
    pub open_tables: usize,
    /// A table of which a lane has more rows than this (default 200,000) takes records before all of the lane's index part
    /// is read, which takes seconds for millions of them. Until it is, every key is looked up. Less: a lane that changes hands
    /// goes on sooner, and looks up more.
    pub read_first: u64,
    /// Tables of one chunk that are written and committed at the same time (default 4). More helps when commits are
    /// slow, as on object storage, and there are many workspaces.
    pub concurrent_tables: usize,
    /// A batch that has not landed after this long is `FAILED` until its records land after all (default 10 min).
    pub landing_deadline: Duration,
    /// How often batches are held against the deadline and idempotency keys against their expiry (default 15 s).
    pub sweep_interval: Duration,
    /// First wait after a backend's fault (default 50 ms); it doubles with every further one.
    pub retry_first: Duration,
    /// Longest wait between tries (default 5 s): how long after a backend's return a lane may still sleep.
    pub retry_longest: Duration,
    /// How long a lane may go on with its chunk when it has to stop (default 5 s). After that the chunk is abandoned
    /// and taken again by the next owner; nothing is lost either way.
    pub stop_grace: Duration,
}

impl Config {
    /// The defaults for so many bytes in all lanes of a process, chunks in proportion.
    pub fn with_memory(memory_bytes: usize) -> Self {
        let default = Self::default();
        let part = |of: usize| (of as u128 * memory_bytes as u128 / default.memory_bytes as u128) as usize;
        let (chunk_bytes, chunk_records) = (part(default.chunk_bytes).max(1), part(default.chunk_records).max(1));
        Self { chunk_bytes, chunk_records, memory_bytes, ..default }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chunk_bytes: 12 * 1024 * 1024,
            chunk_records: 50_000,
            memory_bytes: 28 * 1024 * 1024,
            commit_interval: Duration::from_millis(300),
            open_tables: 64,
            read_first: 200_000,
            concurrent_tables: 4,
            landing_deadline: Duration::from_secs(600),
            sweep_interval: Duration::from_secs(15),
            retry_first: Duration::from_millis(50),
            retry_longest: Duration::from_secs(5),
            stop_grace: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_with_the_memory() {
        let sizes = |config: Config| (config.memory_bytes, config.chunk_bytes, config.chunk_records);
        assert_eq!(sizes(Config::with_memory(28 << 20)), sizes(Config::default()));
        assert_eq!(sizes(Config::with_memory(280 << 20)), (280 << 20, 120 << 20, 500_000));
        assert_eq!(sizes(Config::with_memory(7 << 20)), (7 << 20, 3 << 20, 12_500));
    }
}
