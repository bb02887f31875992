//! What is done now and then: batches past their landing deadline, idempotency keys past their expiry.

use crate::{
    context::{Context, encode},
    trouble::{Trouble, patiently},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tributary_backends::{log::Topic, tables::Batch};
use tributary_schemas::{batch::Fact, frame::BatchEvent};

/// Batches that are failed in one sweep; the rest has its turn in the next.
const BATCHES: usize = 1_000;

/// Sweeps until told to stop.
pub(crate) async fn sweep(context: Arc<Context>, stop: CancellationToken) {
    let mut ticks = interval(context.config.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sweeping = async {
        loop {
            ticks.tick().await;
            fail_overdue(&context).await?;
            expire(&context).await?;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        ended = sweeping => {
            let ended: Result<(), Trouble> = ended;
            if let Err(trouble) = ended {
                context.health.halted("the sweep of overdue batches", &trouble.to_string());
            }
        }
    }
}

/// A batch that has not landed in time says why it has failed, through its topic like every other fact. Should its
/// records land after all, those facts outrank this one.
async fn fail_overdue(context: &Context) -> Result<(), Trouble> {
    let deadline = context.config.landing_deadline;
    let now = context.world.now_micros();
    let before = now / 1_000 - i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX);
    let overdue =
        patiently!(context.patience, "looking for overdue batches", context.tables.landing_before(before, BATCHES))?;
    let events = overdue.iter().map(|batch| failed(batch, now, deadline)).collect();
    context.append(Topic::BatchEvents, events).await
}

fn failed(batch: &Batch, at: i64, deadline: Duration) -> (Bytes, Bytes) {
    let event = BatchEvent {
        workspace: batch.row.workspace.clone(),
        batch_id: batch.row.batch_id.clone(),
        at,
        fact: Fact::Failed { reason: reason(batch, deadline) },
    };
    tracing::warn!(batch = event.batch_id, workspace = event.workspace, "overdue: {:?}", event.fact);
    (Bytes::from(event.batch_id.clone()), encode(&event))
}

/// What is known about a batch that has not landed.
fn reason(batch: &Batch, deadline: Duration) -> String {
    let landed = batch.facts.iter().filter_map(|(fact, _)| match fact {
        Fact::Landed { lane, lanes_in_batch } => Some((*lane, *lanes_in_batch)),
        _ => None,
    });
    let lanes: std::collections::BTreeMap<u32, u32> = landed.collect();
    let within = deadline.as_secs_f64();
    match lanes.values().max() {
        None => format!("none of its records was reported landed within {within} s: send the batch again"),
        Some(of) => format!("{} of its {of} lanes landed within {within} s: send the batch again", lanes.len()),
    }
}

async fn expire(context: &Context) -> Result<(), Trouble> {
    let now = context.world.now_micros();
    patiently!(context.patience, "dropping expired idempotency keys", context.tables.expire(now)).map(drop)
}
