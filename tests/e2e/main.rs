//! End to end: the real binary, real HTTP, real SIGKILL, and DuckDB with its official delta extension reading the lake.
//!
//! [`harness`] starts `up` in a directory of its own and reads its table; [`model`] is what the table must hold: a map
//! from identity to the last version; [`writers`] are clients that know what they were told. The others are the tests; those
//! in `fleet` are of many processes on real servers.

mod harness;
mod model;
mod writers;

#[cfg(feature = "cluster")]
mod alerts;
mod attachments;
mod batches;
mod bench;
mod dead_letters;
#[cfg(feature = "cluster")]
#[expect(dead_code, reason = "the tests of the log use more of it")]
#[path = "../services/registry.rs"]
mod fake_registry;
mod faults;
mod first_start;
#[cfg(feature = "cluster")]
mod fleet;
mod flow;
mod kills;
mod lag;
mod load;
mod overwrite;
#[cfg(feature = "cluster")]
mod registry;
mod restart;
mod roles;
mod send;
mod telemetry;
mod traces;
