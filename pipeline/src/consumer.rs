//! Membership of a consumer group: a task for each assigned partition, ended cleanly when it is revoked.

use crate::{
    context::Context,
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
use tributary_backends::log::{Change, FetchLimit, Message, PartitionReader, Topic};

/// Messages of the small topics that are taken at once.
const MESSAGES: FetchLimit =
    FetchLimit { max_bytes: 4 * 1024 * 1024, max_messages: 2_000, max_wait: Duration::from_secs(1) };

/// What is done with a partition until the token is cancelled. Boxed here, for a future behind a type parameter cannot
/// be shown to be `Send` inside another one.
pub(crate) type Work =
    fn(Arc<Context>, Box<dyn PartitionReader>, CancellationToken) -> BoxFuture<'static, Result<(), Trouble>>;

/// A partition's task and the token that asks it to end.
struct Working {
    task: JoinHandle<()>,
    stop: CancellationToken,
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
    }
}

/// Joins `group` and runs `work` on each partition of `topic` that this member gets, until told to stop.
pub(crate) async fn consume(
    context: Arc<Context>,
    (group, topic): (&'static str, Topic),
    stop: CancellationToken,
    work: Work,
) {
    let grace = context.config.stop_grace;
    let mut working: HashMap<u32, Working> = HashMap::new();
    let mut ending = JoinSet::new();
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        left = follow(&context, group, topic, work, &mut working, &mut ending) => left,
    };
    if let Err(trouble) = outcome {
        context.health.halted(&group_name(group, topic), &trouble.to_string());
    }
    // The member has left the group, or is about to: its tasks end together.
    for task in working.into_values() {
        ending.spawn(task.end(grace));
    }
    while ending.join_next().await.is_some() {}
    context.holdings.left(topic);
}

/// Follows the assignment; ends only in trouble.
async fn follow(
    context: &Arc<Context>,
    group: &str,
    topic: Topic,
    work: Work,
    working: &mut HashMap<u32, Working>,
    ending: &mut JoinSet<()>,
) -> Result<(), Trouble> {
    let mut member = patiently!(context.patience, "joining a consumer group", context.log.join(group, topic))?;
    let (mut settled, mut has_settled) = (member.settled(), false);
    loop {
        while ending.try_join_next().is_some() {}
        let change = tokio::select! {
            biased;
            change = async { patiently!(context.patience, "following a consumer group", member.next()) } => change?,
            () = until_true(&mut settled), if !has_settled => {
                has_settled = true;
                context.health.able(&group_name(group, topic));
                continue;
            }
        };
        match change {
            Change::Assigned(reader) => {
                let (partition, stop) = (reader.partition(), CancellationToken::new());
                tracing::info!(topic = topic.name(), partition, position = reader.position(), "assigned");
                context.holdings.assigned(topic, partition);
                let name = partition_name(topic, partition);
                if topic == Topic::Records {
                    context.health.begins(&name, "has not landed yet what waits for it");
                }
                let (context, work) = (context.clone(), work(context.clone(), reader, stop.clone()));
                let span = tracing::info_span!("partition", topic = topic.name(), partition);
                let working_on = async move {
                    let halted = |why: &str| {
                        context.health.halted(&name, why);
                        context.holdings.halted(topic, partition, why);
                    };
                    // What the work shares with others is behind locks and in the log; the partition's own is dropped.
                    match AssertUnwindSafe(work).catch_unwind().await {
                        Ok(Ok(())) => {}
                        Ok(Err(Trouble::Fenced(reason))) => tracing::info!("{name} was given up: {reason}"),
                        Ok(Err(trouble)) => halted(&trouble.to_string()),
                        Err(panic) => halted(&format!("a bug: {}", message_of(&*panic))),
                    }
                };
                let task = tokio::spawn(working_on.instrument(span));
                working.insert(partition, Working { task, stop });
            }
            Change::Revoked { partition, release } => {
                tracing::info!(topic = topic.name(), partition, "revoked");
                let (task, grace) = (working.remove(&partition), context.config.stop_grace);
                let holdings = context.holdings.clone();
                let (health, name) = (context.health.clone(), partition_name(topic, partition));
                ending.spawn(async move {
                    if let Some(task) = task {
                        task.end(grace).await;
                    }
                    holdings.released(topic, partition);
                    health.able(&name);
                    drop(release);
                });
            }
        }
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
    patiently!(context.patience, "reading the log", reader.fetch(MESSAGES))
}
