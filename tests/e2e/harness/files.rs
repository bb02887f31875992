//! The files of a table, wherever they are.

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use std::collections::BTreeMap;
use url::Url;

/// Reads, lists and damages them.
pub struct Files {
    store: Box<dyn ObjectStore>,
    table: Path,
}

impl Files {
    /// Of the table at `url`.
    pub fn of(url: &Url) -> Self {
        let environment = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, table) = object_store::parse_url_opts(url, environment).expect("a store");
        Self { store, table }
    }

    /// Size of each file, by its path below the table.
    pub async fn list(&self) -> BTreeMap<String, u64> {
        let found: Vec<_> = self.store.list(Some(&self.table)).try_collect().await.expect("a list");
        let below = |path: &Path| -> String {
            let parts: Vec<_> = path.prefix_match(&self.table).expect("in the table").collect();
            parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/")
        };
        found.into_iter().map(|file| (below(&file.location), file.size)).collect()
    }

    /// The same without the Delta log.
    pub async fn data(&self) -> BTreeMap<String, u64> {
        let mut found = self.list().await;
        found.retain(|path, _| !path.starts_with("_delta_log/"));
        found
    }

    /// The newest entry of the Delta log.
    pub async fn newest_entry(&self) -> String {
        let entry = |path: &String| path.starts_with("_delta_log/") && path.ends_with(".json");
        self.list().await.into_keys().filter(entry).max().expect("an entry")
    }

    /// All of a file.
    pub async fn read(&self, path: &str) -> Vec<u8> {
        let read = self.store.get(&self.place(path)).await.expect("the file");
        read.bytes().await.expect("its bytes").to_vec()
    }

    /// Puts other bytes in its place.
    pub async fn write(&self, path: &str, bytes: Vec<u8>) {
        self.store.put(&self.place(path), bytes.into()).await.expect("written");
    }

    fn place(&self, path: &str) -> Path {
        path.split('/').fold(self.table.clone(), |place, part| place.join(part))
    }
}
