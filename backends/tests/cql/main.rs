//! The tables on a real CQL server, whose address is in `TRIBUTARY_TEST_CQL`.
//!
//! `tests/services/cassandra.sh start` starts one; `just test-cluster` does both. Without a server these tests fail:
//! they are only built with the feature `cql`, so whoever builds them wants them run.

#![expect(clippy::unwrap_used, reason = "tests: what fails panics")]

mod encryption;
mod faults;
mod growth;
mod migrations;
mod opening;
mod races;
mod support;

use async_trait::async_trait;
use std::sync::Arc;
use support::{Keyspace, open};
use tributary_backends::tables::{
    Tables,
    conformance::{self, Factory, Place},
};

/// Makes tables in keyspaces of their own.
struct Keyspaces;

#[async_trait]
impl Factory for Keyspaces {
    async fn place(&self) -> Box<dyn Place> {
        Box::new(Keyspace::new())
    }
}

#[async_trait]
impl Place for Keyspace {
    async fn open(&self) -> Arc<dyn Tables> {
        open(&self.options()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_in_keys() {
    conformance::keys::run(&Keyspaces).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_in_batches() {
    conformance::batches::run(&Keyspaces).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_in_idempotency() {
    conformance::idempotency::run(&Keyspaces).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_in_the_index() {
    conformance::index::run(&Keyspaces).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_in_settings() {
    conformance::settings(&Keyspaces).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_in_notes() {
    conformance::board(&Keyspaces).await;
}
