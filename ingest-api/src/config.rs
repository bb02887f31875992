//! What can be set, one small struct per concern; every field says its unit, its default and what it trades.

use std::time::Duration;
use tributary_schemas::limits;

/// Everything that the API can be told.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// How large a request may be.
    pub limits: Limits,
    /// How much may go on at once.
    pub load: Load,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How repeats of one request are recognised.
    pub idempotency: IdempotencyConfig,
}

/// How large a request may be.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a body, before and after decompression; default 5,242,880. A larger one costs memory per request.
    pub max_body_bytes: usize,
    /// Records of a batch; default 1,000.
    pub max_batch_records: usize,
    /// Attachments of a batch; default 1,000.
    pub max_batch_attachments: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: limits::MAX_BODY_BYTES,
            max_batch_records: limits::MAX_BATCH_RECORDS,
            max_batch_attachments: limits::MAX_BATCH_ATTACHMENTS,
        }
    }
}

/// How much may go on at once.
#[derive(Debug, Clone)]
pub struct Load {
    /// Requests per second of a key that has no rate of its own, with a burst of as many; default 10, 0: no limit.
    pub rate_limit: u32,
    /// How often processes tell each other what keys were asked for, so that rates hold over all of them; default 1 s.
    pub rate_exchange: Duration,
    /// Bytes of bodies and of what is made of them in flight, over all requests; default 96 MiB. Beyond it requests
    /// get 503: less protects the machine's memory, more accepts larger bursts.
    pub memory_budget: usize,
    /// How far a lane may be behind before its senders get 429; default 2 min, 0: no limit. Behind is the time that a
    /// record accepted now takes to reach the lake. The default outlasts a pipeline that is restarted or handed over
    /// (a session of 6 s, then catching up), is a fifth of the landing deadline, so that what was accepted still lands
    /// in time, and at 50 MB/s comes to 6 GB of disk. More rides out longer outages; less keeps the log smaller.
    pub max_lag: Duration,
    /// Open connections; default 1,024. Further ones wait in the kernel's queue.
    pub max_connections: usize,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            rate_limit: 10,
            rate_exchange: Duration::from_secs(1),
            memory_budget: 96 * 1024 * 1024,
            max_lag: Duration::from_secs(120),
            max_connections: 1_024,
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// For a request's head, and for an idle connection; default 20 s.
    pub header: Duration,
    /// For a whole body; default 30 s.
    pub body: Duration,
    /// From then on a body must have come in at [`Self::min_body_rate`]; default 5 s.
    pub body_grace: Duration,
    /// Bytes per second, on average since the body's start; default 1,024. A sender below it gets 408.
    pub min_body_rate: u64,
    /// For the client to take any of an answer that waits for it; default 20 s. Then the connection is closed.
    pub write: Duration,
    /// How long a key that was looked up is believed; default 2 s. It is the longest that a revoked key still works.
    pub key_cache: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(20),
            body: Duration::from_secs(30),
            body_grace: Duration::from_secs(5),
            min_body_rate: 1_024,
            write: Duration::from_secs(20),
            key_cache: Duration::from_secs(2),
        }
    }
}

/// How repeats of one request are recognised.
#[derive(Debug, Clone)]
pub struct IdempotencyConfig {
    /// How long a `202` is kept; default 24 h.
    pub keep: Duration,
    /// How long a request holds its key without an answer before a repeat may take it over; default 30 s. It counts from
    /// before the key was asked for, as the tables have it. A request that takes nine tenths of it is given up with a
    /// 503, and what it may still append by then is void, so that it cannot end behind its repeat. Shorter: slow tables
    /// leave less of it for the work. After a crash a repeat waits for as long, but not with embedded tables, which know
    /// that their only process has ended.
    pub lease: Duration,
    /// How long a repeat waits for its twin's answer before it gets 429; default 10 s.
    pub wait: Duration,
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        Self { keep: Duration::from_secs(24 * 3_600), lease: Duration::from_secs(30), wait: Duration::from_secs(10) }
    }
}
