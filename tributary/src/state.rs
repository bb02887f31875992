//! What commands work on: tables and lake.

use crate::{cli::Place, cluster};
use anyhow::{Context, bail, ensure};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::spawn_blocking;
use tributary_backends::{
    data_dir::DataDir,
    tables::{self, Tables},
    world::{SystemWorld, World},
};
use tributary_pipeline::lake::Lake;
use url::Url;

/// Tables and lake.
#[derive(Debug)]
pub struct State {
    /// Keys, batches, rejects, idempotency, key index.
    pub tables: Arc<dyn Tables>,
    /// The Delta tables.
    pub lake: Lake,
    /// Where they are.
    pub lake_url: Url,
    /// Time and randomness.
    pub world: Arc<dyn World>,
}

/// Locks the data directory (created when there is none).
pub fn lock(data: &Path) -> anyhow::Result<DataDir> {
    DataDir::lock(data).with_context(|| format!("cannot use the data directory {}", data.display()))
}

/// Locks one that is there.
pub fn lock_existing(data: &Path) -> anyhow::Result<DataDir> {
    is_there(data)?;
    lock(data)
}

/// Fails when there is none.
pub fn is_there(data: &Path) -> anyhow::Result<()> {
    ensure!(data.is_dir(), "there is no data directory {}: name the one of `tributary up` with --data", data.display());
    Ok(())
}

impl State {
    /// Opens tables and lake. `directory` is the data directory under its lock, which embedded tables need.
    pub async fn open(place: &Place, directory: Option<&Arc<DataDir>>) -> anyhow::Result<Self> {
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let tables = open_tables(place, directory, world.clone()).await?;
        let lake_url = lake_url(place)?;
        let lake =
            Lake::open(&lake_url, world.clone()).with_context(|| format!("cannot open the lake at {lake_url}"))?;
        Ok(Self { tables, lake, lake_url, world })
    }
}

/// Opens the tables; embedded ones are read back from the disk, which blocks.
async fn open_tables(
    place: &Place,
    directory: Option<&Arc<DataDir>>,
    world: Arc<dyn World>,
) -> anyhow::Result<Arc<dyn Tables>> {
    if place.is_shared() {
        return cluster::open_scylla(&place.scylla, world).await;
    }
    let directory = directory.cloned().context("embedded tables need a data directory")?;
    let open = spawn_blocking(move || {
        tables::embedded::open(&directory.tables_dir())
            .with_context(|| format!("cannot open the tables in {}", directory.tables_dir().display()))
    });
    open.await.context("opening the tables")?
}

/// `--lake` as a URL that ends with a slash; `DIR/lake` when it is not given.
pub fn lake_url(place: &Place) -> anyhow::Result<Url> {
    let given = match &place.lake {
        None => return directory_url(&place.data.join("lake")),
        Some(given) => given,
    };
    if !given.contains("://") {
        return directory_url(Path::new(given));
    }
    let mut url: Url = given.parse().with_context(|| format!("--lake {given} is not a URL"))?;
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn directory_url(path: &Path) -> anyhow::Result<Url> {
    let absolute: PathBuf =
        std::path::absolute(path).with_context(|| format!("cannot make {} absolute", path.display()))?;
    match Url::from_directory_path(&absolute) {
        Ok(url) => Ok(url),
        Err(()) => bail!("{} cannot be put as a file:// URL", absolute.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(data: &str, lake: Option<&str>) -> String {
        let place = Place { lake: lake.map(str::to_owned), ..Place::embedded(data) };
        lake_url(&place).expect("a URL").to_string()
    }

    #[test]
    fn the_lake_is_below_the_data_directory_unless_named() {
        assert_eq!(url("/srv/t", None), "file:///srv/t/lake/");
        assert_eq!(url("/srv/t", Some("/mnt/my lake")), "file:///mnt/my%20lake/");
        assert_eq!(url("/srv/t", Some("file:///mnt/lake")), "file:///mnt/lake/");
        assert!(url("./data", None).ends_with("/data/lake/"));
    }

    #[test]
    fn object_stores_are_taken_as_they_are_named() {
        assert_eq!(url("/srv/t", Some("s3://bucket/lake")), "s3://bucket/lake/");
        let place = Place { lake: Some("s3://[".to_owned()), ..Place::embedded("/srv/t") };
        assert!(lake_url(&place).expect_err("refused").to_string().contains("--lake s3://["));
    }

    #[tokio::test]
    async fn other_stores_are_refused_by_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let lock = Arc::new(lock(directory.path()).expect("locked"));
        let place = Place { lake: Some("ftp://host/lake".to_owned()), ..Place::embedded(directory.path()) };
        let error = format!("{:#}", State::open(&place, Some(&lock)).await.expect_err("refused"));
        assert!(error.contains("ftp://host/lake"), "{error}");
    }
}
