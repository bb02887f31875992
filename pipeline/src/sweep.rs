//! What is done now and then: batches past their landing deadline, idempotency keys past their expiry.
//!
//! Of all processes one sweeps: the one that holds the first partition of `batch-events`, so that the group which
//! divides the partitions also finds the next one when it dies. Two that do for a moment say the same things twice, which
//! changes nothing.

use crate::{
    context::{Context, encode},
    passage::{Look, Passage, Settled},
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
/// A batch that was given its time and then not appended within this long never is: longer than any append is tried.
const APPENDED_WITHIN: Duration = Duration::from_secs(120);

/// Sweeps until told to stop.
pub(crate) async fn sweep(context: Arc<Context>, stop: CancellationToken) {
    let mut ticks = interval(context.config.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut passage = Passage::new(context.config.landing_deadline);
    let sweeping = async {
        loop {
            ticks.tick().await;
            if let Some(settled) = passage.observe(look(&context).await?) {
                fail_overdue(&context, settled).await?;
            }
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

async fn look(context: &Context) -> Result<Look, Trouble> {
    let Context { log, patience, world, .. } = context;
    let at = world.now_micros();
    let lanes = patiently!(patience, "asking how far the lanes are", log.progress("lanes", Topic::Records))?;
    // After the lanes: what they had said by then is below the end that is seen now.
    let events = patiently!(patience, "asking how far the facts are", log.progress("batch-state", Topic::BatchEvents))?;
    Ok(Look { at, lanes, events })
}

/// A batch that has not landed in time, and that nothing in the log can land any more, says why it has failed, through
/// its topic like every other fact. Should its records land after all, those facts outrank this one.
async fn fail_overdue(context: &Context, settled: Settled) -> Result<(), Trouble> {
    let deadline = context.config.landing_deadline;
    let now = context.world.now_micros();
    let before = (now - micros(deadline)).min(settled.until - micros(deadline.min(APPENDED_WITHIN))) / 1_000;
    let overdue =
        patiently!(context.patience, "looking for overdue batches", context.tables.landing_before(before, BATCHES))?;
    let Some(oldest) = overdue.first() else { return Ok(()) };
    tracing::warn!(
        batches = overdue.len(),
        oldest = oldest.row.batch_id,
        workspace = oldest.row.workspace,
        "batches have not landed in time and are FAILED until they do: {}",
        reason(oldest, deadline, settled)
    );
    context.metrics.overdue_batches.inc_by(overdue.len() as u64);
    let events = overdue.iter().map(|batch| failed(batch, now, deadline, settled)).collect();
    context.append(Topic::BatchEvents, events).await
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn failed(batch: &Batch, at: i64, deadline: Duration, settled: Settled) -> (Bytes, Bytes) {
    let event = BatchEvent {
        workspace: batch.row.workspace.clone(),
        batch_id: batch.row.batch_id.clone(),
        at,
        fact: Fact::Failed { reason: reason(batch, deadline, settled) },
    };
    (Bytes::from(event.batch_id.clone()), encode(&event))
}

/// What is known about a batch that has not landed.
fn reason(batch: &Batch, deadline: Duration, settled: Settled) -> String {
    let landed = batch.facts.iter().filter_map(|(fact, _)| match fact {
        Fact::Landed { lane, lanes_in_batch } => Some((*lane, *lanes_in_batch)),
        _ => None,
    });
    let lanes: std::collections::BTreeMap<u32, u32> = landed.collect();
    let within = deadline.as_secs_f64();
    let known = match lanes.values().max() {
        None => format!("none of its records was reported landed within {within} s"),
        Some(of) => format!("{} of its {of} lanes landed within {within} s", lanes.len()),
    };
    let advice = if settled.but_for_some {
        "part of the pipeline stands still, and it may land when that is mended: wait, or send the batch again"
    } else {
        "the rest never reached the log: send the batch again"
    };
    format!("{known}; {advice}")
}

async fn expire(context: &Context) -> Result<(), Trouble> {
    let now = context.world.now_micros();
    patiently!(context.patience, "dropping expired idempotency keys", context.tables.expire(now)).map(drop)
}
