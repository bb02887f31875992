//! What every `Tables` must do, as one suite that takes a factory.
//!
//! It knows the port alone. An implementation's tests give a [`Factory`] and await each of [`keys::run`],
//! [`batches::run`], [`idempotency::run`], [`index::run`], [`settings`] and [`board`]; a check that fails panics.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a check fails by panicking")]

use super::Tables;
use async_trait::async_trait;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
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

/// Notes are seen by all, one for each process, the latest last, until they expire: which takes as long as it takes, and
/// whose clock says what does not matter.
pub async fn board(factory: &dyn Factory) {
    const LONG: Duration = Duration::from_secs(600);
    let place = factory.place().await;
    let tables = place.open().await;
    let process = Uuid::from_u128;
    let exchange = async |board, id, note: &str, lives| {
        let all = tables.exchange(board, process(id), note.as_bytes(), lives).await.unwrap();
        let text = |(process, note): (Uuid, Vec<u8>)| (process.as_u128(), String::from_utf8(note).unwrap());
        all.into_iter().map(text).collect::<Vec<_>>()
    };
    let notes = |notes: &[(u128, &str)]| notes.iter().map(|(id, note)| (*id, (*note).to_owned())).collect::<Vec<_>>();
    assert_eq!(exchange("rates", 1, "a", LONG).await, notes(&[(1, "a")]));
    assert_eq!(exchange("rates", 2, "b", LONG).await, notes(&[(1, "a"), (2, "b")]));
    assert_eq!(exchange("rates", 1, "", LONG).await, notes(&[(2, "b"), (1, "")]), "in the place of its last one");
    assert_eq!(exchange("others", 3, "c", LONG).await, notes(&[(3, "c")]), "boards are apart");

    let brief = Duration::from_secs(2);
    let begun = Instant::now();
    exchange("rates", 4, "d", brief).await;
    loop {
        let asked = Instant::now();
        let now = exchange("rates", 1, "a", LONG).await;
        if now == notes(&[(2, "b"), (1, "a")]) {
            // Servers count whole seconds.
            assert!(begun.elapsed() > brief / 2, "gone after {:?}", begun.elapsed());
            break;
        }
        assert_eq!(now, notes(&[(2, "b"), (4, "d"), (1, "a")]));
        assert!(asked - begun < 5 * brief, "it has not expired");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    exchange("rates", 5, "e", brief).await;
    for _ in 0..6 {
        tokio::time::sleep(brief / 4).await;
        let now = exchange("rates", 5, "e", brief).await;
        assert_eq!(now, notes(&[(2, "b"), (1, "a"), (5, "e")]), "what is left again lives on");
    }
}
