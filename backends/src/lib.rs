//! The ports: where the outside world is replaced. One conformance suite each, run against every implementation.
//!
//! | port | on one machine | in a cluster |
//! |---|---|---|
//! | [`log::RecordLog`] | [`log::embedded`] | Kafka: `log::kafka`, with the feature `kafka` |
//! | [`tables::Tables`] | [`tables::embedded`] | ScyllaDB or Cassandra: `tables::cql`, with the feature `cql` |
//!
//! Objects need no port of ours: `object_store` is one. [`world`] is the injected source of time and
//! randomness, [`said`] keeps logs short, [`lately`] counts by workspace what was done in the last minute, [`trace`] hands on
//! whose work something is.

pub mod certificate;
pub mod crash;
pub mod data_dir;
pub mod disk;
pub mod lately;
#[cfg(any(test, feature = "conformance"))]
pub mod lines;
pub mod log;
pub mod memory;
pub mod said;
pub mod tables;
pub mod trace;
pub mod world;
