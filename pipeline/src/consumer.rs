//! Membership of a consumer group: a task for each assigned partition, ended cleanly when it is revoked.

use crate::{
    context::{Context, UNSETTLED},
    trouble::{Trouble, patiently},
};
use futures::{FutureExt, future::BoxFuture};
use std::{any::Any, collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use tributary_backends::log::{Change, FetchLimit, Member, Message, PartitionReader, Release, Topic};

/// Messages of the small topics that are taken at once, when there are some.
const MESSAGES: FetchLimit =
    FetchLimit { max_bytes: 4 * 1024 * 1024, max_messages: 2_000, max_wait: Duration::from_millis(20) };

/// What is done with a partition until the token is cancelled. Boxed here, for a future behind a type parameter cannot
/// be shown to be `Send` inside another one.
pub(crate) type Work =
    fn(Arc<Context>, Box<dyn PartitionReader>, CancellationToken) -> BoxFuture<'static, Result<(), Trouble>>;

/// A partition's task and the token that asks it to end.
struct Working {
    task: JoinHandle<()>,
    stop: CancellationToken,
    /// Cancelled once the work of our last turn at this partition has ended, for which the task waits.
    before: Option<CancellationToken>,
}

impl Working {
    /// Asks the task to end, and makes it end when it takes too long: as good as a crash, which loses nothing.
    async fn end(mut self, grace: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            self.task.abort();
            // Until it has really gone it could still commit.
            let _ = self.task.await;
        }
        if let Some(before) = self.before {
            before.cancelled().await;
        }
    }
}

/// Joins `group` and runs `work` on each partition of `topic` that this member gets, until told to stop. A membership that
/// fails for good is said, and another one is tried: only a new client may be what is needed.
pub(crate) async fn consume(
    context: Arc<Context>,
    (group, topic): (&'static str, Topic),
    stop: CancellationToken,
    work: Work,
) {
    while let Err(trouble) = take_part(&context, (group, topic), &stop, work).await {
        context.health.halted(&group_name(group, topic), &trouble.to_string());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(context.config.retry_longest) => {}
        }
    }
}

/// Is a member until told to stop, or until that fails.
async fn take_part(
    context: &Arc<Context>,
    (group, topic): (&'static str, Topic),
    stop: &CancellationToken,
    work: Work,
) -> Result<(), Trouble> {
    let mut member = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        member = async { patiently!(context.patience, "joining a consumer group", context.log.join(group, topic)) } => member?,
    };
    context.health.begins(&group_name(group, topic), UNSETTLED);
    let mut partitions = Partitions::new(context.clone(), topic, work);
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        failed = partitions.follow(&mut *member, group) => failed,
    };
    let held: Vec<u32> = partitions.working.keys().copied().collect();
    // We are a member still, so that a chunk which is finished now can commit its offsets, and nobody lands it again.
    partitions.end().await;
    if outcome.is_err() {
        held.into_iter().for_each(|partition| context.health.given_up(&partition_name(topic, partition)));
    }
    outcome
}

/// This member's partitions.
struct Partitions {
    context: Arc<Context>,
    topic: Topic,
    work: Work,
    working: HashMap<u32, Working>,
    /// Of partitions that were given up: cancelled once the work on them has ended.
    ended: HashMap<u32, CancellationToken>,
    ending: JoinSet<()>,
}

impl Partitions {
    fn new(context: Arc<Context>, topic: Topic, work: Work) -> Self {
        Self { context, topic, work, working: HashMap::new(), ended: HashMap::new(), ending: JoinSet::new() }
    }

    /// Follows the assignment; ends only in trouble.
    async fn follow(&mut self, member: &mut dyn Member, group: &str) -> Result<(), Trouble> {
        let (mut settled, mut has_settled) = (member.settled(), false);
        loop {
            while self.ending.try_join_next().is_some() {}
            let change = tokio::select! {
                biased;
                change = async { patiently!(self.context.patience, "following a consumer group", member.next()) } => change?,
                () = until_true(&mut settled), if !has_settled => {
                    has_settled = true;
                    self.context.health.able(&group_name(group, self.topic));
                    continue;
                }
            };
            match change {
                Change::Assigned(reader) => self.assigned(reader),
                Change::Revoked { partition, release } => self.revoked(partition, release),
            }
        }
    }

