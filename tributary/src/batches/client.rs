//! A small client of the status API.

use crate::cli::Remote;
use anyhow::{Context, anyhow, ensure};
use reqwest::{StatusCode, header::RETRY_AFTER};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tributary_schemas::api::ApiError;
use url::Url;

/// Longest that an answer may take, beyond what a long poll waits.
const ANSWER_WITHIN: u64 = 30;

/// Asks one API with one key.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: String,
}

/// A request that got no answer of use.
pub enum Trouble {
    /// No connection, 429 or 503: may work later (`after`, when the API says).
    Passing { error: anyhow::Error, after: Option<Duration> },
    /// Will not work as it was asked.
    Final(anyhow::Error),
}

impl Trouble {
    /// The error, whatever may come later.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Self::Passing { error, .. } | Self::Final(error) => error,
        }
    }
}

impl Client {
    /// A client for the API and key of `remote`.
    pub fn new(remote: &Remote) -> anyhow::Result<Self> {
        ensure!(
            remote.url.scheme() == "http" && !remote.url.cannot_be_a_base(),
            "--url {}: this build speaks http:// only",
            remote.url
        );
        // The address is what the operator names; a proxy of the environment is for other things.
        let http = reqwest::Client::builder().no_proxy().build().context("cannot make an HTTP client")?;
        Ok(Self { http, base: remote.url.clone(), key: remote.key.clone() })
    }

    /// `GET /api/v1/<path>?<query>`.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<T> {
        self.get_within(path, query, 0).await.map_err(Trouble::into_error)
    }

    /// The same, when the server may take `seconds` longer.
    pub async fn get_within<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        seconds: u64,
    ) -> Result<T, Trouble> {
        let url = endpoint(&self.base, path, query);
        let request = self.http.get(url).header("x-api-key", &self.key);
        let request = request.timeout(Duration::from_secs(seconds + ANSWER_WITHIN));
        let passing = |error: reqwest::Error| Trouble::Passing {
            error: anyhow::Error::new(error)
                .context(format!("no answer from {}: does `tributary up` run there?", self.base)),
            after: None,
        };
        let response = request.send().await.map_err(passing)?;
        let (status, after) = (response.status(), retry_after(&response));
        let body = response.bytes().await.map_err(passing)?;
        if status.is_success() {
            let read = serde_json::from_slice(&body);
            return read
                .with_context(|| format!("{} did not answer like tributary", self.base))
                .map_err(Trouble::Final);
        }
        let error = refusal(status, &body);
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Err(Trouble::Passing { error, after: Some(after.unwrap_or(Duration::from_secs(1))) })
            }
            _ => Err(Trouble::Final(error)),
        }
    }
}

/// Path segments are escaped one by one: an id cannot leave its place.
fn endpoint(base: &Url, path: &[&str], query: &[(&str, String)]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["api", "v1"]).extend(path);
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn refusal(status: StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice::<ApiError>(body) {
        Ok(error) => anyhow!("{} ({}): {}", error.error, status.as_u16(), error.message),
        Err(_) => anyhow!("the API answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_its_place() {
        let base: Url = "http://host:1/prefix/".parse().expect("a URL");
        let url = endpoint(&base, &["ingest", "batches", "../keys?x=1"], &[("wait", "LANDED".to_owned())]);
        assert_eq!(url.as_str(), "http://host:1/prefix/api/v1/ingest/batches/..%2Fkeys%3Fx=1?wait=LANDED");
    }

    #[test]
    fn a_refusal_says_code_and_message() {
        let body = br#"{"error":"NOT_FOUND","message":"no such batch"}"#;
        assert_eq!(refusal(StatusCode::NOT_FOUND, body).to_string(), "NOT_FOUND (404): no such batch");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"<html>").to_string(), "the API answered 502 Bad Gateway");
    }
}
