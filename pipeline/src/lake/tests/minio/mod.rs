//! The lake on a real S3 server, which `tests/services/minio.sh start` starts; its environment names the server. Built
//! only with the feature `services`, so whoever builds these tests wants them run: without a server they fail.

mod access;
mod cut;
mod duck;
mod lost_answers;
#[expect(dead_code, reason = "the tests of whole processes use more of it")]
#[path = "../../../../../tests/services/store_proxy.rs"]
mod proxy;
mod races;
mod restarts;
mod server;
mod uploads;

use super::SeededWorld;
use crate::lake::{Lake, LakeError, Table, TableCommit, open};
use proxy::Proxy;
use std::collections::BTreeMap;
use tributary_backends::world::{SystemWorld, World};
use url::Url;

/// The lake's URL below the one that the tests were given, for this test alone.
pub(super) fn fresh_url() -> Url {
    let url = std::env::var("TRIBUTARY_TEST_S3").expect("TRIBUTARY_TEST_S3: start tests/services/minio.sh");
    url.parse::<Url>().unwrap().join(&format!("{}/", SystemWorld.uuid_v7())).unwrap()
}

/// The lake at `url`, with these settings before those of the environment.
fn lake_at(url: &Url, settings: &[(&str, &str)]) -> Lake {
    let mut options = open::environment();
    options.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    // Identities of tables and files come from the world's randomness, and the tests share a server.
    Lake::open_with(url, &options, SeededWorld::new(SystemWorld.uuid_v7().as_u64_pair().1)).unwrap()
}

/// The same lake twice: straight, and through a proxy that does harm.
async fn harmed() -> (Proxy, Lake, Lake) {
    harmed_with(&[]).await
}

async fn harmed_with(settings: &[(&str, &str)]) -> (Proxy, Lake, Lake) {
    let proxy = Proxy::start(&endpoint()).await;
    let url = fresh_url();
    let through = [&[("AWS_ENDPOINT_URL", proxy.url.as_str())][..], settings].concat();
    let (straight, through) = (lake_at(&url, &[]), lake_at(&url, &through));
    (proxy, straight, through)
}

fn endpoint() -> String {
    std::env::var("AWS_ENDPOINT_URL").expect("AWS_ENDPOINT_URL: start tests/services/minio.sh")
}

async fn acme(lake: &Lake) -> Table {
    lake.table_of("acme", super::rows::schema).await.unwrap()
}

fn txn(version: i64) -> TableCommit {
    TableCommit { txns: BTreeMap::from([("lane-0".to_owned(), version)]), ..TableCommit::default() }
}

fn assert_unavailable<T: std::fmt::Debug>(answer: Result<T, LakeError>, part: &str) {
    match answer {
        Err(LakeError::Unavailable(reason)) => assert!(reason.contains(part), "{reason} does not say {part}"),
        other => panic!("{other:?}"),
    }
}

fn assert_halted<T: std::fmt::Debug>(answer: Result<T, LakeError>, parts: &[&str]) {
    match answer {
        Err(LakeError::Halted(reason)) => {
            assert!(parts.iter().all(|part| reason.contains(part)), "{reason} does not say {parts:?}")
        }
        other => panic!("{other:?}"),
    }
}
