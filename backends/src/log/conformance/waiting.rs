//! What those see who wait for messages.

use super::{Factory, LIMIT, PATIENCE, append, join, number, numbers, read};
use crate::log::FetchLimit;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A fetch of nothing returns nothing, after about `max_wait`.
pub async fn an_empty_fetch_waits_no_longer_than_told(factory: &dyn Factory) {
    let log = factory.fresh().await;
    let (_member, mut readers) = join(&log, "g").await;
    let reader = readers.get_mut(&0).unwrap();
    for wait in [Duration::ZERO, Duration::from_millis(200)] {
        let began = Instant::now();
        let limit = FetchLimit { max_wait: wait, ..LIMIT };
        assert!(timeout(PATIENCE, reader.fetch(limit)).await.unwrap().unwrap().is_empty());
        assert!(began.elapsed() >= wait.mul_f32(0.9), "it waits for something to come");
    }
}

/// A fetch that waits returns as soon as there is something, not at `max_wait`.
pub async fn a_waiting_fetch_wakes_when_something_comes(factory: &dyn Factory) {
    let log = factory.fresh().await;
    let (_member, mut readers) = join(&log, "g").await;
    let mut reader = readers.remove(&0).unwrap();
    let limit = FetchLimit { max_wait: PATIENCE * 10, ..LIMIT };
    let (started, start) = tokio::sync::oneshot::channel();
    let fetching = tokio::spawn(async move {
        started.send(()).unwrap();
        reader.fetch(limit).await
    });
    start.await.unwrap();
    append(&log, 0, 5..6).await;
    let read = timeout(PATIENCE, fetching).await.unwrap().unwrap().unwrap();
    assert_eq!(numbers(&read), [5]);
}

/// Waiting ends when there is something, and not before; it takes nothing, however often it is dropped.
pub async fn waiting_ends_when_something_comes_and_takes_nothing(factory: &dyn Factory) {
    let log = factory.fresh().await;
    let (_member, mut readers) = join(&log, "g").await;
    let reader = readers.get_mut(&0).unwrap();
    assert!(timeout(Duration::from_millis(100), reader.filled()).await.is_err(), "there is nothing");
    let (waited, ()) = tokio::join!(timeout(PATIENCE, reader.filled()), async { append(&log, 0, 5..8).await });
    waited.unwrap().unwrap();
    for _ in 0..3 {
        timeout(PATIENCE, reader.filled()).await.unwrap().unwrap();
    }
    assert_eq!(reader.position(), 0);
    assert_eq!(numbers(&read(reader, 3).await), [5, 6, 7]);
    assert!(timeout(Duration::from_millis(100), reader.filled()).await.is_err(), "all was read");
    reader.seek(1);
    timeout(PATIENCE, reader.filled()).await.unwrap().unwrap();
    assert_eq!(numbers(&read(reader, 2).await), [6, 7]);
}

/// A fetch that is dropped, at whatever moment, has not moved the position.
pub async fn a_dropped_fetch_loses_nothing(factory: &dyn Factory) {
    let log = factory.fresh().await;
    let (_member, mut readers) = join(&log, "g").await;
    let reader = readers.get_mut(&0).unwrap();
    append(&log, 0, 0..200).await;
    for n in 0..50u64 {
        // Dropped after 0 µs, 20 µs, …: before, while and after the read.
        let dropped = timeout(Duration::from_micros(n * 20), reader.fetch(FetchLimit { max_messages: 1, ..LIMIT }));
        if let Ok(read) = dropped.await {
            assert!(!read.unwrap().is_empty());
        }
        let position = reader.position();
        let next = timeout(PATIENCE, reader.fetch(FetchLimit { max_messages: 1, ..LIMIT })).await.unwrap().unwrap();
        assert_eq!(next[0].offset, position);
        assert_eq!(number(&next[0]), position);
    }
}
