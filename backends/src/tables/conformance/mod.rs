//! What every `Tables` must do, as one suite that takes a factory.
//!
//! It knows the port alone. An implementation's tests give a [`Factory`] and await each of [`keys::run`],
//! [`batches::run`], [`idempotency::run`], [`index::run`] and [`settings`]; a check that fails panics.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a check fails by panicking")]

use super::Tables;
use async_trait::async_trait;
use std::sync::Arc;
use tributary_schemas::identity::Lanes;

pub mod batches;
pub mod idempotency;
pub mod index;
pub mod keys;

/// Makes places for tables.
#[async_trait]
pub trait Factory: Send + Sync {
    /// A place with nothing in it, apart from all others.
    async fn place(&self) -> Box<dyn Place>;
}

/// Where one set of tables is kept.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the tables with what is in them. The suite drops what it opened before it opens again.
    async fn open(&self) -> Arc<dyn Tables>;
}

/// Closes and opens.
async fn reopen(place: &dyn Place, tables: Arc<dyn Tables>) -> Arc<dyn Tables> {
    drop(tables);
    place.open().await
}

/// Lanes written once are returned ever after.
pub async fn settings(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let first = Lanes { partitions: 4, spread: 2 };
    let other = Lanes { partitions: 8, spread: 8 };
    assert_eq!(tables.lanes(first).await.unwrap(), first);
    assert_eq!(tables.lanes(other).await.unwrap(), first);
    let tables = reopen(&*place, tables).await;
    assert_eq!(tables.lanes(other).await.unwrap(), first);

    let place = factory.place().await;
    let tables = place.open().await;
    let racers = (1..=8).map(|n| tables.lanes(Lanes { partitions: n, spread: 1 }));
    let answers = futures::future::try_join_all(racers).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "all must see the same lanes: {answers:?}");
}
