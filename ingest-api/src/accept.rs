//! From a received body to a durable batch: the steps between the last byte of a request and its `202`.

use crate::{
    Api,
    batch::{self, Checked, Refused},
    body::Received,
    budget::Reservation,
    decode::{DecodeError, Encoding, decode},
    failure::Failure,
    frames::{BatchStamp, Messages},
    idempotency,
    metrics::{Backend, RecordResult},
    split::Form,
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::Instrument;
use tributary_backends::{
    crash,
    log::{Append, Topic},
    tables::{ApiKey, BatchRow, Hold},
    trace,
};
use tributary_schemas::api::IngestAccepted;

/// What a request to ingest says about its body.
#[derive(Debug, Clone)]
pub struct Order {
    /// Who sends it.
    pub key: Arc<ApiKey>,
    /// `Content-Type`.
    pub form: Form,
    /// `Content-Encoding`.
    pub encoding: Encoding,
    /// `?format=`.
    pub format: Option<String>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// Decompress → once per idempotency key: check → store → answer. To be run as a task of its own, so that a sender who
/// hangs up cannot stop it half way.
///
/// # Errors
/// Every refusal of the contract; after a 503 the batch may have been stored in part, which a repeat heals.
pub async fn accept(api: Api, order: Order, received: Received) -> Result<Bytes, Failure> {
    let body = decompress(&api, &order, received).await?;
    let response = match &order.idempotency_key {
        None => store(&api, &order, body, None).await?,
        Some(key) => {
            let hold = Hold {
                workspace: order.key.workspace.clone(),
                key: key.clone(),
                body_hash: idempotency::body_hash(order.form, order.format.as_deref(), &body.bytes),
                owner: api.world.uuid_v7(),
            };
            let work = |by| store(&api, &order, body, Some(by));
            idempotency::once(&*api.tables, &*api.world, &api.config.idempotency, hold, work).await?
        }
    };
    crash::point("accept.before_reply");
    Ok(response)
}

async fn decompress(api: &Api, order: &Order, received: Received) -> Result<Received, Failure> {
    let encoding = order.encoding;
    if encoding == Encoding::Identity {
        return Ok(received);
    }
    let limit = api.config.limits.max_body_bytes;
    let Received { bytes, mut held } = received;
    // Compressed bodies are small for the work in them: count them as what they may become.
    let work = bytes.len().saturating_mul(8);
    let decoded = api.cpu.run(work, move || {
        let decoded = decode(&bytes, encoding, limit, &mut held)?;
        held.shrink(bytes.capacity());
        Ok(Received { bytes: decoded, held })
    });
    decoded.await?.map_err(|error: DecodeError| match error {
        DecodeError::TooLarge => Failure::too_large(limit, "when decompressed"),
        DecodeError::Exhausted => Failure::overloaded(),
        DecodeError::Invalid { .. } => Failure::bad_request("INVALID_COMPRESSION", error.to_string()),
    })
}

/// A batch ready to be stored.
struct Prepared {
    row: BatchRow,
    messages: Vec<Append>,
    response: IngestAccepted,
    body_len: usize,
    /// Memory of the messages.
    held: Reservation,
}

/// Nothing of it is appended after `by`, nor when the time to stop is nearly over.
async fn store(api: &Api, order: &Order, body: Received, by: Option<Instant>) -> Result<Bytes, Failure> {
    let check = tracing::info_span!(target: trace::TARGET, "check", bytes = body.bytes.len() as i64);
    let prepared = prepare(api, order, body).instrument(check).await?;
    let Prepared { row, messages, response, body_len, held } = prepared;
    let (batch_id, workspace) = (row.batch_id.clone(), row.workspace.clone());
    let span = tracing::info_span!(target: trace::TARGET, "batch", batch_id, workspace);
    let durable = async {
        // The row first: a batch that is in the log is always known, and one that is not lands never and says so.
        let row = api.metrics.timed(Backend::tables, api.tables.put_batch(row));
        row.await.map_err(|error| unstored(error, &batch_id, &workspace))?;
        crash::point("accept.after_batch_row");
        let append = tracing::info_span!(
            target: trace::TARGET, "append", otel.kind = "producer", messages = messages.len() as i64
        );
        let by = by.into_iter().chain(api.append_by.get().copied()).min();
        let appending = match by {
            Some(by) => api.log.append_by(messages, by),
            None => api.log.append(messages),
        };
        let appending = api.metrics.timed(Backend::log, appending.instrument(append));
        appending.await.map_err(|error| unstored(error, &batch_id, &workspace))
    };
    durable.instrument(span).await?;
    drop(held);
    crash::point("accept.after_append");
    count(api, &order.key.workspace, &response, body_len);
    api.pressure.took(&order.key.workspace, body_len);
    to_json(&response)
}

/// Names the batch in what the log says of its failure. Log lines around every batch that is stored would have cost a
/// hundredth of what small ones take.
fn unstored(error: impl Into<Failure>, batch_id: &str, workspace: &str) -> Failure {
    tracing::info_span!("unstored", batch_id, workspace).in_scope(|| error.into())
}

async fn prepare(api: &Api, order: &Order, body: Received) -> Result<Prepared, Failure> {
    let (worker, order) = (api.clone(), order.clone());
    let prepared = api.cpu.run(body.bytes.len(), move || {
        let Received { bytes, mut held } = body;
        // The frames are about as large as the body; when they are made, their true size counts.
        held.grow(bytes.len()).map_err(|_| Failure::overloaded())?;
        let now = worker.world.now_micros();
        let batch_id = worker.world.uuid_v7().to_string();
        let stamp = BatchStamp {
            workspace: &order.key.workspace,
            source: &order.key.source,
            batch_id: &batch_id,
            received_at: now,
        };
        let mut messages = Messages::new(stamp, &worker.lanes, bytes.len());
        let each = |index, record| messages.add(index, record);
        let checked = batch::check(&bytes, order.form, &worker.config.limits, each).map_err(|refused| {
            let Refused { failure, records } = refused;
            worker.metrics.count_bad(RecordResult::refused, &order.key.workspace, records);
            failure
        })?;
        let messages = messages.finish(&checked.rejected, worker.log.partitions(Topic::Rejects));
        let response = answer(&checked, &batch_id);
        let row = row(&checked, &response, &order, worker.created_at(now));
        drop(checked);
        let body_len = bytes.len();
        held.shrink(bytes.capacity());
        let frames: usize = messages.iter().map(|message| message.key.len() + message.value.len()).sum();
        held.grow(frames.saturating_sub(body_len)).map_err(|_| Failure::overloaded())?;
        Ok(Prepared { row, messages, response, body_len, held })
    });
    prepared.await?
}

fn answer(checked: &Checked<'_>, batch_id: &str) -> IngestAccepted {
    IngestAccepted {
        batch_id: batch_id.to_owned(),
        accepted_count: checked.accepted,
        rejected_count: count_u32(checked.rejected.len()),
        total_error_count: checked.total_errors,
        errors: checked.errors.clone(),
    }
}

fn row(checked: &Checked<'_>, response: &IngestAccepted, order: &Order, created_at: i64) -> BatchRow {
    BatchRow {
        workspace: order.key.workspace.clone(),
        batch_id: response.batch_id.clone(),
        created_at,
        accepted: response.accepted_count,
        rejected: response.rejected_count,
        total_errors: response.total_error_count,
        errors: response.errors.clone(),
        source: order.key.source.clone(),
        kind: checked.kind.as_str().to_owned(),
        format: order.format.clone(),
        attachments: checked.attachments,
    }
}

fn count(api: &Api, workspace: &str, response: &IngestAccepted, body_len: usize) {
    api.metrics.batches.inc();
    api.metrics.body_bytes.inc_by(body_len as u64);
    api.metrics.count_records(RecordResult::accepted, response.accepted_count as usize);
    api.metrics.count_bad(RecordResult::rejected, workspace, response.rejected_count as usize);
}

fn to_json(response: &IngestAccepted) -> Result<Bytes, Failure> {
    serde_json::to_vec(response).map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        Failure::internal()
    })
}

/// A batch has at most 1,000 records by default, and never more than a body has bytes.
fn count_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
