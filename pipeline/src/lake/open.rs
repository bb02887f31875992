//! From a URL to the object store behind it.

use super::LakeError;
use object_store::{
    BackoffConfig, ObjectStore, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, local::LocalFileSystem,
};
use std::{sync::Arc, time::Duration};
use url::Url;

/// Settings of a store under their names in the environment, in any letter case: `AWS_…`, `GOOGLE_…`, `AZURE_…`.
pub type StoreOptions = Vec<(String, String)>;

/// From the first try of a request on; then the caller hears of it, and waits with its own patience.
const RETRY_FOR: Duration = Duration::from_secs(20);
/// One try of a request, `AWS_TIMEOUT` and its like overrule it. What is uploaded at once is at most
/// [`super::upload::PART_BYTES`], so this asks for 0.3 MB/s.
const TRY_FOR: &str = "30 seconds";

/// What the environment says about stores.
pub(super) fn environment() -> StoreOptions {
    let variables = std::env::vars_os();
    variables.filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// The store that `url` is in. Nothing is asked of it yet; a local directory is created.
///
/// # Errors
/// [`LakeError::Halted`] for a URL that is no lake and for settings that contradict each other.
pub(super) fn open(url: &Url, options: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, LakeError> {
    let failed = |error: object_store::Error| LakeError::Halted(format!("{url} cannot be opened: {error}"));
    let expected = || {
        format!(
            "{url} is no lake: a lake is at file:///PATH, s3://BUCKET/PATH, gs://BUCKET/PATH or az://CONTAINER/PATH"
        )
    };
    if url.scheme() != "file" && url.host_str().is_none_or(str::is_empty) {
        return Err(LakeError::Halted(expected()));
    }
    Ok(match url.scheme() {
        "file" => {
            let directory = local_path(url)?;
            std::fs::create_dir_all(&directory).map_err(|error| LakeError::of_io(&directory, &error))?;
            // Without fsync an acknowledged record could be lost with the power: the log is cut behind the lake.
            Arc::new(LocalFileSystem::new().with_fsync(true))
        }
        "s3" => {
            let builder = AmazonS3Builder::new().with_url(url.as_str()).with_retry(retry());
            let settings = settings(options, "aws_");
            let builder = settings.fold(builder, |builder, (key, value)| match key.parse() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            });
            Arc::new(builder.build().map_err(failed)?)
        }
        "gs" => {
            let builder = GoogleCloudStorageBuilder::new().with_url(url.as_str()).with_retry(retry());
            let settings = settings(options, "google_");
            let builder = settings.fold(builder, |builder, (key, value)| match key.parse() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            });
            Arc::new(builder.build().map_err(failed)?)
        }
        "az" => {
            let builder = MicrosoftAzureBuilder::new().with_url(url.as_str()).with_retry(retry());
            let settings = settings(options, "azure_");
            let builder = settings.fold(builder, |builder, (key, value)| match key.parse() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            });
            Arc::new(builder.build().map_err(failed)?)
        }
        _ => return Err(LakeError::Halted(expected())),
    })
}

/// The directory of a `file://` URL.
pub(super) fn local_path(url: &Url) -> Result<std::path::PathBuf, LakeError> {
    url.to_file_path().map_err(|()| LakeError::Halted(format!("{url} is not a path of this machine")))
}

/// Those that begin with `prefix`, in lower case as the builders name them, after our own defaults, which they overrule.
fn settings<'a>(options: &'a [(String, String)], prefix: &'static str) -> impl Iterator<Item = (String, String)> + 'a {
    let ours = [(format!("{prefix}timeout"), TRY_FOR.to_owned())];
    let theirs = options.iter().map(|(key, value)| (key.to_ascii_lowercase(), value.clone()));
    ours.into_iter().chain(theirs.filter(move |(key, _)| key.starts_with(prefix)))
}

/// Short, because a lane has patience of its own, and says what it waits for.
fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(3), base: 2.0 };
    RetryConfig { backoff, max_retries: 6, retry_timeout: RETRY_FOR }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(url: &str, options: &[(&str, &str)]) -> Result<String, String> {
        let options: Vec<_> = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        open(&url.parse().unwrap(), &options).map(|store| store.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_scheme_has_its_store() {
        let keys = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"), ("PATH", "/bin")];
        assert_eq!(opened("s3://bucket/a/b/", &keys).unwrap(), "AmazonS3(bucket)");
        let key = r#"{"private_key":"","private_key_id":"","client_email":"","gcs_base_url":"","disable_oauth":true}"#;
        let google = opened("gs://bucket/a/", &[("GOOGLE_SERVICE_ACCOUNT_KEY", key)]).unwrap();
        assert_eq!(google, "GoogleCloudStorage(bucket)");
        let account = [("AZURE_STORAGE_ACCOUNT_NAME", "acme"), ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")];
        let azure = opened("az://container/a/", &account).unwrap();
        assert_eq!(azure, "MicrosoftAzure { account: acme, container: container }");
    }

    #[test]
    fn what_is_no_lake_is_refused_in_words() {
        for url in ["http://host/a/", "memory:///a/", "s3:///a/", "data:x"] {
            let refused = opened(url, &[]).unwrap_err();
            assert!(refused.contains("s3://BUCKET/PATH"), "{refused}");
        }
        let half = opened("s3://bucket/a/", &[("AWS_ACCESS_KEY_ID", "k")]).unwrap_err();
        assert!(half.contains("SecretAccessKey"), "{half}");
        let odd = opened("s3://bucket/a/", &[("AWS_TIMEOUT", "soon")]).unwrap_err();
        assert!(odd.contains("soon"), "{odd}");
    }

    #[test]
    fn the_environment_overrules_what_is_ours() {
        let options =
            [("AWS_TIMEOUT".to_owned(), "5 seconds".to_owned()), ("GOOGLE_TIMEOUT".to_owned(), "1s".to_owned())];
        let settings: Vec<_> = settings(&options, "aws_").map(|(_, value)| value).collect();
        assert_eq!(settings, [TRY_FOR, "5 seconds"]);
    }
}
