//! A server that dies, hangs, or loses the index.

use crate::support::*;
use futures::future::join_all;
use scylla::client::session_builder::SessionBuilder;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tracing::Level;
use tributary_backends::{
    lines::Lines,
    tables::{Hold, IndexPart, Location, Reservation, Tables, TablesError, cql::Options},
};
use tributary_schemas::identity::Identity;
use uuid::Uuid;

const CALLERS: u64 = 4;
const NOW: i64 = 1_000_000_000;
const LATER: i64 = NOW + 3_600_000_000;

fn id(caller: u64, n: u64) -> String {
    format!("{caller}-{n}")
}

fn part(caller: u64) -> IndexPart {
    IndexPart { workspace: "w".to_owned(), lane: u32::try_from(caller).unwrap() }
}

fn entries(n: u64) -> Vec<(Identity, Location)> {
    // The first of them is the same each time.
    let entry = |m: u64| {
        let hash = blake3::hash(&(if m == 0 { 0 } else { n * 20 + m }).to_le_bytes());
        let location = Location {
            file: Uuid::from_u128(n.into()),
            row: u32::try_from(m).unwrap(),
            version: 1,
            digest: 1,
            table_version: n,
        };
        (Identity(*hash.as_bytes().first_chunk().unwrap()), location)
    };
    (0..20).map(entry).collect()
}

fn hold(caller: u64, n: u64, owner: u128) -> Hold {
    Hold { workspace: "w".to_owned(), key: id(caller, n), body_hash: [1; 32], owner: Uuid::from_u128(owner) }
}

