//! The registry's REST protocol, as Confluent's, Karapace and Apicurio speak it.

use crate::log::LogError;
use reqwest::{
    Client, Method, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{error::Error, fmt, str::FromStr, time::Duration};

/// How the registry's messages are called.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer that is no error of the protocol which are shown to the operator.
const SHOWN: usize = 200;

/// Where a registry is: `http://` or `https://`, with user and password where it wants them. They are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryUrl(Url);

impl FromStr for RegistryUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut url: Url = text.parse().map_err(|error| format!("the schema registry's URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("the schema registry's URL begins with http:// or https:// and names a host".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("the schema registry's URL has neither a query nor a fragment".to_owned());
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        // Only URLs without a host refuse it, and those were refused.
        let _ = shown.set_password(None);
        let _ = shown.set_username("");
        f.write_str(shown.as_str())
    }
}

impl fmt::Debug for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why there is no answer, by what is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It may answer later.
    Unavailable(String),
    /// It knows no such subject, schema or id.
    NotThere(String),
    /// Somebody has to do something.
    Refused(String),
}

/// What it says of a schema that it has.
#[derive(Deserialize)]
struct Registered {
    id: u32,
}

/// What it says of an id.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    schema: String,
    /// Left out for Avro.
    schema_type: Option<String>,
}

/// What it says when it refuses.
#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
    message: String,
}

/// Asks one registry.
#[derive(Debug)]
pub(super) struct Rest {
    client: Client,
    url: RegistryUrl,
}

impl Rest {
    pub(super) fn new(url: &RegistryUrl) -> Result<Self, LogError> {
        let client = Client::builder().timeout(PATIENCE).connect_timeout(PATIENCE / 2).build();
        let client = client.map_err(|error| LogError::Halted(format!("cannot set up an HTTP client: {error}")))?;
        Ok(Self { client, url: url.clone() })
    }

    /// The id of a schema that the subject has.
    pub(super) async fn look_up(&self, subject: &str, schema: &str) -> Result<u32, Problem> {
        let answer: Registered = self.ask(Method::POST, &format!("subjects/{subject}"), Some(schema)).await?;
        Ok(answer.id)
    }

    /// Adds a schema to the subject; its id, also when it was there.
    pub(super) async fn register(&self, subject: &str, schema: &str) -> Result<u32, Problem> {
        let answer: Registered = self.ask(Method::POST, &format!("subjects/{subject}/versions"), Some(schema)).await?;
        Ok(answer.id)
    }

    /// The Avro schema with this id; `None` when it is of another kind.
    pub(super) async fn schema(&self, id: u32) -> Result<Option<String>, Problem> {
        let answer: Described = self.ask(Method::GET, &format!("schemas/ids/{id}"), None).await?;
        let is_avro = answer.schema_type.as_deref().is_none_or(|kind| kind == "AVRO");
        Ok(is_avro.then_some(answer.schema))
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, schema: Option<&str>) -> Result<T, Problem> {
        // Paths are made of the names of topics, which need no escaping.
        let url = self.url.0.join(path).map_err(|error| Problem::Refused(error.to_string()))?;
        // User and password of the URL go into a header by themselves.
        let mut request = self.client.request(method, url).header(ACCEPT, MEDIA_TYPE);
        if let Some(schema) = schema {
            let body = serde_json::json!({ "schema": schema }).to_string();
            request = request.header(CONTENT_TYPE, MEDIA_TYPE).body(body);
        }
        let failed = |error: reqwest::Error| {
            Problem::Unavailable(format!("the schema registry at {} does not answer: {}", self.url, words(error)))
        };
        let response = request.send().await.map_err(failed)?;
        let (status, body) = (response.status(), response.bytes().await.map_err(failed)?);
        if !status.is_success() {
            return Err(problem(&self.url, path, status, &body));
        }
        let unreadable = |error| {
            Problem::Refused(format!("what answers at {} is no schema registry: {error}: {}", self.url, shown(&body)))
        };
        serde_json::from_slice(&body).map_err(unreadable)
    }
}

/// An error with all its causes, without the URL, which may hold a password.
fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// What a refusal means, and what to do.
fn problem(url: &RegistryUrl, path: &str, status: StatusCode, body: &[u8]) -> Problem {
    let refusal = serde_json::from_slice::<Refusal>(body).ok();
    let code = refusal.as_ref().map(|refusal| refusal.error_code);
    let said = refusal.map_or_else(|| shown(body), |refusal| refusal.message);
    let at = format!("the schema registry at {url}");
    match (status.as_u16(), code) {
        (401, _) => Problem::Refused(format!(
            "{at} refuses the credentials ({said}): give user and password in its URL, https://USER:PASSWORD@HOST"
        )),
        (403, _) => Problem::Refused(format!(
            "{at} forbids {path} ({said}): let the user read and write the topics' subjects, or register their schemas \
             for it and let it read"
        )),
        (404, Some(40_401..=40_403)) => Problem::NotThere(format!("{at} does not know {path}: {said}")),
        (409, _) => Problem::Refused(format!(
            "{at} refuses the schema at {path} as incompatible ({said}): another program writes there. Choose another \
             --kafka-prefix, or remove the subject's schemas or its compatibility rule"
        )),
        (422, _) => Problem::Refused(format!("{at} does not take the schema at {path}: {said}")),
        (429 | 500.., _) => Problem::Unavailable(format!("{at} answers {status} to {path}: {said}")),
        _ => Problem::Refused(format!(
            "{at} answers {status} to {path} ({said}): is this URL that of a schema registry?"
        )),
    }
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> RegistryUrl {
        "http://me:secret@registry:8081/api".parse().unwrap()
    }

    #[test]
    fn user_and_password_are_not_shown() {
        assert_eq!(format!("{0} {0:?}", url()), "http://registry:8081/api/ http://registry:8081/api/");
        for wrong in ["registry:8081", "ftp://registry", "http://", "http://r/?a=b", "not a URL"] {
            assert!(wrong.parse::<RegistryUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn refusals_are_told_by_what_is_to_be_done() {
        let of = |status: u16, body: &str| {
            problem(&url(), "subjects/records-value/versions", StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        for (status, body, word) in [
            (401, r#"{"error_code":401,"message":"Unauthorized"}"#, "user and password"),
            (403, r#"{"error_code":40301,"message":"denied"}"#, "let the user"),
            (404, "<html>nothing here</html>", "is this URL"),
            (409, r#"{"error_code":409,"message":"READER_FIELD_MISSING"}"#, "incompatible (READER_FIELD_MISSING)"),
            (422, r#"{"error_code":42201,"message":"Invalid schema"}"#, "Invalid schema"),
            (301, "", "is this URL"),
        ] {
            let Problem::Refused(why) = of(status, body) else { panic!("{status}: {:?}", of(status, body)) };
            assert!(why.contains(word) && !why.contains("secret"), "{why}");
        }
        for code in [40_401, 40_402, 40_403] {
            let body = format!(r#"{{"error_code":{code},"message":"not found"}}"#);
            assert!(matches!(of(404, &body), Problem::NotThere(_)), "{code}");
        }
        for (status, body) in [(500, r#"{"error_code":50001,"message":"store"}"#), (503, ""), (429, "slow down")] {
            assert!(matches!(of(status, body), Problem::Unavailable(_)), "{status}");
        }
    }
}
