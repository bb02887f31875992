//! The HTTP contract, over real sockets, on the embedded log and tables in a temporary directory.

mod admin;
mod attachments;
mod batches;
mod bodies;
mod contract;
mod harness;
mod idempotency;
mod keys;
mod load;
mod pressure;
mod wire;
