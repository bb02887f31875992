//! The load generator: this program again as a process of its own, so that its work is not counted as the server's.
//!
//! It says `ready` once it has read the records, begins when it is told to, and ends with one line of JSON.

use crate::{
    Input,
    measure::quantile,
    messages::{Messages, Order},
    up::Up,
};
use anyhow::{Context, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Arc, atomic},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::Instant,
};
use tributary_backends::world::{SystemWorld, World};

/// Records of one body, and connections, where nothing else is said.
const BODY_RECORDS: u64 = 1_000;
const CONNECTIONS: usize = 8;

/// What to send, and how.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Gzipped NDJSON of real messages
    #[arg(long)]
    pub messages: PathBuf,
    /// Where to
    #[arg(long)]
    pub url: String,
    /// API keys, taken in turns
    #[arg(long, required = true)]
    pub key: Vec<String>,
    /// Number of the first record
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// Number of the one after the last
    #[arg(long)]
    pub records: u64,
    /// In which order
    #[arg(long, value_enum)]
    pub order: Order,
    /// Records of one body
    #[arg(long)]
    pub body_records: u64,
    /// Bytes of a body, filled up in each record's `data`
    #[arg(long)]
    pub body_bytes: Option<usize>,
    /// Connections
    #[arg(long)]
    pub connections: usize,
    /// Records per second; without it as fast as the answers come
    #[arg(long)]
    pub rate: Option<u64>,
    /// Say of each batch when it was acknowledged
    #[arg(long)]
    pub acks: bool,
}

impl LoadArgs {
    /// As fast as `up` takes records as they are.
    pub fn new(input: &Input, up: &Up, records: u64) -> anyhow::Result<Self> {
        Ok(Self::to(input, up.url()?, vec![up.key()?.to_owned()], records))
    }

    /// The same for any server.
    pub fn to(input: &Input, url: String, key: Vec<String>, records: u64) -> Self {
        Self {
            messages: input.messages.clone(),
            url,
            key,
            first: 0,
            records,
            order: Order::Once,
            body_records: BODY_RECORDS,
            body_bytes: None,
            connections: CONNECTIONS,
            rate: None,
            acks: false,
        }
    }
}

/// What became of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Records that got a `202`.
    pub records: u64,
    /// Bodies that got a `202`.
    pub bodies: u64,
    /// Answers `503` and `429`, each sent again.
    pub refused: u64,
    /// Half of the answers came within so many milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 did.
    pub p99_ms: f64,
    /// Batches with the time of their `202`, microseconds since the Unix epoch, if that was asked for.
    pub acks: Vec<(String, i64)>,
}

/// A running load generator.
#[derive(Debug)]
pub struct Load {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Load {
    /// Starts the process and waits until it has read the records.
    pub async fn start(args: &LoadArgs) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("load").arg("--messages").arg(&args.messages).args(["--url", &args.url]);
        command.args(args.key.iter().flat_map(|key| ["--key", key.as_str()]));
        let order = clap::ValueEnum::to_possible_value(&args.order).context("an order without a name")?;
        command.args(["--first", &args.first.to_string()]);
        command.args(["--records", &args.records.to_string(), "--order", order.get_name()]);
        command.args(["--body-records", &args.body_records.to_string()]);
        command.args(["--connections", &args.connections.to_string()]);
        if let Some(bytes) = args.body_bytes {
            command.args(["--body-bytes", &bytes.to_string()]);
        }
        if let Some(rate) = args.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if args.acks {
            command.arg("--acks");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let commands = child.stdin.take().context("no pipe")?;
        let mut answers = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        ensure!(answers.next_line().await?.as_deref() == Some("ready"), "the load generator did not start");
        Ok(Self { child, commands, answers })
    }

