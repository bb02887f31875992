//! The tables on `fjall`: one process, durable by group commit.
