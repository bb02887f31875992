//! One batch → one answer, however many tries that takes.

use super::{
    plan::Batch,
    retry::{Policy, Verdict, verdict},
};
use anyhow::Context;
use bytes::Bytes;
use reqwest::{Response, StatusCode, header};
use std::{io::Write, time::Duration};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tributary_backends::world::{SystemWorld, World};
use tributary_schemas::{
    api::{ApiError, BatchPage, BatchView, IngestAccepted, RecordError},
    batch::BatchStatus,
};
use url::Url;

/// How bodies are compressed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Not at all when the server is on this machine, else zstd.
    Auto,
    /// zstd at its fastest level: five times smaller for a few milliseconds.
    Zstd,
    /// For proxies that know nothing else.
    Gzip,
    /// Not at all.
    None,
}

/// What the server said about a batch.
#[derive(Debug)]
pub enum Answer {
    /// `202`
    Accepted(IngestAccepted),
    /// Every record was rejected: the first errors, and how many there are.
    AllRejected(Vec<RecordError>, u64),
    /// The batch as a whole was refused.
    Refused(ApiError),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Tried for as long as allowed.
    #[error("gave up after {tries} tries in {seconds} s: {last}")]
    GaveUp {
        /// Requests made.
        tries: u32,
        /// Since the first failure.
        seconds: u64,
        /// Why the last one failed.
        last: String,
    },
    /// No request can succeed.
    #[error("{0}")]
    Denied(String),
    /// The user stopped the run.
    #[error("stopped")]
    Stopped,
}

/// One server, one key, and how to ask.
#[derive(Debug, Clone)]
pub struct Target {
    /// The API's address.
    pub url: Url,
    /// Who asks.
    pub key: String,
    /// Of bodies.
    pub compression: Compression,
    /// Idle connections kept.
    pub parallel: usize,
    /// For one answer.
    pub timeout: Duration,
    /// Since a batch's first failure.
    pub retry_for: Duration,
}

/// A body as it goes over the wire.
#[derive(Debug, Clone)]
pub struct Encoded {
    bytes: Bytes,
    /// Its `Content-Encoding`.
    encoding: Option<&'static str>,
}

/// How one request of perhaps several ended.
#[derive(Debug)]
pub struct Try<'a> {
    /// None when there was no answer.
    pub status: Option<u16>,
    /// From the request's first byte to the answer's last.
    pub took: Duration,
    /// What was said instead of `202` or `200`.
    pub trouble: Option<&'a str>,
}

