//! What a lane says of the part of a chunk that has landed in one table: attachments to fetch, then facts.
//!
//! Said for each table as soon as it has its part, so that nobody waits for a larger tenant in the same chunk. Said
//! also when the table had the part already, because it may not have been said then; and before the offsets move,
//! because afterwards nobody would know that it is still to be said. A fact may tell of a landed batch only once the
//! batch's attachments are in the log.

use crate::{
    chunk::TableChunk,
    context::{Context, encode},
    trouble::Trouble,
};
use bytes::Bytes;
use tributary_backends::{crash, log::Topic};
use tributary_schemas::{batch::Fact, frame::BatchEvent};

/// Says all of it, durably.
pub(crate) async fn landed(context: &Context, part: TableChunk) -> Result<(), Trouble> {
    let TableChunk { workspace, attachments, facts, .. } = part;
    if let Some(mut attachments) = attachments {
        loop {
            let messages = attachments.next_messages();
            if messages.is_empty() {
                break;
            }
            context.append(Topic::Attachments, messages).await?;
        }
        crash::point("lane.after_attachments");
    }
    let at = context.world.now_micros();
    let event = |(batch_id, fact): (String, Fact)| {
        let key = Bytes::from(batch_id.clone());
        (key, encode(&BatchEvent { workspace: workspace.clone(), batch_id, at, fact }))
    };
    context.append(Topic::BatchEvents, facts.into_iter().map(event).collect()).await?;
    crash::point("lane.after_facts");
    Ok(())
}
