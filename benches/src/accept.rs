//! `accept`: bodies over HTTP until they are durable in the log and the tables, beside the sum of the parts.

use crate::{
    Input,
    backends::{Backends, LANES, WORKSPACE, scratch},
    frames,
    load::{Load, LoadArgs, Sent},
    measure::{Cost, Process, Span, forget_peak, touch_memory},
    messages::{Messages, Pick},
    report::{Row, progress},
    rounds::median,
};
use anyhow::ensure;
use axum::{Router, body::Body, http::StatusCode, routing::post};
use futures::{StreamExt, TryStreamExt, stream};
use std::{hint::black_box, net::SocketAddr};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tributary_backends::{log::RecordLog, tables::Permission};
use tributary_ingest_api::{Api, Config, keys};
use tributary_schemas::{frame::encode_record, identity::Identity};

/// Records of one body, connections, and what may be used for a million records.
const BODY_RECORDS: usize = 1_000;
const CONNECTIONS: usize = 8;
const BATCH_ID: &str = "01980000-0000-7000-8000-000000000000";
const TARGET_CPU: f64 = 5.0;
/// The same on servers.
const TARGET_CPU_SERVERS: f64 = 6.0;
const TARGET_RATIO: f64 = 2.0;

/// Measures the whole `rounds` times, at `rate` records per second or as fast as it goes, then its parts, each on `records`
/// records.
pub async fn run(input: &Input, records: u64, rate: Option<u64>, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let mut wholes = Vec::new();
    for round in 1..=rounds.max(1) {
        progress(&format!("accept: the whole, round {round}"));
        wholes.push(whole(input, records, rate).await?);
    }
    let (whole, peak) = median(wholes, |(cost, _)| *cost)?;
    progress("accept: receiving alone");
    let receive = receive(input, records).await?;
    progress("accept: the other parts");
    let messages = Messages::read(&input.messages)?;
    let mut parts = vec![Row::new("accept, part: receive").cost(records, receive)];
    parts.extend(compute(&messages)?);
    parts.push(append(input, &messages).await?);
    let sum: f64 = parts.iter().map(Row::cpu_per_million).sum();
    let row = Row::new("accept").cost(records, whole).peak_mb(peak).parts(sum);
    let (cpu, ratio) = (row.cpu_per_million(), row.times_parts().unwrap_or_default());
    let most = if input.servers.has_kafka() { TARGET_CPU_SERVERS } else { TARGET_CPU };
    let row = row.target(&format!("≤ {most} CPU-s"), cpu <= most).target("≤ 2 × parts", ratio <= TARGET_RATIO);
    Ok(std::iter::once(row).chain(parts).collect())
}