/// Is told of every request.
pub type Watch<'a> = &'a (dyn Fn(&Try<'_>) + Sync);

/// Longest that one long poll waits.
const LONG_POLL: u64 = 10;

/// Talks to one server with one key.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    ingest: Url,
    key: String,
    compression: Compression,
    policy: Policy,
    stop: CancellationToken,
    /// No request goes out before this moment: one `429` slows down every sender of this process.
    not_before: watch::Sender<Instant>,
}

impl Client {
    /// A client for the target; it makes no further try once `stop` is cancelled.
    ///
    /// # Errors
    /// The address or the key cannot be used.
    pub fn new(target: Target, stop: CancellationToken) -> anyhow::Result<Self> {
        let mut base = target.url;
        anyhow::ensure!(
            base.scheme() != "https",
            "--url {base}: this build speaks http only; put a TLS proxy before it"
        );
        anyhow::ensure!(base.scheme() == "http" && base.has_host(), "--url {base} is not an http:// address");
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let local = base.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"));
        let compression = match target.compression {
            Compression::Auto if local => Compression::None,
            Compression::Auto => Compression::Zstd,
            chosen => chosen,
        };
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .timeout(target.timeout)
            .pool_max_idle_per_host(target.parallel)
            .build()
            .context("cannot make an HTTP client")?;
        let policy = Policy {
            first: Duration::from_millis(200),
            longest: Duration::from_secs(10),
            give_up_after: target.retry_for,
        };
        let (not_before, _) = watch::channel(Instant::now());
        let ingest = base.join("api/v1/ingest").context("--url cannot be used")?;
        Ok(Self { http, ingest, key: target.key, compression, policy, stop, not_before })
    }

    /// Sends a batch until there is an answer.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn deliver(&self, batch: &Batch, idempotency_key: &str) -> Result<Answer, SendError> {
        let (text, content_type) = match batch.multiline {
            true => (array(batch), "application/json"),
            false => (batch.text.clone(), "application/x-ndjson"),
        };
        let body = self.encoded(text).map_err(|error| SendError::Denied(error.to_string()))?;
        self.post(&body, content_type, idempotency_key, &|_| ()).await
    }

    /// Sends a body until there is an answer.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn post(
        &self,
        body: &Encoded,
        content_type: &str,
        idempotency_key: &str,
        watch: Watch<'_>,
    ) -> Result<Answer, SendError> {
        let request = || {
            let mut request = self.http.post(self.ingest.clone());
            if let Some(encoding) = body.encoding {
                request = request.header(header::CONTENT_ENCODING, encoding);
            }
            request
                .header(header::CONTENT_TYPE, content_type)
                .header("idempotency-key", idempotency_key)
                .body(body.bytes.clone())
        };
        answer(self.until_answered(request, watch).await?)
    }

    /// Waits until a batch is in the lake; false when the time is over before.
    ///
    /// # Errors
    /// See [`SendError`]; also when the batch has failed.
    pub async fn landed(&self, batch_id: &str, within: Duration) -> Result<bool, SendError> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let mut url = self.ingest.clone();
            url.set_path(&format!("{}/batches/{batch_id}", url.path()));
            let seconds = left.as_secs().clamp(1, LONG_POLL).to_string();
            url.query_pairs_mut().append_pair("wait", "LANDED").append_pair("timeout", &seconds);
            let batch: BatchView = self.read(&url).await?;
            match batch.status {
                BatchStatus::Landing => {}
                BatchStatus::Failed => return Err(SendError::Denied(format!("batch {batch_id} has failed"))),
                BatchStatus::Landed | BatchStatus::Processing | BatchStatus::Complete => return Ok(true),
            }
        }
    }

    /// A page of the batches, newest first.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn batches(&self, cursor: Option<&str>) -> Result<BatchPage, SendError> {
        let mut url = self.ingest.clone();
        url.set_path(&format!("{}/batches", url.path()));
        url.query_pairs_mut().append_pair("limit", "100").extend_pairs(cursor.map(|cursor| ("cursor", cursor)));
        self.read(&url).await
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, url: &Url) -> Result<T, SendError> {
        let (status, body) = self.until_answered(|| self.http.get(url.clone()), &|_| ()).await?;
        if status != StatusCode::OK {
            return Err(SendError::Denied(describe(status, &body)));
        }
        serde_json::from_slice(&body)
            .map_err(|error| SendError::Denied(format!("{url} answers something else: {error}")))
    }

    async fn until_answered(
        &self,
        request: impl Fn() -> reqwest::RequestBuilder,
        watch: Watch<'_>,
    ) -> Result<(StatusCode, Bytes), SendError> {
        let mut first_failure = None;
        let mut tries = 0;
        loop {
            self.pause().await?;
            tries += 1;
            let begun = Instant::now();
            let attempt = whole(request().header("x-api-key", &self.key).send().await).await;
            let took = begun.elapsed();
            let (last, retry_after) = match attempt {
                Ok((status, body, retry_after)) => {
                    let trouble = (!status.is_success()).then(|| describe(status, &body));
                    watch(&Try { status: Some(status.as_u16()), took, trouble: trouble.as_deref() });
                    match (verdict(status.as_u16()), trouble) {
                        (Verdict::Retry, Some(trouble)) => (trouble, retry_after),
                        _ => return Ok((status, body)),
                    }
                }
                Err(error) => {
                    let last = explain(&error);
                    watch(&Try { status: None, took, trouble: Some(&last) });
                    if error.is_builder() {
                        return Err(SendError::Denied(last));
                    }
                    (last, None)
                }
            };
            let wait = self.policy.wait(tries, retry_after, jitter());
            let since = first_failure.get_or_insert_with(Instant::now).elapsed();
            if !self.policy.allows(since + wait) {
                return Err(SendError::GaveUp { tries, seconds: since.as_secs(), last });
            }
            tracing::debug!(%last, ?wait, "trying again");
            if retry_after.is_some() {
                self.not_before.send_modify(|moment| *moment = (*moment).max(Instant::now() + wait));
            } else {
                self.sleep_until(Instant::now() + wait).await?;
            }
        }
    }

    /// Waits for the moment that the server asked for.
    async fn pause(&self) -> Result<(), SendError> {
        loop {
            let moment = *self.not_before.borrow();
            if moment <= Instant::now() {
                return if self.stop.is_cancelled() { Err(SendError::Stopped) } else { Ok(()) };
            }
            self.sleep_until(moment).await?;
        }
    }

    async fn sleep_until(&self, moment: Instant) -> Result<(), SendError> {
        tokio::select! {
            () = tokio::time::sleep_until(moment) => Ok(()),
            () = self.stop.cancelled() => Err(SendError::Stopped),
        }
    }

    /// A body as it goes over the wire to this server.
    ///
    /// # Errors
    /// A compressor's fault.
    pub fn encoded(&self, text: Vec<u8>) -> std::io::Result<Encoded> {
        let (bytes, encoding) = match self.compression {
            Compression::Zstd | Compression::Auto => (zstd::encode_all(text.as_slice(), 1)?.into(), Some("zstd")),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&text)?;
                (encoder.finish()?.into(), Some("gzip"))
            }
            Compression::None => (text.into(), None),
        };
        Ok(Encoded { bytes, encoding })
    }
}