    /// Starts the work. A partition that was lost may be ours again while the work of our last turn is still ending: that
    /// one comes to its end first, so that there is never more than one task for a partition in a process.
    fn assigned(&mut self, reader: Box<dyn PartitionReader>) {
        let (context, topic, work) = (self.context.clone(), self.topic, self.work);
        let (partition, stop) = (reader.partition(), CancellationToken::new());
        tracing::info!(topic = topic.name(), partition, position = reader.position(), "assigned");
        let before = self.ended.remove(&partition).filter(|ended| !ended.is_cancelled());
        if before.is_none() {
            begins(&context, topic, partition);
        }
        let (last, stopping) = (before.clone(), stop.clone());
        let working_on = async move {
            if let Some(last) = last {
                last.cancelled().await;
                begins(&context, topic, partition);
            }
            work_on(&context, (topic, partition), work(context.clone(), reader, stopping)).await;
        };
        let span = tracing::info_span!("partition", topic = topic.name(), partition);
        let task = tokio::spawn(working_on.instrument(span));
        self.working.insert(partition, Working { task, stop, before });
    }

    /// Ends the work, and gives the partition free once it has ended.
    fn revoked(&mut self, partition: u32, release: Release) {
        let (context, topic) = (self.context.clone(), self.topic);
        tracing::info!(topic = topic.name(), partition, "revoked");
        let (task, ended) = (self.working.remove(&partition), CancellationToken::new());
        self.ended.insert(partition, ended.clone());
        self.ending.spawn(async move {
            if let Some(task) = task {
                task.end(context.config.stop_grace).await;
            }
            context.holdings.released(topic, partition);
            context.health.given_up(&partition_name(topic, partition));
            ended.cancel();
            drop(release);
        });
    }

    /// Ends all of it together. What had halted stays said: it is what the process ends with.
    async fn end(mut self) {
        for task in std::mem::take(&mut self.working).into_values() {
            self.ending.spawn(task.end(self.context.config.stop_grace));
        }
        while self.ending.join_next().await.is_some() {}
        self.context.holdings.left(self.topic);
    }
}

/// It is this process's from now on.
fn begins(context: &Context, topic: Topic, partition: u32) {
    context.holdings.assigned(topic, partition);
    if topic == Topic::Records {
        context.health.begins(&partition_name(topic, partition), "has not landed yet what waits for it");
    }
}

/// Sees the work to its end, and says so when that is a halt.
async fn work_on(context: &Context, (topic, partition): (Topic, u32), work: BoxFuture<'static, Result<(), Trouble>>) {
    let name = partition_name(topic, partition);
    let halted = |why: &str| {
        context.health.halted(&name, why);
        context.holdings.halted(topic, partition, why);
    };
    // What the work shares with others is behind locks and in the log; the partition's own is dropped.
    let work = context.holdings.working(topic, partition, work);
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(Trouble::Fenced(reason))) => tracing::info!("{name} was given up: {reason}"),
        Ok(Err(trouble)) => halted(&trouble.to_string()),
        Err(panic) => halted(&format!("a bug: {}", message_of(&*panic))),
    }
}

/// A group as it is called in messages.
pub(crate) fn group_name(group: &str, topic: Topic) -> String {
    format!("group {group} of {}", topic.name())
}

/// A partition likewise.
pub(crate) fn partition_name(topic: Topic, partition: u32) -> String {
    format!("partition {partition} of {}", topic.name())
}

/// Waits for ever when it can no longer turn true.
async fn until_true(turns: &mut watch::Receiver<bool>) {
    if turns.wait_for(|is| *is).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What a panic said.
fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}

/// The next messages of a small topic, never none; `None` when told to stop.
pub(crate) async fn next_messages(
    context: &Context,
    reader: &mut dyn PartitionReader,
    stop: &CancellationToken,
) -> Result<Option<Vec<Message>>, Trouble> {
    loop {
        let messages = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            messages = fetch(context, reader) => messages?,
        };
        if !messages.is_empty() {
            return Ok(Some(messages));
        }
    }
}

async fn fetch(context: &Context, reader: &mut dyn PartitionReader) -> Result<Vec<Message>, Trouble> {
    patiently!(context.patience, "reading the log", reader.filled())?;
    patiently!(context.patience, "reading the log", reader.fetch(MESSAGES))
}
