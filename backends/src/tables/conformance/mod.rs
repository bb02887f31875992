//! What every `Tables` must do, as one suite that takes a factory.
//!
//! It knows the port alone. An implementation's tests give a [`Factory`] and await each of [`keys::run`],
//! [`batches::run`], [`idempotency::run`], [`index::run`], [`settings`] and [`board`]; a check that fails panics.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a check fails by panicking")]

use super::Tables;
use async_trait::async_trait;
use std::sync::Arc;
use tributary_schemas::identity::Lanes;
use uuid::Uuid;

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

/// Notes are seen by all, one for each process, until they expire.
pub async fn board(factory: &dyn Factory) {
    const NOW: i64 = 1_700_000_000_000_000;
    const SECOND: i64 = 1_000_000;
    let place = factory.place().await;
    let tables = place.open().await;
    let process = Uuid::from_u128;
    let exchange = async |board, id, note: &str, now| {
        let all = tables.exchange(board, process(id), note.as_bytes(), now, now + 3 * SECOND).await.unwrap();
        let text = |(process, note): (Uuid, Vec<u8>)| (process.as_u128(), String::from_utf8(note).unwrap());
        all.into_iter().map(text).collect::<Vec<_>>()
    };
    let notes = |notes: &[(u128, &str)]| notes.iter().map(|(id, note)| (*id, (*note).to_owned())).collect::<Vec<_>>();
    assert_eq!(exchange("rates", 2, "b", NOW).await, notes(&[(2, "b")]));
    assert_eq!(exchange("rates", 1, "a", NOW + SECOND).await, notes(&[(1, "a"), (2, "b")]));
    assert_eq!(
        exchange("rates", 1, "", NOW + SECOND).await,
        notes(&[(1, ""), (2, "b")]),
        "in the place of the last one"
    );
    assert_eq!(exchange("others", 3, "c", NOW + SECOND).await, notes(&[(3, "c")]), "boards are apart");
    assert_eq!(exchange("rates", 1, "a", NOW + 3 * SECOND).await, notes(&[(1, "a")]), "the other one has expired");
}
