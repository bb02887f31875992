//! From the log to the lake.

pub mod lake;
