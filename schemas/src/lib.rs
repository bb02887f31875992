//! The pure heart of Tributary: what a record is, and nothing about where it goes.
//!
//! A record's way through this crate, in the order in which it is read:
//!
//! 1. [`record`]: one JSON text → a validated, *normalised* [`record::Record`] that borrows from the body,
//!    or every error in it ([`record::FieldError`]).
//! 2. [`identity`]: who the record is ([`identity::Identity`]) and which lane it takes ([`identity::Lanes`]).
//! 3. [`frame`]: the Avro frames on the topics (`avro/*.avsc`), written by the API and read by the pipeline.
//! 4. [`columns`]: the Arrow schema of the lake's `records` table and the way from a frame to its columns.
//! 5. [`batch`]: a batch as a set of facts, and the status that follows from them.
//! 6. [`api`]: the HTTP contract's request and response types.
//!
//! No tokio, no I/O, no clock, no randomness: same input, same output.

pub mod api;
pub mod batch;
pub mod columns;
pub mod frame;
pub mod identity;
pub mod limits;
pub mod record;