/// What a request and a lane do, again and again, each step repeated until it was done; how often.
async fn work(tables: Arc<dyn Tables>, caller: u64, done: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> u64 {
    for n in 1.. {
        if stop.load(Ordering::Relaxed) {
            return n - 1;
        }
        let (id, owner) = (id(caller, n), hold(caller, n, u128::from(n)));
        let fresh = until_available(async || tables.reserve(&owner, NOW, LATER).await).await;
        assert_eq!(fresh, Reservation::Fresh, "whatever became of the first try, the hold is this caller's");
        until_available(async || tables.put_batch(row("w", &id, NOW / 1_000)).await).await;
        let twin = hold(caller, n, 0);
        let held = until_available(async || tables.reserve(&twin, NOW, LATER).await).await;
        assert_eq!(held, Reservation::InFlight);
        match n % 3 {
            0 => until_available(async || tables.release(&owner).await).await,
            _ => assert!(until_available(async || tables.complete(&owner, id.as_bytes(), LATER).await).await),
        }
        until_available(async || tables.add_facts(&[landed("w", &id, 5)]).await).await;
        until_available(async || tables.upsert(&part(caller), &entries(n)).await).await;
        until_available(async || tables.set_watermark(&part(caller), n).await).await;
        done.fetch_add(1, Ordering::Relaxed);
    }
    unreachable!()
}

async fn until(done: &AtomicUsize, count: usize) {
    let reached = async {
        while done.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(3 * PATIENCE, reached).await.unwrap();
}

async fn check(tables: &dyn Tables, caller: u64, count: u64) {
    for n in 1..=count {
        let id = id(caller, n);
        let batch = tables.batch("w", &id).await.unwrap().unwrap();
        assert_eq!(batch.facts, [(landed("w", &id, 5).fact, 5)]);
        let again = tables.reserve(&hold(caller, n, 0), NOW, LATER).await.unwrap();
        let wanted = if n % 3 == 0 { Reservation::Fresh } else { Reservation::Stored(id.into_bytes()) };
        assert_eq!(again, wanted);
        let keys: Vec<_> = entries(n).into_iter().map(|entry| entry.0).collect();
        let found = tables.lookup(&part(caller), &keys).await.unwrap().locations;
        assert_eq!(found[0].unwrap().table_version, count, "the last one wins");
        assert!(found[1..].iter().flatten().eq(entries(n)[1..].iter().map(|entry| &entry.1)));
    }
    assert_eq!(tables.watermark(&part(caller)).await.unwrap(), Some(count));
}

/// Everything that was answered is there, and everything that was repeated is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_and_started_again_loses_nothing() {
    let mut server = Server::start(false).await;
    let keyspace = Keyspace::on(server.node.clone());
    // Calls fail within a restart, and not only wait it out.
    let options = Options { request_timeout: Duration::from_secs(3), ..keyspace.options() };
    let tables = open(&options).await;
    let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let callers = join_all((0..CALLERS).map(|caller| work(tables.clone(), caller, done.clone(), stop.clone())));
    let killing = async {
        for goal in [40, 90] {
            until(&done, goal).await;
            server.kill().await;
            let failed = tables.keys(None).await.unwrap_err();
            assert!(matches!(failed, TablesError::Unavailable(_)), "{failed:?}");
            server.again().await;
        }
        let so_far = done.load(Ordering::Relaxed);
        until(&done, so_far + 40).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (counts, ()): (Vec<u64>, ()) = tokio::join!(callers, killing);
    let fresh = open(&keyspace.options()).await;
    for (caller, count) in (0..).zip(&counts) {
        check(&*fresh, caller, *count).await;
    }
    let mut listed: Vec<String> = Vec::new();
    loop {
        let before = listed
            .last()
            .map(|id| tributary_backends::tables::BatchPosition { created_at: NOW / 1_000, batch_id: id.clone() });
        let page = fresh.batches("w", 100, before.as_ref()).await.unwrap();
        if page.is_empty() {
            break;
        }
        listed.extend(page.into_iter().map(|batch| batch.row.batch_id));
    }
    assert_eq!(listed.len() as u64, counts.iter().sum::<u64>(), "each is listed once");
    assert_eq!(fresh.landing_before(i64::MAX, 1_000).await.unwrap(), []);
    drop((tables, fresh, keyspace));
}

/// Nothing waits for ever for a server that neither answers nor hangs up, calls fail sooner once that is known, and all
/// goes on when it does answer again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_hangs_is_unavailable_in_bounded_time() {
    let server = Server::start(false).await;
    let keyspace = Keyspace::on(server.node.clone());
    let tables = open(&keyspace.options()).await;
    tables.put_batch(row("w", "a", 1)).await.unwrap();
    let impatient = Options { request_timeout: Duration::from_secs(3), ..keyspace.options() };
    let tables = {
        drop(tables);
        open(&impatient).await
    };
    server.signal("-STOP");
    let holding = hold(0, 1, 1);
    let (entries, first) = (entries(1), part(0));
    let (put, reserved, written) = tokio::join!(
        timeout(Duration::from_secs(15), tables.put_batch(row("w", "b", 1))),
        timeout(Duration::from_secs(15), tables.reserve(&holding, NOW, LATER)),
        timeout(Duration::from_secs(15), tables.upsert(&first, &entries)),
    );
    assert!(matches!(put.unwrap(), Err(TablesError::Unavailable(_))));
    assert!(matches!(reserved.unwrap(), Err(TablesError::Unavailable(_))));
    assert!(matches!(written.unwrap(), Err(TablesError::Unavailable(_))));
    let begun = Instant::now();
    assert!(matches!(tables.batch("w", "a").await, Err(TablesError::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
    server.signal("-CONT");
    until_available(async || tables.put_batch(row("w", "b", 1)).await).await;
    let reserved = until_available(async || tables.reserve(&holding, NOW, LATER).await).await;
    assert_eq!(reserved, Reservation::Fresh, "also when the call that failed has taken the key");
    assert_eq!(tables.batches("w", 10, None).await.unwrap().len(), 2);
    drop((tables, keyspace));
}

/// A start has more time than a request: the server hangs for longer than those may take while the tables are made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_hangs_while_the_tables_are_made_delays_them() {
    let server = Server::start(false).await;
    let keyspace = Keyspace::on(server.node.clone());
    let request_timeout = Duration::from_secs(2);
    let options = Options { request_timeout, ..keyspace.options() };
    let session = session(&server.node).await;
    let opening = tokio::spawn(async move { open(&options).await });
    let tables = format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{}'", keyspace.name);
    while rows::<(String,)>(&session, tables.clone()).await.len() < 3 {}
    server.signal("-STOP");
    tokio::time::sleep(2 * request_timeout).await;
    server.signal("-CONT");
    let tables = timeout(3 * PATIENCE, opening).await.unwrap().unwrap();
    until_available(async || tables.put_batch(row("w", "1", NOW)).await).await;
}

/// The index may be dropped while all goes on: its owners find that it has no watermark, and the rest never notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_index_that_is_dropped_comes_back_empty() {
    let keyspace = Keyspace::new();
    let (one, other) = (open(&keyspace.options()).await, open(&keyspace.options()).await);
    one.upsert(&part(0), &entries(7)).await.unwrap();
    one.set_watermark(&part(0), 7).await.unwrap();
    assert_eq!(other.watermark(&part(0)).await.unwrap(), Some(7));
    let session = session(&keyspace.node).await;
    session.query_unpaged(format!("DROP KEYSPACE {}_index", keyspace.name), ()).await.unwrap();
    let keys: Vec<_> = entries(7).into_iter().map(|entry| entry.0).collect();
    // Whoever comes first makes it anew, and whoever still believes in the old one is not believed.
    let found = until_available(async || other.lookup(&part(0), &keys).await).await;
    assert!(found.complete_to.is_none() && found.locations.iter().all(Option::is_none));
    assert_eq!(until_available(async || one.watermark(&part(0)).await).await, None);
    one.put_batch(row("w", "b", 1)).await.unwrap();
    until_available(async || one.upsert(&part(0), &entries(3)).await).await;
    one.set_watermark(&part(0), 3).await.unwrap();
    assert_eq!(other.watermark(&part(0)).await.unwrap(), Some(3));
    let found = other.lookup(&part(0), &keys[..1]).await.unwrap();
    assert_eq!(found.locations, [Some(entries(3)[0].1)], "a lower table version than before");
}

/// The user may read and write, and no more: each call finds that the index is gone, and that it cannot be made again.
/// On one thread, whose log is looked at.
#[tokio::test]
async fn an_index_that_cannot_be_made_again_is_said_once() {
    let server = Server::start(true).await;
    let keyspace = Keyspace::on(server.node.clone());
    let login = |name: &str| Options {
        user: Some(name.to_owned()),
        password: Some(name.to_owned()),
        request_timeout: Duration::from_secs(3),
        ..keyspace.options()
    };
    drop(open(&login("cassandra")).await);
    let admin = SessionBuilder::new().known_node(&server.node).user("cassandra", "cassandra").build().await.unwrap();
    let tell = async |cql: String| drop(admin.query_unpaged(cql, ()).await.unwrap());
    tell("CREATE ROLE worker WITH PASSWORD = 'worker' AND LOGIN = true".to_owned()).await;
    for right in ["SELECT", "MODIFY"] {
        for of in ["", "_index"] {
            tell(format!("GRANT {right} ON KEYSPACE {}{of} TO worker", keyspace.name)).await;
        }
    }
    let tables = open(&login("worker")).await;
    tables.set_watermark(&part(0), 7).await.unwrap();
    tell(format!("DROP KEYSPACE {}_index", keyspace.name)).await;
    let errors = Lines::down_to(Level::ERROR);
    let log = tracing::subscriber::set_default(errors.clone());
    for _ in 0..5 {
        let failed = tables.watermark(&part(0)).await.unwrap_err();
        assert!(matches!(&failed, TablesError::Unavailable(why) if why.contains("grant it")), "{failed:?}");
    }
    drop(log);
    assert_eq!(errors.count(), 1);
    drop((tables, keyspace));
}
