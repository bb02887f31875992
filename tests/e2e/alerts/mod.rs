//! What tells operators, on a running system with a real Prometheus: each alert is fired by causing its fault, those of other
//! faults stay silent, and all is quiet again once it is mended. [`faults`] are those of one machine, `fleet::alerts`
//! those of servers. `tests/alerts.sh --fire` runs them: they take minutes.

mod dashboard;
mod faults;
mod prometheus;

pub use prometheus::Prometheus;
