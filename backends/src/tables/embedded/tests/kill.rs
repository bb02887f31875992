//! A child process writes and says what was acknowledged; SIGKILL at seeded moments; then everything said must be
//! there, and no watermark may be ahead of its entries.

use super::open;
use crate::tables::{BatchRow, IndexPart, Location, Tables};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};
use tributary_schemas::{batch::Fact, frame::BatchEvent, identity::Identity};
use uuid::Uuid;

const DIR: &str = "TRIBUTARY_TEST_TABLES_DIR";
const ROUND: &str = "TRIBUTARY_TEST_TABLES_ROUND";
const TEST: &str = "tables::embedded::tests::kill::keeps_every_promise_through_kills";
const ROUNDS: u64 = 12;
/// Entries of one table version, spread over all of the key space.
const ENTRIES: u64 = 300;

fn part() -> IndexPart {
    IndexPart { workspace: "w".to_owned(), lane: 0 }
}

fn entries(version: u64) -> Vec<(Identity, Location)> {
    let entry = |n: u64| {
        let hash = blake3::hash(&(version * ENTRIES + n).to_le_bytes());
        let location = Location { file: Uuid::nil(), row: 0, version: 1, digest: 1, table_version: version };
        (Identity(*hash.as_bytes().first_chunk().unwrap()), location)
    };
    (0..ENTRIES).map(entry).collect()
}

fn row(id: &str) -> BatchRow {
    BatchRow {
        workspace: "w".to_owned(),
        batch_id: id.to_owned(),
        created_at: 1,
        accepted: 1,
        rejected: 0,
        total_errors: 0,
        errors: Vec::new(),
        source: "s".repeat(500),
        kind: "email".to_owned(),
        format: None,
        attachments: 0,
    }
}

/// What the killed process runs: the same test, told by its environment that it is the child.
async fn child(dir: String, round: String) {
    let tables = open(Path::new(&dir)).unwrap();
    let say = |line: String| std::io::stdout().write_all(format!("\n@{line}\n").as_bytes()).unwrap();
    let first = tables.watermark(&part()).await.unwrap().map_or(0, |version| version + 1);
    for n in 0.. {
        let ids: Vec<_> = (0..4).map(|twin| format!("{round}-{n}-{twin}")).collect();
        // Together, so that they share an fsync.
        futures::future::try_join_all(ids.iter().map(|id| tables.put_batch(row(id)))).await.unwrap();
        ids.iter().for_each(|id| say(format!("batch {id}")));
        let fact = Fact::Landed { lane: 0, lanes_in_batch: 1 };
        let event = BatchEvent { workspace: "w".to_owned(), batch_id: ids[0].clone(), at: 1, fact };
        tables.add_facts(&[event]).await.unwrap();
        say(format!("fact {}", ids[0]));
        tables.upsert(&part(), &entries(first + n)).await.unwrap();
        tables.set_watermark(&part(), first + n).await.unwrap();
        say(format!("watermark {}", first + n));
    }
}

/// What the child said before it was killed, at the given line.
fn run_child(dir: &Path, round: u64, kill_at: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if let Some(line) = line.strip_prefix('@') {
            said.push(line.to_owned());
            if said.len() == kill_at {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(said.len() >= kill_at, "the child ended by itself after {said:?}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_every_promise_through_kills() {
    if let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) {
        return child(dir, round).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let (mut batches, mut facts, mut watermark) = (BTreeSet::new(), BTreeSet::new(), None);
    for round in 0..ROUNDS {
        for line in run_child(dir.path(), round, random.random_range(1..60)) {
            match line.split_once(' ').unwrap() {
                ("batch", id) => _ = batches.insert(id.to_owned()),
                ("fact", id) => _ = facts.insert(id.to_owned()),
                // The last line may be cut.
                (_, version) => watermark = version.parse().ok().or(watermark),
            }
        }
        let tables = open(dir.path()).unwrap();
        let listed: BTreeSet<_> =
            tables.batches("w", usize::MAX, None).await.unwrap().into_iter().map(|batch| batch.row.batch_id).collect();
        assert!(batches.is_subset(&listed), "round {round} lost batches");
        for id in &facts {
            let batch = tables.batch("w", id).await.unwrap().unwrap();
            assert_eq!(batch.facts.len(), 1, "round {round} lost the fact of {id}");
        }
        // Only a loss of power may take the watermark back.
        assert!(tables.watermark(&part()).await.unwrap() >= watermark);
        assert_not_ahead(&*tables).await;
    }
}

/// Everything up to the watermark must be found.
async fn assert_not_ahead(tables: &dyn Tables) {
    let Some(watermark) = tables.watermark(&part()).await.unwrap() else { return };
    for version in 0..=watermark {
        let wanted = entries(version);
        let keys: Vec<_> = wanted.iter().map(|(identity, _)| *identity).collect();
        let found = tables.lookup(&part(), &keys).await.unwrap().locations;
        assert!(found.iter().all(Option::is_some), "the watermark is {watermark}, and version {version} is not there");
    }
}

/// A loss of power keeps some beginning of what was not persisted.
#[tokio::test]
async fn no_watermark_is_ahead_after_a_loss_of_power() {
    let dir = tempfile::tempdir().unwrap();
    run_child(dir.path(), 0, 150);
    let mut random = StdRng::seed_from_u64(8);
    let copy = tempfile::tempdir().unwrap();
    for round in 0..12 {
        let target = copy.path().join(round.to_string());
        let copied = Command::new("cp").arg("-a").arg(dir.path()).arg(&target).status().unwrap();
        assert!(copied.success());
        for file in std::fs::read_dir(target.join("index")).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "jnl") {
                let bytes = std::fs::read(&path).unwrap();
                let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let cut = random.random_range(0..=written) as u64;
                std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
            }
        }
        assert_not_ahead(&*open(&target).unwrap()).await;
    }
}
