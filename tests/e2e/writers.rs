//! Clients that overwrite real records for as long as they are asked to, and know exactly what the table must hold.

use crate::{
    harness::Http,
    model::{MESSAGES, NOTES, TRANSCRIPTS, Table, read, with_data},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::index};
use std::{collections::BTreeMap, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// One client. No other writes its records, so the last version that got a `202` is the one to be found.
pub struct Writer {
    name: String,
    random: StdRng,
    lines: Vec<String>,
    data: Vec<String>,
    versions: Vec<u64>,
    sent: u64,
    /// What it was told is accepted.
    pub table: Table,
    /// Batches that were accepted.
    pub batches: Vec<String>,
    /// Records accepted.
    pub records: u64,
    /// How often which error was the answer.
    pub refusals: BTreeMap<String, usize>,
    /// How often there was no answer.
    pub unanswered: usize,
}

impl Writer {
    fn new(name: &str, seed: u64, lines: Vec<String>) -> Self {
        let data = lines.iter().map(|line| read(line).1).collect();
        let versions = vec![0; lines.len()];
        let random = StdRng::seed_from_u64(seed);
        let (name, table) = (name.to_owned(), Table::default());
        Self {
            name,
            random,
            lines,
            data,
            versions,
            sent: 0,
            table,
            batches: Vec::new(),
            records: 0,
            refusals: BTreeMap::new(),
            unanswered: 0,
        }
    }

    /// Four of them: two with halves of the messages, one with transcripts, one with notes.
    pub fn four(seed: u64) -> Vec<Self> {
        let own = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
        let (even, odd): (Vec<_>, Vec<_>) = own(MESSAGES).into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
        let plain = |half: Vec<(usize, String)>| half.into_iter().map(|(_, line)| line).collect();
        vec![
            Self::new("even", seed, plain(even)),
            Self::new("odd", seed + 1, plain(odd)),
            Self::new("transcripts", seed + 2, own(TRANSCRIPTS)),
            Self::new("notes", seed + 3, own(NOTES)),
        ]
    }

    /// Some of its records, each in a version that has not been sent before; now and then one of them twice.
    fn next_batch(&mut self) -> String {
        let count = self.random.random_range(1..=self.lines.len().min(60));
        let mut chosen = index::sample(&mut self.random, self.lines.len(), count).into_vec();
        if self.random.random_bool(0.3) {
            chosen.push(chosen[0]);
        }
        let mut body = String::new();
        for n in chosen {
            self.versions[n] += 1;
            let data = format!("{{\"version\":{},\"original\":{}}}", self.versions[n], self.data[n]);
            body.push_str(&with_data(&self.lines[n], &data));
            body.push('\n');
        }
        body
    }

    /// Sends one batch, under one `Idempotency-Key`, to one server after the other until one accepts it: only an answer
    /// tells what became of it.
    pub async fn write(&mut self, servers: &[Http]) {
        let body = self.next_batch();
        self.sent += 1;
        let key = format!("{}-{}", self.name, self.sent);
        for turn in self.sent as usize.. {
            let http = &servers[turn % servers.len()];
            if !http.is_in_use() {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            let answer = http.try_post("application/x-ndjson", body.clone().into_bytes(), Some(&key)).await;
            match answer {
                Ok(answer) if answer.status == 202 => {
                    assert_eq!(answer.json["rejectedCount"], 0, "{answer:?}");
                    self.records += answer.json["acceptedCount"].as_u64().expect("a count");
                    self.batches.push(answer.batch_id());
                    self.table.take(&body);
                    return;
                }
                Ok(answer) => {
                    assert!(matches!(answer.status, 429 | 503), "{answer:?}");
                    assert!(answer.retry_after.is_some() && answer.json["retryAfter"].is_u64(), "{answer:?}");
                    let error = answer.json["error"].as_str().expect("a code").to_owned();
                    *self.refusals.entry(error).or_default() += 1;
                }
                Err(_) => self.unanswered += 1,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Writers at work.
pub struct Work {
    tasks: JoinSet<Writer>,
    stop: CancellationToken,
}

impl Work {
    /// Lets them write to these servers until told to stop.
    pub fn start(writers: Vec<Writer>, servers: &[Http]) -> Self {
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        for mut writer in writers {
            let (servers, stop) = (servers.to_vec(), stop.clone());
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    writer.write(&servers).await;
                }
                writer
            });
        }
        Self { tasks, stop }
    }

    /// Lets every writer finish what it has begun. The server must be up.
    pub async fn finish(self) -> Vec<Writer> {
        self.stop.cancel();
        self.tasks.join_all().await
    }
}

/// What the table must hold after all of them.
pub fn union(writers: &[Writer]) -> Table {
    Table(writers.iter().flat_map(|writer| writer.table.0.clone()).collect())
}
