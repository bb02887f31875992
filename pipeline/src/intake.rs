//! How a lane takes messages from its partition: little and often when it is up to date, as much as the memory
//! budget allows when it is behind.

use crate::{
    chunk::RawChunk,
    context::{BUDGET_UNIT, Context},
    trouble::{Trouble, patiently},
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, TryAcquireError},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tributary_backends::log::{FetchLimit, PartitionReader};

/// Bytes of one read while a lane is waiting for its first message: what an idle lane holds of the budget.
const FIRST_READ: usize = 256 * 1024;
/// Bytes of one read after that.
const READ: usize = 4 * 1024 * 1024;
/// Pause between reads ahead, so that they are few and large.
const READ_AHEAD_PAUSE: Duration = Duration::from_millis(10);
/// Patience of a read for messages that are known to be there.
const SHORT_WAIT: Duration = Duration::from_millis(20);

pub(crate) struct Intake {
    context: Arc<Context>,
    gathered: RawChunk,
    /// The budget had no room for more.
    cramped: bool,
    /// Not before this may the next chunk go.
    due: Instant,
}

impl Intake {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, gathered: RawChunk::default(), cramped: false, due: Instant::now() }
    }

    /// The next chunk, never empty; `None` when told to stop.
    pub(crate) async fn next_chunk(
        &mut self,
        reader: &mut dyn PartitionReader,
        stop: &CancellationToken,
    ) -> Result<Option<RawChunk>, Trouble> {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            gathered = self.gather(reader) => gathered?,
        }
        // A lane that is behind does not wait: it would land a chunk each interval, however quick it is.
        let pause = if self.is_whole() { Duration::ZERO } else { self.context.config.commit_interval };
        self.due = Instant::now() + pause;
        self.cramped = false;
        Ok(Some(std::mem::take(&mut self.gathered)))
    }

    /// Reads ahead while the chunk before is being landed, until the next one is full. Cancel-safe; never ends but
    /// with an error.
    pub(crate) async fn read_ahead(&mut self, reader: &mut dyn PartitionReader) -> Result<Infallible, Trouble> {
        sleep_until(self.due).await;
        while !self.is_full() {
            self.read(reader, self.context.config.idle_wait).await?;
            sleep(READ_AHEAD_PAUSE).await;
        }
        std::future::pending().await
    }

    /// Everything that is there when the chunk is due, as far as it fits. Cancel-safe.
    async fn gather(&mut self, reader: &mut dyn PartitionReader) -> Result<(), Trouble> {
        if !self.is_full() {
            sleep_until(self.due).await;
        }
        while self.gathered.messages.is_empty() {
            self.read(reader, self.context.config.idle_wait).await?;
        }
        let high = patiently!(self.context.patience, "asking the log for its end", reader.watermarks())?.high;
        while !self.is_full() && reader.position() < high {
            if self.read(reader, SHORT_WAIT).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Nothing more may be added.
    fn is_full(&self) -> bool {
        self.cramped || self.is_whole()
    }

    /// As large as a chunk may be.
    fn is_whole(&self) -> bool {
        let config = &self.context.config;
        self.gathered.bytes >= config.chunk_bytes || self.gathered.messages.len() >= config.chunk_records
    }

    /// Reads once; how many messages came.
    async fn read(&mut self, reader: &mut dyn PartitionReader, max_wait: Duration) -> Result<usize, Trouble> {
        let config = &self.context.config;
        let empty = self.gathered.messages.is_empty();
        let room = config.chunk_bytes.saturating_sub(self.gathered.bytes);
        let max_bytes = room.min(if empty { FIRST_READ } else { READ }).clamp(1, config.memory_bytes.max(1));
        let Some(mut permit) = self.reserve(max_bytes, empty).await? else {
            self.cramped = true;
            return Ok(0);
        };
        let max_messages = config.chunk_records.saturating_sub(self.gathered.messages.len()).max(1);
        let limit = FetchLimit { max_bytes, max_messages, max_wait };
        let messages = patiently!(self.context.patience, "reading records from the log", reader.fetch(limit))?;
        let bytes: usize = messages.iter().map(|message| message.key.len() + message.value.len()).sum();
        if let Some(kept) = permit.split(bytes.div_ceil(BUDGET_UNIT).min(permit.num_permits())) {
            match &mut self.gathered.held {
                Some(held) => held.merge(kept),
                none => *none = Some(kept),
            }
        }
        let count = messages.len();
        self.gathered.bytes += bytes;
        self.gathered.messages.extend(messages);
        Ok(count)
    }

    /// Room for a read. A chunk that has something already goes as it is rather than wait for room: lanes that wait
    /// for each other's would never end.
    async fn reserve(&self, bytes: usize, wait: bool) -> Result<Option<OwnedSemaphorePermit>, Trouble> {
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX);
        let budget = self.context.budget.clone();
        if wait {
            return budget
                .acquire_many_owned(units)
                .await
                .map(Some)
                .map_err(|closed| Trouble::Halt(closed.to_string()));
        }
        match budget.try_acquire_many_owned(units) {
            Ok(permit) => Ok(Some(permit)),
            Err(TryAcquireError::NoPermits) => Ok(None),
            Err(closed @ TryAcquireError::Closed) => Err(Trouble::Halt(closed.to_string())),
        }
    }
}
