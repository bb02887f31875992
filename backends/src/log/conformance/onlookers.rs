//! What those see who are in no group.

use super::{Factory, LIMIT, PATIENCE, TOPIC, append, join, numbers, read};
use crate::log::{FetchLimit, Progress, Topic};
use std::time::Duration;
use tokio::time::timeout;

/// Of every partition, asked from outside the group, also after it has left.
pub async fn progress_is_what_was_committed_of_what_is_there(factory: &dyn Factory) {
    let log = factory.fresh().await;
    let progress = async || log.progress("g", TOPIC).await.unwrap();
    let nothing = Progress { done: 0, high: 0 };
    let mut expected = vec![nothing; log.partitions(TOPIC) as usize];
    assert_eq!(progress().await, expected);
    append(&log, 1, 0..5).await;
    expected[1] = Progress { done: 0, high: 5 };
    assert_eq!(progress().await, expected);
    let (member, mut readers) = join(&log, "g").await;
    let reader = readers.get_mut(&1).unwrap();
    read(reader, 4).await;
    reader.commit(4).await.unwrap();
    append(&log, 0, 0..2).await;
    expected[0] = Progress { done: 0, high: 2 };
    expected[1].done = 4;
    assert_eq!(progress().await, expected);
    drop((member, readers));
    assert_eq!(progress().await, expected);
    // Of several at once, in the order in which they were asked for.
    let other = Topic::ALL.into_iter().find(|topic| *topic != TOPIC).unwrap();
    let never = expected.iter().map(|one| Progress { done: 0, ..*one }).collect();
    let nothing = vec![nothing; log.partitions(other) as usize];
    let asked = [("never", TOPIC), ("g", other), ("g", TOPIC)];
    assert_eq!(log.progress_of(&asked).await.unwrap(), [never, nothing, expected]);
    assert_eq!(log.progress_of(&[]).await.unwrap(), Vec::<Vec<Progress>>::new());
}

/// From any place, again and again, of several partitions at once, while a member reads.
pub async fn onlookers_see_what_is_there_and_no_group_notices(factory: &dyn Factory) {
    let log = factory.fresh().await;
    let look = async |places: &[(u32, i64)], max_messages| {
        let limit = FetchLimit { max_messages, max_wait: Duration::from_secs(5), ..LIMIT };
        let seen = timeout(PATIENCE, log.look(TOPIC, places, limit)).await.unwrap().unwrap();
        seen.iter().map(|messages| numbers(messages)).collect::<Vec<_>>()
    };
    append(&log, 0, 0..10).await;
    append(&log, 1, 100..103).await;
    let (_member, mut readers) = join(&log, "g").await;
    let reader = readers.get_mut(&0).unwrap();
    read(reader, 4).await;
    reader.commit(4).await.unwrap();
    // It may have read more than that.
    reader.seek(4);
    assert_eq!(look(&[(0, 4)], 1).await, [[4]]);
    assert_eq!(look(&[(1, 0), (0, 8)], 2).await, [[100, 101], [8, 9]], "as they were asked for");
    assert_eq!(look(&[(0, 2)], 3).await, [[2, 3, 4]], "back again");
    assert_eq!(look(&[(0, 7), (1, 1)], 100).await, [vec![7, 8, 9], vec![101, 102]], "no more than there is");
    assert_eq!(look(&[(0, 10), (1, 2)], 5).await, [vec![], vec![102]], "nothing behind the end");
    assert_eq!(look(&[], 5).await, Vec::<Vec<i64>>::new());
    assert_eq!(log.committed("g", TOPIC, 0).await.unwrap(), Some(4));
    assert_eq!(numbers(&read(reader, 6).await), [4, 5, 6, 7, 8, 9]);
    assert!(log.look(TOPIC, &[(log.partitions(TOPIC), 0)], LIMIT).await.is_err(), "no such partition");
}
