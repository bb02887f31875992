//! Several processes at once, each a session of its own.

use crate::support::*;
use futures::future::join_all;
use std::sync::Arc;
use tributary_backends::tables::{ApiKey, Hold, IndexPart, Location, Permission, Reservation, Tables, TablesError};
use tributary_schemas::identity::Identity;
use uuid::Uuid;

const SESSIONS: usize = 4;

async fn sessions(keyspace: &Keyspace) -> Vec<Arc<dyn Tables>> {
    let options = keyspace.options();
    join_all((0..SESSIONS).map(|_| open(&options))).await
}

fn key(n: u8) -> ApiKey {
    ApiKey {
        id: format!("key-{n}"),
        hash: [n; 32],
        workspace: "w".to_owned(),
        label: String::new(),
        source: "crm".to_owned(),
        permissions: vec![Permission::Read],
        rate_limit: None,
        created_at: 1,
        last_used_at: None,
        revoked_at: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_key_limit_holds_across_processes() {
    let keyspace = Keyspace::new();
    let sessions = sessions(&keyspace).await;
    let makers = (0..32u8).map(|n| {
        let tables = sessions[usize::from(n) % SESSIONS].clone();
        async move {
            until_available(async || match tables.create_key(key(n), 5).await {
                Err(TablesError::KeyLimit { .. }) => Ok(false),
                other => other.map(|()| true),
            })
            .await
        }
    });
    let made = join_all(makers).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 5);
    for tables in &sessions {
        let keys = tables.keys(Some("w")).await.unwrap();
        let mut found: Vec<_> = keys.iter().map(|key| usize::from(key.hash[0])).collect();
        found.sort_unstable();
        let told: Vec<_> = (0..32).filter(|n| made[*n]).collect();
        assert_eq!(found, told, "those that were told so, and no others");
        for key in keys {
            assert_eq!(tables.key_by_hash(&key.hash).await.unwrap(), Some(key));
        }
    }
    // A key that is revoked by one works for none, and makes room for one.
    let revoked = made.iter().position(|made| *made).unwrap() as u8;
    assert!(sessions[0].revoke_key(&key(revoked).id, 9).await.unwrap());
    for tables in &sessions {
        assert_eq!(tables.key_by_hash(&[revoked; 32]).await.unwrap().unwrap().revoked_at, Some(9));
    }
    let makers = sessions.iter().zip(100..).map(|(tables, n)| {
        until_available(async move || match tables.create_key(key(n), 5).await {
            Err(TablesError::KeyLimit { .. }) => Ok(0),
            other => other.map(|()| 1),
        })
    });
    assert_eq!(join_all(makers).await.into_iter().sum::<u8>(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_twins_is_fresh_across_processes() {
    let keyspace = Keyspace::new();
    let sessions = sessions(&keyspace).await;
    let now = 1_000_000_000;
    let lease = now + 60_000_000;
    let hold = |round: u32, owner: u128| Hold {
        workspace: "w".to_owned(),
        key: format!("key {round}"),
        body_hash: [1; 32],
        owner: Uuid::from_u128(owner),
    };
    for round in 0..4 {
        let twins = (1..=24u128).map(|owner| {
            let (tables, hold) = (sessions[owner as usize % SESSIONS].clone(), hold(round, owner));
            async move { until_available(async || tables.reserve(&hold, now, lease).await).await }
        });
        let answers = join_all(twins).await;
        let fresh: Vec<_> = (1..).zip(&answers).filter(|(_, answer)| **answer == Reservation::Fresh).collect();
        assert_eq!(fresh.len(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| **answer == Reservation::InFlight).count(), 23);
        // Its lease over, many inherit at once; the one that is taken for dead comes late.
        let dead = hold(round, fresh[0].0);
        let heirs =
            (101..=112u128).map(|owner| {
                let (tables, hold) = (sessions[owner as usize % SESSIONS].clone(), hold(round, owner));
                async move {
                    (owner, until_available(async || tables.reserve(&hold, lease, lease + 60_000_000).await).await)
                }
            });
        let heirs = join_all(heirs).await;
        let fresh: Vec<_> = heirs.iter().filter(|(_, answer)| *answer == Reservation::Fresh).collect();
        assert_eq!(fresh.len(), 1, "{heirs:?}");
        let heir = hold(round, fresh[0].0);
        let (late, done, ()) = tokio::join!(
            until_available(async || sessions[0].complete(&dead, b"dead", lease * 2).await),
            until_available(async || sessions[1].complete(&heir, b"heir", lease * 2).await),
            until_available(async || sessions[2].release(&dead).await),
        );
        assert_eq!((late, done), (false, true), "whoever comes late is told");
        for tables in &sessions {
            let answer = tables.reserve(&hold(round, 999), lease, lease + 1).await.unwrap();
            assert_eq!(answer, Reservation::Stored(b"heir".to_vec()));
        }
    }
}

/// Whoever is first, the batch's row or its facts: it does not count as landing, and nothing stays behind in the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_and_facts_meet_in_any_order() {
    let keyspace = Keyspace::new();
    let sessions = sessions(&keyspace).await;
    let batches = (0..120).map(|n| {
        let (putting, adding) = (sessions[n % SESSIONS].clone(), sessions[(n + 1) % SESSIONS].clone());
        async move {
            let id = n.to_string();
            let put = putting.put_batch(row("w", &id, n as i64 * 10_000));
            let add = async {
                if n % 3 > 0 {
                    adding.add_facts(&[landed("w", &id, 5)]).await.unwrap();
                }
                if n % 3 > 1 {
                    adding.add_facts(&[landed("w", &id, 4)]).await.unwrap();
                }
            };
            let (put, ()) = tokio::join!(put, add);
            put.unwrap();
        }
    });
    join_all(batches).await;
    let landing = sessions[0].landing_before(i64::MAX, 1_000).await.unwrap();
    let mut found: Vec<usize> = landing.iter().map(|batch| batch.row.batch_id.parse().unwrap()).collect();
    assert!(landing.is_sorted_by_key(|batch| batch.row.created_at.div_euclid(60_000)), "oldest first, by the minute");
    found.sort_unstable();
    assert_eq!(found, (0..120).filter(|n| n % 3 == 0).collect::<Vec<_>>());
    let session = session(&keyspace.node).await;
    let queue = format!("SELECT name FROM {}.due", keyspace.name);
    let left: Vec<(String,)> = rows(&session, queue.clone()).await;
    assert_eq!(left.len(), 40, "what is over was removed");
    let facts = sessions[1].batch("w", "2").await.unwrap().unwrap().facts;
    assert_eq!(facts.iter().map(|fact| fact.1).collect::<Vec<_>>(), [4], "the first time stays");
    // When all have ended, the second look closes the minutes that the first has found empty.
    for batch in landing {
        sessions[2].add_facts(&[landed("w", &batch.row.batch_id, 6)]).await.unwrap();
    }
    assert_eq!(sessions[3].landing_before(i64::MAX, 1_000).await.unwrap(), []);
    assert_eq!(rows::<(String,)>(&session, queue).await, []);
    let minutes = format!("SELECT minute FROM {}.due_minutes", keyspace.name);
    assert_eq!(rows::<(i64,)>(&session, minutes.clone()).await, [], "closed");
    sessions[0].put_batch(row("w", "late", 7)).await.unwrap();
    assert_eq!(sessions[1].landing_before(i64::MAX, 10).await.unwrap().len(), 1, "and open again");
}

/// What a process writes that does not know that the part was cleared reaches nobody, nor does its watermark.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_slept_through_a_rebuilding_says_nothing() {
    let keyspace = Keyspace::new();
    let sessions = sessions(&keyspace).await;
    let part = IndexPart { workspace: "w".to_owned(), lane: 3 };
    let entries = |version: u64| -> Vec<(Identity, Location)> {
        let entry = |n: u8| {
            let location =
                Location { file: Uuid::from_u128(9), row: n.into(), version: 1, digest: 1, table_version: version };
            (Identity([n; 16]), location)
        };
        (0..200).map(entry).collect()
    };
    let (asleep, awake) = (&sessions[0], &sessions[1]);
    asleep.upsert(&part, &entries(5)).await.unwrap();
    asleep.set_watermark(&part, 5).await.unwrap();
    awake.clear(&part).await.unwrap();
    asleep.upsert(&part, &entries(6)).await.unwrap();
    asleep.set_watermark(&part, 6).await.unwrap();
    assert_eq!(awake.watermark(&part).await.unwrap(), None);
    let found = awake.lookup(&part, &[Identity([1; 16])]).await.unwrap();
    assert_eq!((found.locations, found.complete_to), (vec![None], None));
    // A lower version than before, and the sleeper finds it.
    awake.upsert(&part, &entries(2)[..3]).await.unwrap();
    awake.set_watermark(&part, 2).await.unwrap();
    let keys = [1, 7].map(|n| Identity([n; 16]));
    let found = asleep.lookup(&part, &keys).await.unwrap();
    assert_eq!((found.locations, found.complete_to), (vec![Some(entries(2)[1].1), None], Some(2)));
    assert_eq!(asleep.watermark(&part).await.unwrap(), Some(2));
    // Several clear it at the same time, again and again: nothing that is written afterwards is lost under what was dropped.
    for _ in 0..8 {
        join_all(sessions.iter().map(async |tables| tables.clear(&part).await.unwrap())).await;
        assert_eq!(awake.watermark(&part).await.unwrap(), None);
        awake.upsert(&part, &entries(1)).await.unwrap();
        awake.set_watermark(&part, 1).await.unwrap();
        let found = asleep.lookup(&part, &keys).await.unwrap();
        assert_eq!(found.complete_to, Some(1));
        assert!(found.locations.iter().all(Option::is_some), "{found:?}");
    }
    // All begin the first generation of another part at once, and agree.
    let part = IndexPart { workspace: "v".to_owned(), lane: 0 };
    join_all(sessions.iter().map(async |tables| tables.upsert(&part, &entries(1)).await.unwrap())).await;
    for tables in &sessions {
        let mut count = 0;
        tables.scan(&part, &mut |slice| count += slice.len()).await.unwrap();
        assert_eq!(count, 200);
    }
}
