//! How a lane takes messages from its partition: little and often when it is up to date, as much as the memory
//! budget allows when it is behind.

use crate::{
    chunk::RawChunk,
    chunking::{Gathered, Room},
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
        self.due = Instant::now() + self.so_far().pause(&self.context.config);
        self.cramped = false;
        Ok(Some(std::mem::take(&mut self.gathered)))
    }

    /// Reads ahead while the chunk before is being landed, until the next one is full. Cancel-safe; never ends but
    /// with an error.
    pub(crate) async fn read_ahead(&mut self, reader: &mut dyn PartitionReader) -> Result<Infallible, Trouble> {
        sleep_until(self.due).await;
        while !self.is_full() {
            self.wait_and_read(reader).await?;
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
            self.wait_and_read(reader).await?;
        }
        let high = patiently!(self.context.patience, "asking the log for its end", reader.watermarks())?.high;
        while !self.is_full() && reader.position() < high {
            if self.read(reader).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Nothing more may be added.
    fn is_full(&self) -> bool {
        self.cramped || self.so_far().is_whole(&self.context.config)
    }

    fn so_far(&self) -> Gathered {
        Gathered { records: self.gathered.messages.len(), bytes: self.gathered.bytes }
    }

    /// Reads once there is something. Whoever waits holds nothing of the budget, which is for those that work.
    async fn wait_and_read(&mut self, reader: &mut dyn PartitionReader) -> Result<(), Trouble> {
        patiently!(self.context.patience, "reading records from the log", reader.filled())?;
        self.read(reader).await.map(drop)
    }

    /// Reads once; how many messages came.
    async fn read(&mut self, reader: &mut dyn PartitionReader) -> Result<usize, Trouble> {
        let empty = self.gathered.messages.is_empty();
        let Room { records: max_messages, bytes: max_bytes } = self.so_far().room(&self.context.config);
        let Some(mut permit) = self.reserve(max_bytes, empty).await? else {
            self.cramped = true;
            return Ok(0);
        };
        let limit = FetchLimit { max_bytes, max_messages, max_wait: SHORT_WAIT };
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
