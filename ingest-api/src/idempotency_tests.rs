use super::*;
use async_trait::async_trait;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::Notify;
use tributary_backends::{
    log::{self, Append, RecordLog, Topic},
    tables::{self, Tables, TablesError},
    world::SystemWorld,
};
use uuid::Uuid;

/// Longer than it takes to reserve, append and complete where nothing is slow.
const LEASE: Duration = Duration::from_secs(1);

fn header(value: &[u8]) -> HeaderMap {
    HeaderMap::from_iter([(
        axum::http::HeaderName::from_static(HEADER),
        axum::http::HeaderValue::from_bytes(value).expect("value"),
    )])
}

#[test]
fn keys_are_counted_in_characters() {
    let longest = "ä".repeat(256);
    assert_eq!(key_of(&header(longest.as_bytes())), Ok(Some(longest)));
    assert_eq!(key_of(&HeaderMap::new()), Ok(None));
    for bad in ["".as_bytes(), "ä".repeat(257).as_bytes(), b"\xFF"] {
        assert_eq!(key_of(&header(bad)).expect_err("bad").code, "INVALID_IDEMPOTENCY_KEY");
    }
}

#[test]
fn the_hash_tells_apart_what_is_not_the_same_request() {
    let same = body_hash(Form::Json, None, b"{}");
    assert_eq!(same, body_hash(Form::Json, None, b"{}"));
    let others = [(Form::Ndjson, None, "{}"), (Form::Json, Some("text"), "{}"), (Form::Json, None, "{ }")];
    for (form, format, body) in others {
        assert_ne!(same, body_hash(form, format, body.as_bytes()));
    }
}

/// Real tables whose answers to one request are slow to come.
struct Slow {
    tables: Arc<dyn Tables>,
    /// Who has to wait for its hold until the lease is over.
    reserving: Option<Uuid>,
    /// Who has to wait before its answer is stored: told when it begins to, and goes on when told.
    completing: Option<Uuid>,
    waits: Notify,
    goes_on: Notify,
}

#[async_trait]
impl Idempotency for Slow {
    async fn reserve(&self, hold: &Hold, now: i64, lease_until: i64) -> Result<Reservation, TablesError> {
        let begun = Instant::now();
        let answer = self.tables.reserve(hold, now, lease_until).await?;
        if self.reserving == Some(hold.owner) {
            tokio::time::sleep_until(begun + LEASE).await;
        }
        Ok(answer)
    }

    async fn complete(&self, hold: &Hold, response: &[u8], expires_at: i64) -> Result<bool, TablesError> {
        if self.completing == Some(hold.owner) {
            self.waits.notify_one();
            self.goes_on.notified().await;
        }
        self.tables.complete(hold, response, expires_at).await
    }

    async fn release(&self, hold: &Hold) -> Result<(), TablesError> {
        self.tables.release(hold).await
    }

    async fn expire(&self, now: i64) -> Result<u64, TablesError> {
        self.tables.expire(now).await
    }
}

/// Tables and a log of this test's own.
struct Place {
    slow: Slow,
    log: Arc<dyn RecordLog>,
    _dir: TempDir,
}

impl Place {
    fn new(reserving: Option<Uuid>, completing: Option<Uuid>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let tables = tables::embedded::open(&dir.path().join("tables")).expect("tables");
        let options = log::embedded::Options::default();
        let log = log::embedded::open(&dir.path().join("log"), options, Arc::new(SystemWorld)).expect("a log");
        let slow = Slow { tables, reserving, completing, waits: Notify::new(), goes_on: Notify::new() };
        Self { slow, log, _dir: dir }
    }

    /// A request that appends one message and answers with its owner.
    async fn request(&self, owner: Uuid) -> Result<Bytes, Failure> {
        let config = IdempotencyConfig { lease: LEASE, ..IdempotencyConfig::default() };
        let hold = Hold { workspace: "w".to_owned(), key: "k".to_owned(), body_hash: [1; 32], owner };
        let message = Append { topic: Topic::Records, partition: 0, key: Bytes::new(), value: Bytes::new() };
        let work = async |by| {
            self.log.append_by(vec![message], by).await?;
            Ok(Bytes::from(owner.to_string()))
        };
        once(&self.slow, &SystemWorld, &config, hold, work).await
    }

    async fn appended(&self) -> i64 {
        self.log.watermarks(Topic::Records, 0).await.expect("watermarks").high
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gets_the_key_when_its_lease_is_over_appends_nothing() {
    let (slow, repeat) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let place = Place::new(Some(slow), None);
    let given_up = place.request(slow).await.expect_err("its repeat may have begun");
    assert_eq!(given_up.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(given_up.retry_after.is_some());
    assert_eq!(place.appended().await, 0);
    assert_eq!(place.request(repeat).await, Ok(Bytes::from(repeat.to_string())));
    assert_eq!(place.appended().await, 1);
}

/// The first one's answer is stored so slowly that its repeat takes over: the sender is told of one batch, never of two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twins_are_never_told_of_two_batches() {
    let (slow, repeat, third) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    let place = Place::new(None, Some(slow));
    let (late, answer) = tokio::join!(place.request(slow), async {
        place.slow.waits.notified().await;
        let answer = place.request(repeat).await;
        place.slow.goes_on.notify_one();
        answer
    });
    assert_eq!(answer, Ok(Bytes::from(repeat.to_string())));
    assert_eq!(late.expect_err("another answer counts").status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(place.request(third).await, answer, "the one that is stored");
}

/// As long as no repeat has come, an answer that is stored late is as good as any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_stored_late_is_the_answer_when_nobody_has_repeated() {
    let (slow, repeat) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let place = Place::new(None, Some(slow));
    let (late, ()) = tokio::join!(place.request(slow), async {
        place.slow.waits.notified().await;
        tokio::time::sleep(LEASE).await;
        place.slow.goes_on.notify_one();
    });
    assert_eq!(late, Ok(Bytes::from(slow.to_string())));
    assert_eq!(place.request(repeat).await, late);
}
