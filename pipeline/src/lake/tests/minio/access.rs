//! Stores that do not let us in, and one that must not be used.

use super::{
    acme, assert_halted, assert_unavailable, endpoint, fresh_url, harmed, lake_at,
    proxy::{Harm, Proxy},
    txn,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use object_store::{
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
    signer::{SignedUrlOptions, Signer},
};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tributary_backends::world::{SystemWorld, World};
use url::Url;

#[tokio::test]
async fn wrong_credentials_are_refused_in_words() {
    for (setting, code) in
        [("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId")]
    {
        let lake = lake_at(&fresh_url(), &[(setting, "wrong")]);
        assert_halted(lake.prove().await, &["check AWS_ACCESS_KEY_ID", code]);
        assert_halted(lake.table("acme").await, &["check AWS_ACCESS_KEY_ID", code]);
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named() {
    let lake = lake_at(&"s3://no-such-bucket/lake/".parse().unwrap(), &[]);
    assert_halted(lake.prove().await, &["bucket does not exist", "create it"]);
    assert_unavailable(lake.existing("acme").await.map(drop), "bucket does not exist");
    assert_unavailable(lake.answers().await, "bucket does not exist");
}

#[tokio::test]
async fn plain_http_has_to_be_allowed() {
    let lake = lake_at(&fresh_url(), &[("AWS_ALLOW_HTTP", "false")]);
    assert_halted(lake.prove().await, &["AWS_ALLOW_HTTP=true"]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_may_come_back() {
    // A port that nobody listens on.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let lake = lake_at(&fresh_url(), &[("AWS_ENDPOINT_URL", &url)]);
    assert_unavailable(lake.prove().await, &url["http://".len()..]);
}

#[tokio::test]
async fn rights_that_are_taken_away_and_given_back_cost_only_time() {
    let (proxy, _, through) = harmed().await;
    let mut table = acme(&through).await;
    through.answers().await.unwrap();
    proxy.harm(Method::GET, "", Harm::Answer(403, "AccessDenied"), 1);
    assert_unavailable(through.answers().await, "refuses the credentials");
    proxy.harm(Method::PUT, "", Harm::Answer(403, "AccessDenied"), 1);
    assert_unavailable(table.commit(txn(7)).await, "refuses the credentials");
    assert_eq!(table.commit(txn(7)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_store_without_create_only_puts_is_refused() {
    // Signatures cover the condition, so that nobody can take it off on the way: a bucket without signatures.
    let bucket = format!("open-{}", SystemWorld.uuid_v7());
    open_bucket(&bucket).await;
    let proxy = Proxy::start(&endpoint()).await;
    let url: Url = format!("s3://{bucket}/lake/").parse().unwrap();
    let through = lake_at(&url, &[("AWS_SKIP_SIGNATURE", "true"), ("AWS_ENDPOINT_URL", &proxy.url)]);
    proxy.harm(Method::PUT, "", Harm::Unconditional, 1_000);
    assert_halted(through.prove().await, &["no create-only puts", "If-None-Match"]);
    assert_halted(through.table("acme").await, &["no create-only puts"]);
    let objects = through.store.list(&Path::from("lake")).await.unwrap();
    assert!(objects.is_empty(), "no probe and no table: {objects:?}");
    proxy.heal();
    through.prove().await.unwrap();
    assert_eq!(acme(&through).await.version(), 0);
}

/// Makes a bucket in which anybody may do anything.
async fn open_bucket(bucket: &str) {
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::{bucket}","arn:aws:s3:::{bucket}/*"]}}]}}"#
    );
    let store = AmazonS3Builder::from_env().with_bucket_name(bucket).build().unwrap();
    put(&store, &[], String::new()).await;
    put(&store, &[("policy", "")], policy).await;
}

/// Puts something that is about the bucket itself, which `object_store` can only sign.
async fn put(store: &AmazonS3, query: &[(&str, &str)], body: String) {
    let options = SignedUrlOptions::new().with_query(query.iter().copied());
    let url = store.signed_url_opts(Method::PUT, &Path::default(), Duration::from_secs(60), &options).await.unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let connection = TcpStream::connect(&server).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::put(&url[url::Position::BeforePath..]).header("host", server);
    let answer = sender.send_request(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}
