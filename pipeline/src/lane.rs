//! A lane: one partition of topic `records`, from the log to the lake.

use crate::{
    chunk::{NormalizedChunk, RawChunk},
    context::{Context, encode},
    intake::Intake,
    normalize::{Attachments, normalize},
    open_tables::OpenTables,
    trouble::{Trouble, patiently},
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::{task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    crash,
    log::{PartitionReader, Topic},
};
use tributary_schemas::{
    batch::Fact,
    frame::{BatchEvent, RecordDecoder},
};

pub(crate) struct Lane {
    context: Arc<Context>,
    lane: u32,
    tables: OpenTables,
    /// Lent to the blocking worker that decodes.
    decoder: Option<RecordDecoder>,
}

impl Lane {
    pub(crate) fn new(context: Arc<Context>, lane: u32) -> Self {
        Self { tables: OpenTables::new(context.clone(), lane), context, lane, decoder: None }
    }

    /// Lands chunk after chunk until told to stop, reading the next one ahead. Dropping it in the middle is like a
    /// crash: the next owner takes the chunk again.
    pub(crate) async fn run(
        mut self,
        mut reader: Box<dyn PartitionReader>,
        stop: CancellationToken,
    ) -> Result<(), Trouble> {
        let mut intake = Intake::new(self.context.clone(), self.lane);
        while let Some(raw) = intake.next_chunk(&mut *reader, &stop).await? {
            let next = tokio::select! {
                biased;
                landed = self.land(raw) => landed?,
                failed = intake.read_ahead(&mut *reader) => match failed? {},
            };
            let context = &self.context;
            patiently!(context.patience, "committing offsets", reader.commit(next))?;
            crash::point("lane.after_offsets");
        }
        Ok(())
    }

    /// Everything that has to be durable before the offsets may move; the offset that they move to.
    async fn land(&mut self, raw: RawChunk) -> Result<i64, Trouble> {
        self.context.metrics.chunk(raw.messages.len(), raw.bytes);
        let mut chunk = self.normalize(raw).await?;
        self.put_aside(&chunk).await?;
        self.tables.land(std::mem::take(&mut chunk.tables)).await?;
        self.emit_attachments(chunk.attachments.take()).await?;
        self.emit_facts(&chunk).await?;
        Ok(chunk.next)
    }

    async fn normalize(&mut self, raw: RawChunk) -> Result<NormalizedChunk, Trouble> {
        let started = Instant::now();
        let (lane, now) = (self.lane, self.context.world.now_micros());
        let mut decoder = self.decoder.take().unwrap_or_default();
        let decode = spawn_blocking(move || (normalize(&mut decoder, lane, now, raw), decoder));
        let (chunk, decoder) = decode.await.map_err(|error| Trouble::Halt(error.to_string()))?;
        self.decoder = Some(decoder);
        self.context.metrics.stage("normalize", started.elapsed());
        chunk.map_err(|error| Trouble::Halt(error.to_string()))
    }

    /// Dead letters are durable before the offsets move. Those that no table counts are counted here, so that the
    /// outcomes' sum is what was consumed; their exact number is that of distinct offsets in the topic.
    async fn put_aside(&self, chunk: &NormalizedChunk) -> Result<(), Trouble> {
        self.context.dead_letter(&chunk.dead).await?;
        self.context.metrics.count("dead_lettered", chunk.dead_without_table);
        Ok(())
    }

    /// Says what there is to fetch, also when the chunk was in already, as with facts: those may tell of a landed batch
    /// only once its attachments are in the log.
    async fn emit_attachments(&self, attachments: Option<Attachments>) -> Result<(), Trouble> {
        let Some(mut attachments) = attachments else { return Ok(()) };
        loop {
            let messages = attachments.next_messages();
            if messages.is_empty() {
                break;
            }
            self.context.append(Topic::Attachments, messages).await?;
        }
        crash::point("lane.after_attachments");
        Ok(())
    }

    /// Says what has landed, also when the chunk was in already: the facts may not have been said then. Before the
    /// offsets move, because afterwards nobody would know that they are still to be said.
    async fn emit_facts(&self, chunk: &NormalizedChunk) -> Result<(), Trouble> {
        let events = landed_events(chunk, self.context.world.now_micros());
        self.context.append(Topic::BatchEvents, events).await?;
        crash::point("lane.after_facts");
        Ok(())
    }
}

/// The chunk's facts as messages.
fn landed_events(chunk: &NormalizedChunk, at: i64) -> Vec<(Bytes, Bytes)> {
    let message = |(workspace, batch_id, fact): &(String, String, Fact)| {
        let event = BatchEvent { workspace: workspace.clone(), batch_id: batch_id.clone(), at, fact: fact.clone() };
        (Bytes::from(batch_id.clone()), encode(&event))
    };
    chunk.facts.iter().map(message).collect()
}
