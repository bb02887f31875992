//! How tables come about and change: by one process of many, in steps that may be done again.

use crate::support::*;
use futures::future::try_join_all;
use scylla::client::session::Session;
use std::time::{Duration, Instant};
use tributary_backends::tables::cql::migrate;
use uuid::Uuid;

const LOCK: Duration = Duration::from_secs(60);

const MAKE: &[&str] = &["CREATE TABLE IF NOT EXISTS {keyspace}.things (id int PRIMARY KEY, name text)"];
const CHANGE: &[&str] = &[
    "ALTER TABLE {keyspace}.things ADD colour text",
    "CREATE TABLE IF NOT EXISTS {keyspace}.others (id int PRIMARY KEY)",
    "ALTER TABLE {keyspace}.things ADD size int",
];

async fn tables(session: &Session, keyspace: &Keyspace) -> usize {
    let asked = format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{}'", keyspace.name);
    // Beside `migrations`.
    rows::<(String,)>(session, asked).await.len() - 1
}

async fn holder(session: &Session, keyspace: &Keyspace) -> Option<Uuid> {
    let asked = format!("SELECT owner FROM {}.migrations WHERE name = 'lock'", keyspace.name);
    rows::<(Option<Uuid>,)>(session, asked).await.first()?.0
}

async fn version(session: &Session, keyspace: &Keyspace) -> Option<i32> {
    let asked = format!("SELECT version FROM {}.migrations WHERE name = 'schema'", keyspace.name);
    rows::<(Option<i32>,)>(session, asked).await.first()?.0
}

/// A step that does nothing but say that it is done.
const FIRST: &[&str] = &[];

/// That, and so many tables in another step, which take their time.
fn many(count: usize) -> &'static [&'static [&'static str]] {
    let make = |n| &*format!("CREATE TABLE IF NOT EXISTS {{keyspace}}.t{n} (id int PRIMARY KEY)").leak();
    vec![FIRST, (0..count).map(make).collect::<Vec<&str>>().leak()].leak()
}

/// Rows that are there stay as they are, and a step that was cut off behind a column is done again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_may_change_tables_at_once_and_again() {
    let keyspace = Keyspace::new();
    migrate(&keyspace.options(), &[MAKE], LOCK).await.unwrap();
    let session = session(&keyspace.node).await;
    let old = format!("INSERT INTO {}.things (id, name) VALUES (1, 'one')", keyspace.name);
    session.query_unpaged(old, ()).await.unwrap();
    for _ in 0..2 {
        let options = keyspace.options();
        try_join_all((0..10).map(|_| migrate(&options, &[MAKE, CHANGE], LOCK))).await.unwrap();
        assert_eq!((version(&session, &keyspace).await, tables(&session, &keyspace).await), (Some(2), 2));
        let found = format!("SELECT name, colour, size FROM {}.things", keyspace.name);
        let found: Vec<(String, Option<String>, Option<i32>)> = rows(&session, found).await;
        assert_eq!(found, [("one".to_owned(), None, None)]);
        // As one leaves it that dies before it has said that it is done.
        let cut_off = format!("INSERT INTO {}.migrations (name, version) VALUES ('schema', 1)", keyspace.name);
        session.query_unpaged(cut_off, ()).await.unwrap();
    }
}

/// Work that takes longer than the lock lasts is done by one process all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_lock_is_renewed_while_somebody_works() {
    const LASTS: Duration = Duration::from_secs(3);
    let keyspace = Keyspace::new();
    let (options, steps) = (keyspace.options(), many(100));
    migrate(&options, &[FIRST], LASTS).await.unwrap();
    let begun = Instant::now();
    let mut working = tokio::spawn(async move { try_join_all((0..3).map(|_| migrate(&options, steps, LASTS))).await });
    let session = session(&keyspace.node).await;
    let mut holders = Vec::new();
    while tokio::time::timeout(Duration::from_millis(50), &mut working)
        .await
        .map(|ended| ended.unwrap().unwrap())
        .is_err()
    {
        if version(&session, &keyspace).await == Some(1) {
            holders.extend(holder(&session, &keyspace).await);
        }
    }
    assert!(begun.elapsed() > 2 * LASTS, "{:?} show nothing", begun.elapsed());
    holders.dedup();
    assert_eq!(holders.len(), 1, "one had it all the while");
    assert_eq!(tables(&session, &keyspace).await, 100);
}

/// Whoever lost the lock leaves the work to the other; and a lock whose holder has died ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_has_lost_the_lock_works_no_more_until_it_has_it_again() {
    let keyspace = Keyspace::new();
    let (options, steps) = (keyspace.options(), many(100));
    let session = session(&keyspace.node).await;
    migrate(&options, &[FIRST], LOCK).await.unwrap();
    let working = tokio::spawn(async move { migrate(&options, steps, Duration::from_secs(3)).await });
    while tables(&session, &keyspace).await < 3 {}
    let thief = Uuid::from_u128(7);
    let steal = format!("UPDATE {}.migrations USING TTL 15 SET owner = ? WHERE name = 'lock'", keyspace.name);
    session.query_unpaged(steal, (thief,)).await.unwrap();
    let mut made = 0;
    loop {
        let now = tables(&session, &keyspace).await;
        if now == made {
            break;
        }
        made = now;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(holder(&session, &keyspace).await, Some(thief), "and it still has it");
    assert!(made < 100, "{made}");
    working.await.unwrap().unwrap();
    assert_eq!(tables(&session, &keyspace).await, 100);
}
