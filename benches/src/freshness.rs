//! `freshness`: from a batch's `202` until DuckDB shows it.
//!
//! One DuckDB connection asks again and again, with a pause, which batches it sees. A batch counts as visible when the
//! first answer that holds it is complete, so the query itself and half of the time between two queries are in the
//! figures.

use crate::{
    Binary, Input,
    backends::scratch,
    load::{Load, LoadArgs},
    measure::quantile,
    report::{Row, progress},
    up::Up,
};
use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::{collections::HashMap, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};
use tributary_backends::world::{SystemWorld, World};

const RATE: u64 = 2_000;
const BODY_RECORDS: u64 = 100;
/// Between two queries.
const PAUSE: Duration = Duration::from_millis(100);
/// Batches older than this (microseconds) are not asked for again.
const LOOK_BACK: i64 = 10_000_000;
const TARGET_P50: Duration = Duration::from_secs(1);
const TARGET_P99: Duration = Duration::from_secs(2);

/// How to ask DuckDB.
#[derive(Debug, Clone, Args)]
pub struct DuckArgs {
    /// Directory with the Python packages duckdb, duckdb-extensions and duckdb-extension-delta
    #[arg(long, default_value = "target/duckdb-1.5.5")]
    pub duckdb: PathBuf,
    /// The script that runs SQL from its standard input
    #[arg(long, default_value = "tests/e2e/duck.py")]
    pub script: PathBuf,
}

/// Sends for `seconds` and watches.
pub async fn run(input: &Input, binary: &Binary, duck: &DuckArgs, seconds: u64) -> anyhow::Result<Vec<Row>> {
    let dir = scratch(input)?;
    let up = Up::start(binary, &dir.place).await?;
    let args = LoadArgs::new(input, &up, RATE * seconds)?;
    let load = Load::start(&LoadArgs { body_records: BODY_RECORDS, rate: Some(RATE), acks: true, ..args }).await?;
    let mut duck = Duck::start(duck).await?;
    progress("freshness: sending and asking");
    let batches = RATE * seconds / BODY_RECORDS;
    let table = up.table();
    let (sent, seen) = tokio::try_join!(load.run(), watch(&mut duck, &table, batches))?;
    let mut delays = Vec::new();
    for (batch, acknowledged) in &sent.acks {
        let seen = seen.get(batch).context("a batch was never seen")?;
        delays.push(Duration::from_micros(seen.saturating_sub(*acknowledged).max(0).unsigned_abs()));
    }
    let (p50, p99) = (quantile(&mut delays, 0.5), quantile(&mut delays, 0.99));
    let what = format!("freshness: p50 {:.2} s, p99 {:.2} s", p50.as_secs_f64(), p99.as_secs_f64());
    let row = Row::new(what).peak_mb(up.process().peak_mb()?);
    Ok(vec![row.target("p50 ≤ 1 s", p50 <= TARGET_P50).target("p99 ≤ 2 s", p99 <= TARGET_P99)])
}

/// When each batch was first in an answer (microseconds since the Unix epoch).
async fn watch(duck: &mut Duck, table: &str, batches: u64) -> anyhow::Result<HashMap<String, i64>> {
    let mut seen = HashMap::new();
    let end = SystemWorld.now_micros() + 300_000_000;
    while (seen.len() as u64) < batches {
        let since = SystemWorld.now_micros() - LOOK_BACK;
        let sql = format!(
            "SELECT DISTINCT batch_id FROM delta_scan('{table}') WHERE received_at >= make_timestamptz({since})"
        );
        let rows = duck.ask(&sql).await?;
        let now = SystemWorld.now_micros();
        ensure!(now < end, "only {} of {batches} batches were seen", seen.len());
        for row in &rows {
            let batch = row.get(0).and_then(Value::as_str).context("a row without batch_id")?;
            seen.entry(batch.to_owned()).or_insert(now);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(seen)
}

struct Duck {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Duck {
    async fn start(args: &DuckArgs) -> anyhow::Result<Self> {
        let mut command = Command::new("python3");
        command.arg(&args.script).env("PYTHONPATH", &args.duckdb).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("no pipe")?;
        let output = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        let mut duck = Self { _child: child, input, output };
        duck.answer().await?;
        Ok(duck)
    }

    async fn ask(&mut self, sql: &str) -> anyhow::Result<Vec<Value>> {
        self.input.write_all(format!("{}\n", json!({ "sql": sql })).as_bytes()).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> anyhow::Result<Vec<Value>> {
        let line = self.output.next_line().await?.context("DuckDB has ended")?;
        let mut answer: Value = serde_json::from_str(&line)?;
        ensure!(answer["error"].is_null(), "DuckDB refuses: {}", answer["error"]);
        Ok(serde_json::from_value(answer["rows"].take())?)
    }
}
