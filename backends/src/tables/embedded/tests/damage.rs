//! Flipped bytes: an answer is right or it is an error; nothing panics, nothing acknowledged is dropped silently.

use super::open;
use crate::tables::{ApiKey, TablesError};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::path::{Path, PathBuf};

const KEYS: u8 = 60;

fn key(n: u8) -> ApiKey {
    ApiKey {
        id: format!("key-{n}"),
        hash: *blake3::hash(&[n]).as_bytes(),
        workspace: "w".to_owned(),
        // Long enough that the rows fill several blocks, and memtables.
        label: blake3::hash(&[n, n]).to_hex().repeat(60),
        source: "crm".to_owned(),
        permissions: Vec::new(),
        rate_limit: None,
        created_at: i64::from(n),
        last_used_at: None,
        revoked_at: None,
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

async fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tables = open(dir.path()).unwrap();
    for n in 0..KEYS {
        tables.create_key(key(n), 100).await.unwrap();
    }
    dir
}

/// Opens and reads all; true when what came is what was written.
async fn is_right(dir: &Path) -> Result<bool, TablesError> {
    let tables = open(dir)?;
    Ok(tables.keys(None).await? == (0..KEYS).map(key).collect::<Vec<_>>())
}

fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[tokio::test]
async fn a_flipped_byte_is_an_error_or_does_not_matter() {
    let dir = filled().await;
    let mut paths = Vec::new();
    files(&dir.path().join("state"), &mut paths);
    let mut random = StdRng::seed_from_u64(9);
    let (mut errors, mut harmless) = (0, 0);
    for _ in 0..40 {
        let copy = tempfile::tempdir().unwrap();
        let target = copy.path().join("tables");
        assert!(std::process::Command::new("cp").arg("-a").arg(dir.path()).arg(&target).status().unwrap().success());
        let path = &paths[random.random_range(0..paths.len())];
        let path = target.join(path.strip_prefix(dir.path()).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        // The end of the last write of a journal is like a torn write.
        let end = written(&bytes).saturating_sub(64);
        if end == 0 {
            continue;
        }
        let at = random.random_range(0..end);
        bytes[at] ^= 1 << random.random_range(0..8);
        std::fs::write(&path, bytes).unwrap();
        match is_right(&target).await {
            Ok(right) => {
                assert!(right, "byte {at} of {} gives a wrong answer", path.display());
                harmless += 1;
            }
            Err(TablesError::Halted(_)) => errors += 1,
            Err(other) => panic!("byte {at} of {}: {other}", path.display()),
        }
    }
    assert!(errors > 10, "{errors} errors, {harmless} harmless");
}

#[tokio::test]
async fn a_torn_last_write_is_no_error() {
    let dir = filled().await;
    let tables = open(dir.path()).unwrap();
    tables.create_key(key(KEYS), 100).await.unwrap();
    drop(tables);
    let mut paths = Vec::new();
    files(&dir.path().join("state"), &mut paths);
    let path = paths.iter().rfind(|path| path.extension().is_some_and(|extension| extension == "jnl")).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let end = written(&bytes);
    for (torn, refill) in [(end - 1, 0), (end - 5, 0), (end - 30, 4_096), (end - 300, 4_096)] {
        let mut bytes = bytes[..torn].to_vec();
        bytes.resize(torn + refill, 0);
        std::fs::write(path, bytes).unwrap();
        let found = open(dir.path()).unwrap().keys(None).await.unwrap();
        assert_eq!(found, (0..KEYS).map(key).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_damaged_index_begins_anew() {
    let dir = filled().await;
    let part = crate::tables::IndexPart { workspace: "w".to_owned(), lane: 0 };
    let tables = open(dir.path()).unwrap();
    tables.set_watermark(&part, 3).await.unwrap();
    drop(tables);
    std::fs::write(dir.path().join("index/version"), "nonsense").unwrap();
    let tables = open(dir.path()).unwrap();
    assert_eq!(tables.watermark(&part).await.unwrap(), None);
    assert!(dir.path().join("index.damaged").is_dir());
    assert_eq!(tables.keys(None).await.unwrap().len(), usize::from(KEYS), "the state stays");
}
