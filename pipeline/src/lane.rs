//! A lane: one partition of topic `records`, from the log to the lake.

use crate::{
    chunk::{NormalizedChunk, RawChunk},
    consumer::partition_name,
    context::Context,
    intake::Intake,
    landings::Landings,
    normalize::normalize,
    open_tables::OpenTables,
    trouble::{Trouble, patiently},
};
use std::sync::Arc;
use tokio::{task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};
use tributary_backends::{
    crash,
    log::{PartitionReader, Topic},
};
use tributary_schemas::frame::RecordDecoder;

pub(crate) struct Lane {
    context: Arc<Context>,
    lane: u32,
    tables: OpenTables,
    /// Lent to the blocking worker that decodes.
    decoder: Option<RecordDecoder>,
}

/// A chunk of which everything is durable but its offsets.
struct Landed {
    /// The offset that they move to.
    next: i64,
    /// Its dead letters that no table counts: counted once nobody will read them again, so that another owner, or another
    /// try, does not count them too. Their exact number is that of distinct offsets in the topic.
    without_table: u64,
    /// Records of each workspace, dead letters too: counted then as well.
    workspaces: Vec<(String, u64)>,
}

impl Lane {
    pub(crate) fn new(context: Arc<Context>, lane: u32) -> Self {
        Self { tables: OpenTables::new(context.clone(), lane), context, lane, decoder: None }
    }

    /// Lands chunk after chunk until told to stop, reading the next one ahead; the chunk in hand is finished then. Dropping
    /// it in the middle is like a crash: the next owner takes the chunk again.
    pub(crate) async fn run(
        mut self,
        mut reader: Box<dyn PartitionReader>,
        stop: CancellationToken,
    ) -> Result<(), Trouble> {
        let name = partition_name(Topic::Records, self.lane);
        let mut intake = Intake::new(self.context.clone());
        let mut is_able = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            nothing_waits = self.nothing_waits(&mut *reader) => nothing_waits?,
        };
        if is_able {
            self.context.health.able(&name);
        }
        while let Some(raw) = intake.next_chunk(&mut *reader, &stop).await? {
            let from = raw.messages.first().map(|message| message.offset);
            let traced = raw.messages.iter().any(|message| message.trace.is_some()).then_some(true);
            let span = tracing::info_span!("chunk", from, next = raw.next(), records = raw.messages.len(), traced);
            let landings = Landings::of(&raw.messages, self.lane, &span);
            let (landed, failed) = self.land_and_read_ahead(raw, span, &mut intake, &mut *reader).await;
            let Landed { next, without_table, workspaces } = landed?;
            let context = &self.context;
            patiently!(context.patience, "committing offsets", reader.commit(next))?;
            crash::point("lane.after_offsets");
            context.metrics.count("dead_lettered", without_table);
            context.holdings.done(self.lane, &workspaces, without_table);
            landings.done();
            if !is_able {
                // All that landing a chunk needs has been shown to work: tables, index, log.
                is_able = true;
                context.health.able(&name);
            }
            if let Some(trouble) = failed {
                return Err(trouble);
            }
        }
        Ok(())
    }

    /// Lands a chunk while the next one is read; what reading failed with does not keep the chunk from landing, unless the
    /// partition is another's by now.
    async fn land_and_read_ahead(
        &mut self,
        raw: RawChunk,
        span: Span,
        intake: &mut Intake,
        reader: &mut dyn PartitionReader,
    ) -> (Result<Landed, Trouble>, Option<Trouble>) {
        let mut landing = std::pin::pin!(self.land(raw).instrument(span));
        let Err(failed) = tokio::select! {
            biased;
            landed = &mut landing => return (landed, None),
            failed = intake.read_ahead(reader) => failed,
        };
        match failed {
            Trouble::Fenced(_) => (Err(failed), None),
            failed => (landing.await, Some(failed)),
        }
    }

    /// Whether there is nothing to land at the beginning.
    async fn nothing_waits(&self, reader: &mut dyn PartitionReader) -> Result<bool, Trouble> {
        let held = patiently!(self.context.patience, "asking the log for its end", reader.watermarks())?;
        Ok(reader.position() >= held.high)
    }

    /// Everything that has to be durable before the offsets may move. Dead letters first.
    async fn land(&mut self, raw: RawChunk) -> Result<Landed, Trouble> {
        self.context.metrics.chunk(raw.messages.len(), raw.bytes);
        let mut chunk = self.normalize(raw).await?;
        self.context.dead_letter(&chunk.dead).await?;
        let workspaces = chunk.tables.iter().map(|part| (part.workspace.clone(), part.records())).collect();
        self.tables.land(std::mem::take(&mut chunk.tables)).await?;
        Ok(Landed { next: chunk.next, without_table: chunk.dead_without_table, workspaces })
    }

    async fn normalize(&mut self, raw: RawChunk) -> Result<NormalizedChunk, Trouble> {
        let started = Instant::now();
        let (lane, now) = (self.lane, self.context.world.now_micros());
        let mut decoder = self.decoder.take().unwrap_or_else(|| RecordDecoder::with_ids(self.context.log.schema_ids()));
        let decode = spawn_blocking(move || (normalize(&mut decoder, lane, now, raw), decoder));
        let (chunk, decoder) = decode.await.map_err(|error| Trouble::Halt(error.to_string()))?;
        self.decoder = Some(decoder);
        self.context.metrics.stage("normalize", started.elapsed());
        chunk.map_err(|error| Trouble::Halt(error.to_string()))
    }
}