/// The API on embedded backends, without a pipeline: what it took, and the peak of memory in MB.
async fn whole(input: &Input, records: u64, rate: Option<u64>) -> anyhow::Result<(Cost, f64)> {
    forget_peak()?;
    let dir = scratch(input)?;
    let backends = dir.place.open().await?;
    let key = keys::NewKey {
        workspace: WORKSPACE.to_owned(),
        label: "bench".to_owned(),
        source: "bench".to_owned(),
        permissions: vec![Permission::Write],
        rate_limit: Some(0),
    };
    let (key, secret) = keys::mint(&*backends.world, key);
    backends.tables.create_key(key, 10).await?;
    let Backends { log, tables, world } = backends;
    let api = Api::new(log, tables, world, LANES, Config::default(), &mut Default::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let served = tokio::spawn(tributary_ingest_api::serve(api, listener, stop.clone()));
    let (cost, sent) = under_load(input, address, (&secret, rate), records).await?;
    stop.cancel();
    served.await??;
    ensure!(sent.records == records && sent.refused == 0, "not everything was accepted at once: {sent:?}");
    Ok((cost, Process::this().peak_mb()?))
}

/// A server that reads bodies and forgets them.
async fn receive(input: &Input, records: u64) -> anyhow::Result<Cost> {
    const ANSWER: &str = r#"{"batchId":"00000000-0000-7000-8000-000000000000","acceptedCount":1000,"rejectedCount":0,"totalErrorCount":0,"errors":[]}"#;
    async fn forget(body: Body) -> Result<(StatusCode, &'static str), StatusCode> {
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            black_box(chunk.map_err(|_| StatusCode::BAD_REQUEST)?);
        }
        Ok((StatusCode::ACCEPTED, ANSWER))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server =
        tokio::spawn(async { axum::serve(listener, Router::new().route("/api/v1/ingest", post(forget))).await });
    let (cost, _) = under_load(input, address, ("none", None), records).await?;
    server.abort();
    Ok(cost)
}

/// What this process uses while another one sends.
async fn under_load(
    input: &Input,
    address: SocketAddr,
    (key, rate): (&str, Option<u64>),
    records: u64,
) -> anyhow::Result<(Cost, Sent)> {
    touch_memory(scratch(input)?.path())?;
    let to = LoadArgs::to(input, format!("http://{address}/api/v1/ingest"), vec![key.to_owned()], records);
    let args = LoadArgs { rate, ..to };
    let load = Load::start(&args).await?;
    let span = Span::start(Process::this())?;
    let sent = load.run().await?;
    Ok((span.cost()?, sent))
}

/// Parse, identity and encoding, each for all records by itself.
fn compute(messages: &Messages) -> anyhow::Result<Vec<Row>> {
    let text = bodies(messages);
    let count = messages.len();
    let lines = || text.iter().flat_map(|body| frames::lines(body));
    let span = Span::start(Process::this())?;
    for line in lines() {
        black_box(frames::parse(line)?);
    }
    let parse_cost = span.cost()?;
    let records = lines().map(frames::parse).collect::<anyhow::Result<Vec<_>>>()?;
    let span = Span::start(Process::this())?;
    let identities: Vec<_> = records.iter().map(Identity::of).collect();
    let identity_cost = span.cost()?;
    let span = Span::start(Process::this())?;
    for (records, identities) in records.chunks(BODY_RECORDS).zip(identities.chunks(BODY_RECORDS)) {
        let mut out = Vec::with_capacity(1 << 20);
        for (record, identity) in records.iter().zip(identities) {
            encode_record(&frames::stamp(BATCH_ID, 0, *identity), record, &mut out);
        }
        black_box(out);
    }
    let encode_cost = span.cost()?;
    Ok(vec![
        Row::new("accept, part: parse").cost(count, parse_cost),
        Row::new("accept, part: identity").cost(count, identity_cost),
        Row::new("accept, part: Avro encode").cost(count, encode_cost),
    ])
}

/// Appends frames in groups as large as batches, as many at once as there are connections.
async fn append(input: &Input, messages: &Messages) -> anyhow::Result<Row> {
    let dir = scratch(input)?;
    let backends = dir.place.open().await?;
    let mut batches = Vec::new();
    for body in bodies(messages) {
        batches.push(frames::batch(&body, BATCH_ID)?);
    }
    touch_memory(dir.path())?;
    let span = Span::start(Process::this())?;
    let log: &dyn RecordLog = &*backends.log;
    let appends = stream::iter(batches).map(|batch| log.append(batch)).buffer_unordered(CONNECTIONS);
    let appended = appends.try_fold(0, async |sum, offsets| Ok(sum + offsets.len() as u64)).await?;
    ensure!(appended == messages.len(), "{appended} messages were appended");
    Ok(Row::new("accept, part: append").cost(messages.len(), span.cost()?))
}

/// All records in bodies of as many as one request has.
fn bodies(messages: &Messages) -> Vec<Vec<u8>> {
    let body = |first: u64| {
        let mut body = Vec::new();
        for number in first..(first + BODY_RECORDS as u64).min(messages.len()) {
            messages.write(Pick { number, edition: 0 }, &mut body);
        }
        body
    };
    (0..messages.len()).step_by(BODY_RECORDS).map(body).collect()
}
