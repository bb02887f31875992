//! The log on local files: one process, durable by group commit.