/// A JSON array of the records: the only form that carries line breaks inside a record unchanged.
fn array(batch: &Batch) -> Vec<u8> {
    let mut text = vec![b'['];
    for (index, slot) in batch.slots.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(batch.record(slot));
    }
    text.push(b']');
    text
}

/// The status, the whole body and `Retry-After`.
async fn whole(response: reqwest::Result<Response>) -> reqwest::Result<(StatusCode, Bytes, Option<Duration>)> {
    let response = response?;
    let status = response.status();
    let header = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = response.bytes().await?;
    let in_body = || serde_json::from_slice::<ApiError>(&body).ok().and_then(|error| error.retry_after);
    let seconds = header.or_else(in_body);
    Ok((status, body, seconds.map(Duration::from_secs)))
}

fn answer((status, body): (StatusCode, Bytes)) -> Result<Answer, SendError> {
    match verdict(status.as_u16()) {
        Verdict::Accepted => serde_json::from_slice(&body).map(Answer::Accepted).map_err(|error| {
            SendError::Denied(format!("the server's 202 cannot be read ({error}): is this Tributary?"))
        }),
        Verdict::Refused => match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) => Ok(rejected_all(&error).unwrap_or(Answer::Refused(error))),
            Err(_) => Err(SendError::Denied(describe(status, &body))),
        },
        Verdict::Retry | Verdict::Denied => Err(SendError::Denied(describe(status, &body))),
    }
}

fn rejected_all(error: &ApiError) -> Option<Answer> {
    if error.error != "ALL_RECORDS_REJECTED" {
        return None;
    }
    let details = error.details.as_ref()?;
    let errors = serde_json::from_value(details.get("errors")?.clone()).ok()?;
    Some(Answer::AllRejected(errors, details.get("totalErrorCount")?.as_u64()?))
}

fn describe(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<ApiError>(body) {
        Ok(error) => format!("{} {}: {}", status.as_u16(), error.error, error.message),
        Err(_) => {
            let start: String = String::from_utf8_lossy(body).chars().take(200).collect();
            format!("{status}: {start}")
        }
    }
}

/// An error with its causes: the outermost alone never says "connection refused".
fn explain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// In 0..1.
fn jitter() -> f64 {
    let mut bytes = [0; 4];
    SystemWorld.fill_random(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