    /// Has it send everything.
    pub async fn run(mut self) -> anyhow::Result<Sent> {
        self.commands.write_all(b"go\n").await?;
        let answer = self.answers.next_line().await?.context("the load generator failed")?;
        self.child.wait().await?;
        Ok(serde_json::from_str(&answer)?)
    }
}

/// The process itself.
#[expect(clippy::print_stdout, reason = "its standard output is the pipe to the process that started it")]
pub async fn run(args: LoadArgs) -> anyhow::Result<()> {
    let messages = Arc::new(Messages::read(&args.messages)?);
    println!("ready");
    let mut go = String::new();
    std::io::stdin().read_line(&mut go)?;
    ensure!(go == "go\n", "nobody wants anything sent");
    let sent = send(Arc::new(args), messages).await?;
    println!("{}", serde_json::to_string(&sent)?);
    Ok(())
}

async fn send(args: Arc<LoadArgs>, messages: Arc<Messages>) -> anyhow::Result<Sent> {
    let client = reqwest::Client::builder().pool_max_idle_per_host(args.connections).build()?;
    let (next, started) = (Arc::new(atomic::AtomicU64::new(args.first)), Instant::now());
    let connection = |_| {
        let (args, messages, client, next) = (args.clone(), messages.clone(), client.clone(), next.clone());
        tokio::spawn(async move { connection(&args, &messages, &client, &next, started).await })
    };
    let connections: Vec<_> = (0..args.connections).map(connection).collect();
    let (mut sent, mut took) = (Sent::default(), Vec::new());
    for connection in connections {
        let (part, times) = connection.await??;
        sent.records += part.records;
        sent.bodies += part.bodies;
        sent.refused += part.refused;
        sent.acks.extend(part.acks);
        took.extend(times);
    }
    sent.p50_ms = quantile(&mut took, 0.5).as_secs_f64() * 1e3;
    sent.p99_ms = quantile(&mut took, 0.99).as_secs_f64() * 1e3;
    Ok(sent)
}

async fn connection(
    args: &LoadArgs,
    messages: &Messages,
    client: &reqwest::Client,
    next: &atomic::AtomicU64,
    started: Instant,
) -> anyhow::Result<(Sent, Vec<Duration>)> {
    let (mut sent, mut took) = (Sent::default(), Vec::new());
    loop {
        let first = next.fetch_add(args.body_records, atomic::Ordering::Relaxed);
        if first >= args.records {
            return Ok((sent, took));
        }
        let last = (first + args.body_records).min(args.records);
        if let Some(rate) = args.rate {
            tokio::time::sleep_until(started + Duration::from_secs_f64((first - args.first) as f64 / rate as f64))
                .await;
        }
        let body = bytes::Bytes::from(body(args, messages, first, last));
        let begun = Instant::now();
        let key = &args.key[(first / args.body_records) as usize % args.key.len()];
        let answer = post((args, key), client, body, &mut sent.refused).await?;
        took.push(begun.elapsed());
        if args.acks {
            let answer: Accepted = serde_json::from_str(&answer)?;
            sent.acks.push((answer.batch_id, SystemWorld.now_micros()));
        }
        sent.records += last - first;
        sent.bodies += 1;
    }
}

fn body(args: &LoadArgs, messages: &Messages, first: u64, last: u64) -> Vec<u8> {
    let mut body = Vec::new();
    for place in first..last {
        args.order.write(messages, place, args.records, &mut body);
    }
    match args.body_bytes {
        Some(wanted) => filled(&body, wanted, last - first),
        None => body,
    }
}

/// Makes the `data` of each record longer, until the body has nearly `wanted` bytes.
fn filled(body: &[u8], wanted: usize, records: u64) -> Vec<u8> {
    const DATA: &[u8] = b"\"data\":{";
    const FILLING: &str = "\"filling\":\"\",";
    let each = usize::try_from((wanted.saturating_sub(body.len()) as u64) / records.max(1)).unwrap_or_default();
    let filling = FILLING.replace("\"\",", &format!("\"{}\",", "x".repeat(each.saturating_sub(FILLING.len()))));
    let mut out = Vec::with_capacity(wanted);
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let data = line.windows(DATA.len()).position(|window| window == DATA).map_or(0, |found| found + DATA.len());
        out.extend_from_slice(&line[..data]);
        out.extend_from_slice(filling.as_bytes());
        out.extend_from_slice(&line[data..]);
    }
    out
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    batch_id: String,
}

/// Sends a body until it is taken, and counts how often it was refused; the answer.
async fn post(
    (args, key): (&LoadArgs, &str),
    client: &reqwest::Client,
    body: bytes::Bytes,
    refused: &mut u64,
) -> anyhow::Result<String> {
    loop {
        let request = client.post(&args.url).header("x-api-key", key).header("content-type", "application/x-ndjson");
        let response = request.body(body.clone()).send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        match status {
            202 => return Ok(text),
            429 | 503 => {
                *refused += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            _ => anyhow::bail!("{status}: {text}"),
        }
    }
}
