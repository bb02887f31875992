//! The HTTP API, as a client that does nothing by itself: no retries, no interpretation.

use serde_json::Value;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// What the API answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub json: Value,
    /// `Retry-After`, seconds.
    pub retry_after: Option<u64>,
}

impl Answer {
    /// The id of an accepted batch.
    #[track_caller]
    pub fn batch_id(&self) -> String {
        assert_eq!(self.status, 202, "{self:?}");
        self.json["batchId"].as_str().expect("batchId").to_owned()
    }
}

/// A client of one server with one key.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    base: String,
    key: String,
    /// What a balancer says of the server, if there is one.
    in_use: Option<watch::Receiver<bool>>,
}

impl Http {
    /// Of the server at `address`.
    pub fn new(address: SocketAddr, key: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().expect("a client");
        Self { client, base: format!("http://{address}/api/v1/ingest"), key: key.to_owned(), in_use: None }
    }

    /// The same behind a balancer.
    #[cfg(feature = "cluster")]
    pub fn balanced(mut self, in_use: watch::Receiver<bool>) -> Self {
        self.in_use = Some(in_use);
        self
    }

    /// Whether requests may go to this server now.
    pub fn is_in_use(&self) -> bool {
        self.in_use.as_ref().is_none_or(|in_use| *in_use.borrow())
    }

    /// Posts a body.
    ///
    /// # Errors
    /// There is no answer, or not all of it.
    pub async fn try_post(
        &self,
        content_type: &str,
        body: Vec<u8>,
        idempotency_key: Option<&str>,
    ) -> reqwest::Result<Answer> {
        let mut request =
            self.client.post(&self.base).header("x-api-key", &self.key).header("content-type", content_type);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        answer(request.body(body).send().await?).await
    }

    /// Posts records, one per line.
    pub async fn ndjson(&self, body: impl Into<Vec<u8>>) -> Answer {
        self.try_post("application/x-ndjson", body.into(), None).await.expect("an answer")
    }

    /// Gets what is below `/api/v1/ingest`.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.expect("an answer")
    }

    /// The same, where there may be no answer.
    ///
    /// # Errors
    /// There is no answer, or not all of it.
    pub async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        let request = self.client.get(format!("{}{path}", self.base)).header("x-api-key", &self.key);
        answer(request.send().await?).await
    }

    /// Waits until a batch is `COMPLETE`; also for a server that says to come again, as any client has to.
    pub async fn complete(&self, batch_id: &str) {
        let begun = Instant::now();
        loop {
            let batch = self.get(&format!("/batches/{batch_id}?wait=COMPLETE&timeout=60")).await;
            match batch.retry_after {
                Some(seconds) if batch.status == 503 && begun.elapsed() < Duration::from_secs(60) => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                _ => return assert_eq!(batch.json["status"], "COMPLETE", "{batch:?}"),
            }
        }
    }

    /// Posts records and waits until they are in the lake.
    pub async fn land(&self, body: impl Into<Vec<u8>>) -> Answer {
        let answer = self.ndjson(body).await;
        self.complete(&answer.batch_id()).await;
        answer
    }
}

async fn answer(response: reqwest::Response) -> reqwest::Result<Answer> {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get("retry-after")
        .map(|value| value.to_str().ok().and_then(|text| text.parse().ok()).expect("Retry-After in seconds"));
    let body = response.bytes().await?;
    let json = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{status}: {}", String::from_utf8_lossy(&body)));
    Ok(Answer { status, json, retry_after })
}
