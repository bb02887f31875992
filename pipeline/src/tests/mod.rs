//! Lanes against real tables and a real lake, with a log in memory that can fail, and die, at any call.

mod exactly_once;
mod fairness;
mod faults;
mod lately;
mod membership;
mod memory_log;
pub(crate) mod mortal;
mod overdue;
mod readiness;
#[cfg(feature = "services")]
mod rebuilding;
mod seen_keys;
pub(crate) mod small_world;
mod whole;
