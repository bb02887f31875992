//! `telemetry`: the real binary with everything that it can tell, beside one that tells nothing.
//!
//! Both run at the same time and take the same records at the same rate, so that a machine whose speed changes is as fast for
//! the one as for the other. Counters cannot be turned off: they are in both.

use crate::{
    Binary, Input,
    backends::scratch,
    load::{Load, LoadArgs},
    measure::{Cost, Span},
    report::{Row, progress},
    up::Up,
};
use anyhow::{Context, ensure};
use axum::{Router, body::Bytes, extract::State, routing::post};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// How often it is scraped: three times as often as Prometheus does by itself.
const SCRAPED_EVERY: Duration = Duration::from_secs(5);
/// What is on the way at the end of the load has landed after this.
const SETTLED: Duration = Duration::from_secs(3);
/// Until this both have done what only a start needs.
const WARMED_UP: u64 = 20_000;
const TARGET_PERCENT: f64 = 2.0;

/// What one of the two does and the other does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Telling {
    /// Log lines at `info`, as JSON
    Logs,
    /// Traces over OTLP
    Traces,
    /// A scrape of `/metrics` every 5 s
    Scrapes,
}

/// What is sent to each of the two.
#[derive(Debug, Clone, clap::Args)]
pub struct Sending {
    /// Measure only these
    #[arg(long, value_enum, value_delimiter = ',', default_value = "logs,traces,scrapes")]
    pub telling: Vec<Telling>,
    /// Records to each in a round
    #[arg(long, default_value_t = 400_000)]
    pub records: u64,
    /// Records per second to each
    #[arg(long, default_value_t = 20_000)]
    pub rate: u64,
    /// Records of one body
    #[arg(long, default_value_t = 1_000)]
    pub body_records: u64,
}

/// Measures `rounds` pairs; the row of each kind is the sum of its rounds.
pub async fn run(input: &Input, binary: &Binary, sending: Sending, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let (mut told, mut silent, mut ratios) = (Cost::default(), Cost::default(), Vec::new());
    for round in 1..=rounds.max(1) {
        let (one, other) = pair(input, binary, &sending, round % 2 == 0).await?;
        progress(&format!("telemetry, round {round}: {:.2} and {:.2} CPU-s", one.cpu, other.cpu));
        ratios.push(one.cpu / other.cpu);
        told += one;
        silent += other;
    }
    ratios.sort_by(f64::total_cmp);
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    let (low, high) = (ratios[(ratios.len() - 1) / 2], ratios[ratios.len() / 2]);
    let middle = percent((low + high) / 2.0);
    let (least, most) = (percent(ratios[0]), percent(ratios[ratios.len() - 1]));
    let all = sending.records * ratios.len() as u64;
    let what =
        format!("telemetry, bodies of {}: {middle:+.1} % (median; {least:+.1} to {most:+.1})", sending.body_records);
    let row = Row::new(what).cost(all, told);
    let row = row.target(&format!("< {TARGET_PERCENT} %"), middle < TARGET_PERCENT);
    Ok(vec![row, Row::new("without").cost(all, silent)])
}

/// One of each, side by side: what they took.
async fn pair(input: &Input, binary: &Binary, sending: &Sending, silent_first: bool) -> anyhow::Result<(Cost, Cost)> {
    let collector = Collector::start().await?;
    let (told_dir, silent_dir) = (scratch(input)?, scratch(input)?);
    let does = |what| sending.telling.contains(&what);
    let mut flags = vec!["--log", if does(Telling::Logs) { "info" } else { "off" }];
    if does(Telling::Traces) {
        flags.extend(["--otlp", &collector.url]);
    }
    let told = Up::start_as("up", binary, &told_dir.place, &flags).await?;
    let silent = Up::start_as("up", binary, &silent_dir.place, &["--log", "off"]).await?;
    // Whoever gets its records a moment before the other finds other caches.
    let order = if silent_first { [&silent, &told] } else { [&told, &silent] };
    let load = |up: &Up, records| -> anyhow::Result<LoadArgs> {
        let &Sending { rate, body_records, .. } = sending;
        Ok(LoadArgs { rate: Some(rate), body_records, ..LoadArgs::new(input, up, records)? })
    };
    let both = async |records| -> anyhow::Result<()> {
        let loads = (Load::start(&load(order[0], records)?).await?, Load::start(&load(order[1], records)?).await?);
        let (one, other) = tokio::try_join!(loads.0.run(), loads.1.run())?;
        ensure!(one.refused + other.refused == 0, "not everything was accepted at once: {one:?}, {other:?}");
        tokio::time::sleep(SETTLED).await;
        Ok(())
    };
    both(WARMED_UP).await?;
    let scraping = does(Telling::Scrapes).then(|| told.scraped_every(SCRAPED_EVERY));
    let (exported, spans) = (collector.requests(), (Span::start(told.process())?, Span::start(silent.process())?));
    both(sending.records).await?;
    let costs = (spans.0.cost()?, spans.1.cost()?);
    scraping.inspect(JoinHandle::abort);
    ensure!(!does(Telling::Traces) || collector.requests() > exported, "no traces came");
    told.wait(WARMED_UP + sending.records).await?;
    silent.wait(WARMED_UP + sending.records).await?;
    Ok(costs)
}

/// Takes traces and forgets them.
struct Collector {
    url: String,
    taken: Arc<AtomicU64>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Collector {
    async fn start() -> anyhow::Result<Self> {
        async fn take(State(taken): State<Arc<AtomicU64>>, _: Bytes) {
            taken.fetch_add(1, Ordering::Relaxed);
        }
        let taken = Arc::<AtomicU64>::default();
        let app = Router::new().route("/v1/traces", post(take)).with_state(taken.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a collector")?;
        let url = format!("http://{}", listener.local_addr()?);
        let serving = tokio::spawn(async { axum::serve(listener, app).await });
        Ok(Self { url, taken, serving })
    }

    fn requests(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
