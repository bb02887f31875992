//! From the log to the lake.
//!
//! A record's way through this crate, in the order in which it is read:
//!
//! 1. [`Pipeline::run`] joins the consumer groups (`consumer`) and runs a task for each assigned partition.
//! 2. `lane` is the task for one partition of topic `records`; `intake` cuts it into chunks that grow with the lag, by the
//!    rules in [`chunking`]; `landings` goes on with the traces of its requests.
//! 3. `chunk` has the type of each stage: `RawChunk` → `NormalizedChunk` (`normalize`: frames to columns, grouped by
//!    workspace) → `DedupedChunk` ([`dedup`], with [`filter`] before the key index) → `WrittenChunk` → `Committed`.
//! 4. `lane_table` takes a chunk into one workspace's table exactly once; `index` keeps the key index beside it, `seen_keys`
//!    knows what cannot be in it, and [`lake`] is the Delta table itself.
//! 5. `say` says of each table what there is to fetch and what has landed, then the lane commits its offsets, and
//!    `holdings` tells operators whose records it has done `lately`;
//!    `small_topics` brings attachments, facts and rejected records into the tables; `sweep` fails batches that never landed, once
//!    `passage` says that nothing in the log can land them any more.
//! 6. [`dead_letters`] lists what was put aside on the way, and replays or discards it.
//! 7. [`check`] proves that it all agrees.
//!
//! # Exactly once
//!
//! A table's commit carries, with its rows and deletion vectors, the lane's position and its four counters as `txn`s,
//! so all of them move or none. Whatever else is written is derived from it and may be repeated: the index entries,
//! then the index watermark, then attachments and facts, then the offsets. A process that dies anywhere leaves a
//! position in the table below which the next owner skips; everything after the commit it does again.
//!
//! # Every record has one outcome
//!
//! `landed`, `overwritten`, `unchanged` and `dead_lettered` add up to what was consumed. The durable totals are the
//! tables' counters plus the distinct `dead-letters` of which the workspace is not known (frames that cannot be
//! decoded). The metrics add up to the same over all processes: each counts its own commits, also one whose answer was lost and
//! that is found in the table, and letters without a table once their offsets are committed.

pub mod check;
mod chunk;
pub mod chunking;
pub mod config;
mod consumer;
mod context;
pub mod dead_letters;
pub mod dedup;
pub mod filter;
mod holdings;
mod index;
mod intake;
pub mod lake;
mod landings;
mod lane;
mod lane_table;
pub mod metrics;
mod normalize;
mod open_tables;
pub mod passage;
mod pipeline;
mod say;
mod seen_keys;
mod small_topics;
mod sweep;
mod take;
mod trouble;
mod txn_names;

pub use config::Config;
pub use context::Health;
pub use holdings::{Holding, Holdings};
pub use index::rebuild_index;
pub use metrics::Metrics;
pub use pipeline::{GROUPS, Pipeline, PipelineError, drained};
pub use trouble::Trouble;
#[cfg(test)]
mod tests;
