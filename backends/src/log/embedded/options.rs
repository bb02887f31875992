//! What can be chosen about the embedded log.

use crate::log::Topic;
use std::time::Duration;
use tributary_schemas::identity::Lanes;

/// Choices for the embedded log; `..Options::default()` for the rest.
#[derive(Debug, Clone)]
pub struct Options {
    /// Partitions of the topic `records`; the other topics have one. Default: 4 partitions, spread 1. More lanes use
    /// more cores when there are many workspaces, at the cost of smaller files in the lake. A directory that already
    /// holds more partitions than this is refused.
    pub lanes: Lanes,
    /// Bytes at which a segment file is sealed and the next one begun. Default 64 MiB. Larger: fewer files; smaller:
    /// a quicker start (the newest segment of each partition is read then) and finer steps of retention.
    pub segment_bytes: u64,
    /// Bytes of messages that may wait for the disk; further appends wait until there is room. Default 32 MiB. Larger
    /// absorbs longer stalls of the disk; this much memory may be held.
    pub queue_bytes: usize,
    /// Bytes that are written before one sync at most. Default 8 MiB. Larger: fewer syncs under load; smaller: the
    /// first append of a group waits less for its neighbours.
    pub group_bytes: usize,
    /// Sealed segments whose every message is older than this are dropped once consumed. Default 24 h. Longer keeps
    /// more to look back at; it costs disk.
    pub retention_age: Duration,
    /// Bytes that one partition keeps of what is consumed; the oldest sealed segments beyond are dropped. Default
    /// 1 GiB. What a group of [`Self::groups`] has not consumed is kept whatever the size.
    pub retention_bytes: u64,
    /// How often retention looks. Default 60 s; it also looks whenever a segment is sealed. It costs next to nothing.
    pub retention_interval: Duration,
    /// The groups that must have consumed a message of a topic before it may be dropped, also before they first join.
    /// Default: `lanes` reads `records`, `rejects` reads `rejects`, `batch-state` reads `batch-events`,
    /// `attachments` reads `attachments`. A group that is listed here and never reads keeps its topic for ever, and so
    /// does a topic without a group, as dead letters.
    pub groups: Vec<(String, Topic)>,
}

impl Default for Options {
    fn default() -> Self {
        let groups = [
            ("lanes", Topic::Records),
            ("rejects", Topic::Rejects),
            ("batch-state", Topic::BatchEvents),
            ("attachments", Topic::Attachments),
        ];
        Self {
            lanes: Lanes { partitions: 4, spread: 1 },
            segment_bytes: 64 << 20,
            queue_bytes: 32 << 20,
            group_bytes: 8 << 20,
            retention_age: Duration::from_secs(24 * 3_600),
            retention_bytes: 1 << 30,
            retention_interval: Duration::from_secs(60),
            groups: groups.map(|(group, topic)| (group.to_owned(), topic)).to_vec(),
        }
    }
}

impl Options {
    /// Number of partitions of `topic`.
    pub(super) fn partitions(&self, topic: Topic) -> u32 {
        if topic == Topic::Records { self.lanes.partitions } else { 1 }
    }
}
