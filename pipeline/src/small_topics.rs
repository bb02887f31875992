//! Topics that are read message by message into the tables: `batch-events`, `rejects` and `attachments`.
//!
//! All writes may be repeated, so offsets move after them and nothing more is needed.

use crate::{
    consumer::next_messages,
    context::Context,
    sweep::sweep,
    trouble::{Trouble, patiently},
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tributary_backends::log::{Message, PartitionReader, Topic};
use tributary_schemas::frame::{Attachment, BatchEvent, DeadLetter, Frame, Reject};

/// Facts about batches → the tables. Whoever has the first partition also sweeps.
pub(crate) async fn batch_events(
    context: Arc<Context>,
    reader: Box<dyn PartitionReader>,
    stop: CancellationToken,
) -> Result<(), Trouble> {
    if reader.partition() > 0 {
        return store_facts(context, reader, stop).await;
    }
    let sweeping = stop.child_token();
    let stop_sweeping = sweeping.clone().drop_guard();
    let storing = async {
        let stored = store_facts(context.clone(), reader, stop).await;
        drop(stop_sweeping);
        stored
    };
    tokio::join!(storing, sweep(context.clone(), sweeping)).0
}

async fn store_facts(
    context: Arc<Context>,
    mut reader: Box<dyn PartitionReader>,
    stop: CancellationToken,
) -> Result<(), Trouble> {
    while let Some(messages) = next_messages(&context, &mut *reader, &stop).await? {
        let events: Vec<BatchEvent> = decode(&context, (reader.topic(), reader.partition()), &messages).await?;
        patiently!(context.patience, "storing facts about batches", context.tables.add_facts(&events))?;
        done(&context, &mut *reader, &messages).await?;
    }
    Ok(())
}

/// Rejected records → the tables. Counted once nobody will read them again, so that a partition which another process has
/// taken meanwhile is counted by that one alone.
pub(crate) async fn rejects(
    context: Arc<Context>,
    mut reader: Box<dyn PartitionReader>,
    stop: CancellationToken,
) -> Result<(), Trouble> {
    while let Some(messages) = next_messages(&context, &mut *reader, &stop).await? {
        let rejects: Vec<Reject> = decode(&context, (reader.topic(), reader.partition()), &messages).await?;
        patiently!(context.patience, "storing rejected records", context.tables.put_rejects(&rejects))?;
        done(&context, &mut *reader, &messages).await?;
        context.metrics.count("rejected", rejects.len() as u64);
    }
    Ok(())
}

/// Attachments → the tables, where they wait to be fetched.
pub(crate) async fn attachments(
    context: Arc<Context>,
    mut reader: Box<dyn PartitionReader>,
    stop: CancellationToken,
) -> Result<(), Trouble> {
    while let Some(messages) = next_messages(&context, &mut *reader, &stop).await? {
        let attachments: Vec<Attachment> = decode(&context, (reader.topic(), reader.partition()), &messages).await?;
        patiently!(context.patience, "storing attachments", context.tables.put_attachments(&attachments))?;
        done(&context, &mut *reader, &messages).await?;
    }
    Ok(())
}

/// Decodes what can be decoded; the rest is put aside before the offsets move.
async fn decode<F: Frame>(
    context: &Context,
    (topic, partition): (Topic, u32),
    messages: &[Message],
) -> Result<Vec<F>, Trouble> {
    let ids = context.log.schema_ids();
    let (mut frames, mut dead) = (Vec::with_capacity(messages.len()), Vec::new());
    for message in messages {
        match F::decode_as(&message.value, &*ids) {
            Ok(frame) => frames.push(frame),
            Err(error) => dead.push(DeadLetter {
                topic: topic.name().to_owned(),
                partition,
                offset: message.offset,
                stage: "decode".to_owned(),
                reason: error.reason,
                at: context.world.now_micros(),
                key: message.key.to_vec(),
                payload: message.value.to_vec(),
            }),
        }
    }
    context.dead_letter(&dead).await?;
    Ok(frames)
}

async fn done(context: &Context, reader: &mut dyn PartitionReader, messages: &[Message]) -> Result<(), Trouble> {
    let Some(last) = messages.last() else { return Ok(()) };
    patiently!(context.patience, "committing offsets", reader.commit(last.offset + 1))
}
