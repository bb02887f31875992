//! Appending: idempotent, acknowledged by all in-sync copies, bounded.
//!
//! The bytes that wait are bounded by a semaphore before librdkafka sees a message. A call holds its share until the
//! last of its messages was acknowledged or given up, also when its caller has gone away.

use super::{
    clients, errors,
    options::Options,
    registry::Headers,
    reports::Reports,
    topics,
    void::{self, Clocks},
};
use crate::{
    log::{Append, LogError, Topic},
    trace::{self, TraceParent},
};
use rdkafka::{
    ClientContext, Message, Statistics,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};
use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep_until},
};

/// How long the brokers may take to say who leads.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// What a message costs beside its bytes, here and in librdkafka.
const OVERHEAD: usize = 256;

type Native = ThreadedProducer<Acknowledgements>;

/// Appends to the topics of one log.
pub(super) struct Producer {
    options: Options,
    reports: Reports,
    /// By [`Topic`](crate::log::Topic), in the order of their declaration.
    topics: Vec<String>,
    /// Of messages in the Confluent wire format.
    headers: Option<Headers>,
    room: Arc<Semaphore>,
    clocks: Arc<Clocks>,
    /// Replaced after a fatal error.
    native: RwLock<Arc<Native>>,
}

impl Producer {
    pub(super) fn new(options: &Options, reports: &Reports, headers: Option<Headers>) -> Result<Self, LogError> {
        let clocks = Arc::new(Clocks::new(options));
        let acknowledgements = Acknowledgements { reports: reports.clone(), clocks: clocks.clone() };
        let native = RwLock::new(Arc::new(clients::producer(options, acknowledgements)?));
        let topics = crate::log::Topic::ALL.map(|topic| options.topic(topic)).to_vec();
        let room = Arc::new(Semaphore::new(options.queue_bytes.min(Semaphore::MAX_PERMITS)));
        Ok(Self { options: options.clone(), reports: reports.clone(), topics, headers, room, clocks, native })
    }

    /// Appends all; their offsets. Fails only when nothing of it can be appended any more.
    pub(super) async fn append(&self, messages: Vec<Append>) -> Result<Vec<i64>, LogError> {
        for message in &messages {
            self.check_size(message)?;
        }
        // By our own clock the first messages to a broker may be void from the start. Then they are known to be, and by the
        // second time so is its clock.
        let unknown = messages.iter().any(|message| !self.clocks.knows(message.topic, message.partition));
        let again = unknown.then(|| messages.clone());
        let trace = TraceParent::current();
        let outcome = match (self.append_once(messages, trace.as_ref()).await, again) {
            (Err(Failed::Late), Some(again)) => self.append_once(again, trace.as_ref()).await,
            (outcome, _) => outcome,
        };
        outcome.map_err(LogError::from)
    }

    async fn append_once(&self, messages: Vec<Append>, trace: Option<&TraceParent>) -> Result<Vec<i64>, Failed> {
        let (call, answer) = Call::new(messages.len(), self.room(&messages).await?);
        let native = self.native.read().unwrap_or_else(PoisonError::into_inner).clone();
        let void_at = Instant::now() + self.options.append_timeout + void::MARGIN;
        let sent = self.send(&native, &call, &messages, trace);
        // librdkafka has copies; waiting needs neither.
        drop((call, messages));
        let (outcome, under_way) = match sent {
            Ok(()) => {
                let gone = |_| Err(LogError::Unavailable("the producer is gone".to_owned()).into());
                (answer.await.unwrap_or_else(gone), true)
            }
            Err((error, index)) => (Err(error.into()), index > 0),
        };
        if outcome.is_err() {
            self.replace_if_dead(&native);
        }
        if under_way && matches!(outcome, Err(Failed::Log(LogError::Unavailable(_)))) {
            sleep_until(void_at).await;
        }
        outcome
    }

    /// Hands all to librdkafka, without any waiting in between, so that the messages of a call keep their order; or says
    /// why, and how many it has taken before.
    fn send(
        &self,
        native: &Native,
        call: &Arc<Call>,
        messages: &[Append],
        trace: Option<&TraceParent>,
    ) -> Result<(), (LogError, usize)> {
        let timeout = i64::try_from(self.options.append_timeout.as_millis()).unwrap_or(i64::MAX);
        let mut framed = Vec::new();
        let carried = trace::carried(trace, messages);
        for ((index, message), carries) in messages.iter().enumerate().zip(carried) {
            let (topic, partition) = (message.topic, message.partition);
            let not_after = self.clocks.now(topic, partition).saturating_add(timeout);
            let delivery = Box::new(Delivery { call: call.clone(), index, topic, partition, not_after });
            let value = match &self.headers {
                Some(headers) => headers.put_on(topic, &message.value, &mut framed),
                None => &message.value,
            };
            let record = BaseRecord::with_opaque_to(&self.topics[topic as usize], delivery)
                .partition(i32::try_from(partition).unwrap_or(i32::MAX))
                .headers(headers(not_after, trace.filter(|_| carries)))
                .key(message.key.as_ref())
                .payload(value);
            native.send(record).map_err(|(error, _)| (errors::append(&error), index))?;
        }
        Ok(())
    }

    /// Whether it could append: the brokers let this client in, and the records' partitions are as many as were written
    /// down, each with a leader. Blocks.
    pub(super) fn check(&self) -> Result<(), LogError> {
        let native = self.native.read().unwrap_or_else(PoisonError::into_inner).clone();
        let name = &self.topics[Topic::Records as usize];
        let metadata = native.client().fetch_metadata(Some(name), PATIENCE);
        let metadata =
            metadata.map_err(|error| errors::unavailable("ask who leads the records' partitions", &error))?;
        let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
        let (has, configured) = (partitions.len(), self.options.partitions(Topic::Records) as usize);
        if has != configured {
            return Err(LogError::Unavailable(topics::grown(name, has, configured)));
        }
        match partitions.iter().find(|partition| partition.leader() < 0) {
            Some(partition) => {
                Err(LogError::Unavailable(format!("nobody leads partition {} of {name}", partition.id())))
            }
            None => Ok(()),
        }
    }

    fn check_size(&self, message: &Append) -> Result<(), LogError> {
        let (size, most) = (message.key.len() + message.value.len(), self.options.max_message_bytes - 512);
        if size > most {
            return Err(LogError::Halted(format!("a message of {size} bytes; at most {most} are possible")));
        }
        Ok(())
    }

    /// A share of the queue for `messages`; more than the whole queue takes all of it, alone.
    async fn room(&self, messages: &[Append]) -> Result<OwnedSemaphorePermit, LogError> {
        let most = self.options.queue_bytes.min(u32::MAX as usize);
        let bytes: usize = messages.iter().map(|m| m.key.len() + m.value.len() + OVERHEAD).sum();
        let room = self.room.clone().acquire_many_owned(bytes.min(most) as u32);
        match tokio::time::timeout(self.options.queue_wait, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(LogError::Halted("the log is closed".to_owned())),
            Err(_) => {
                let reason = format!("{most} bytes wait for the brokers already");
                Err(LogError::Unavailable(reason))
            }
        }
    }

    /// An idempotent producer that can no longer tell what it has sent stops for good. What it was given has failed;
    /// those who gave it may try again, with a new one.
    fn replace_if_dead(&self, native: &Arc<Native>) {
        let Some((_, reason)) = native.client().fatal_error() else { return };
        let mut current = self.native.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, native) {
            return;
        }
        let acknowledgements = Acknowledgements { reports: self.reports.clone(), clocks: self.clocks.clone() };
        match clients::producer(&self.options, acknowledgements) {
            Ok(new) => {
                tracing::warn!(reason, "the Kafka producer had to be replaced");
                let dead = std::mem::replace(&mut *current, Arc::new(new));
                // Closing it waits for its thread.
                tokio::task::spawn_blocking(move || drop(dead));
            }
            Err(error) => tracing::error!(%error, "the Kafka producer cannot be replaced"),
        }
    }
}

/// What a message says beside its key and its value.
fn headers(not_after: i64, trace: Option<&TraceParent>) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(1 + usize::from(trace.is_some()));
    let headers = void::put(headers, not_after);
    match trace {
        Some(trace) => headers.insert(Header { key: trace::HEADER, value: Some(trace.as_str()) }),
        None => headers,
    }
}

/// Why a call failed.
#[derive(Debug)]
enum Failed {
    /// All of it has been appended, and some of it too late.
    Late,
    Log(LogError),
}

impl From<LogError> for Failed {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<Failed> for LogError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Late => Self::Unavailable("the brokers appended it too late".to_owned()),
            Failed::Log(error) => error,
        }
    }
}

/// Where the acknowledgement of a message belongs.
struct Delivery {
    call: Arc<Call>,
    index: usize,
    topic: Topic,
    partition: u32,
    not_after: i64,
}

/// One append.
struct Call {
    offsets: Vec<AtomicI64>,
    /// Messages without an answer.
    left: AtomicUsize,
    state: Mutex<CallState>,
    _room: OwnedSemaphorePermit,
}

struct CallState {
    failed: Option<Failed>,
    reply: Option<oneshot::Sender<Result<Vec<i64>, Failed>>>,
}

impl Call {
    fn new(count: usize, room: OwnedSemaphorePermit) -> (Arc<Self>, oneshot::Receiver<Result<Vec<i64>, Failed>>) {
        let (reply, answer) = oneshot::channel();
        let offsets = std::iter::repeat_with(|| AtomicI64::new(-1)).take(count).collect();
        let state = Mutex::new(CallState { failed: None, reply: Some(reply) });
        (Arc::new(Self { offsets, left: AtomicUsize::new(count), state, _room: room }), answer)
    }

    /// The answer for the message `index`; the last one answers the caller.
    fn answered(&self, index: usize, outcome: Result<i64, Failed>) {
        match outcome {
            Ok(offset) => self.offsets[index].store(offset, Ordering::Relaxed),
            Err(error) => {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                // What was late tells least: the rest of the call is not known to be there.
                if matches!(state.failed, None | Some(Failed::Late)) {
                    state.failed = Some(error);
                }
            }
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match state.failed.take() {
            Some(error) => Err(error),
            None => Ok(self.offsets.iter().map(|offset| offset.load(Ordering::Relaxed)).collect()),
        };
        if let Some(reply) = state.reply.take() {
            // A caller that has gone away needs no answer.
            let _ = reply.send(outcome);
        }
    }
}

/// Takes the brokers' acknowledgements.
struct Acknowledgements {
    reports: Reports,
    clocks: Arc<Clocks>,
}

impl ClientContext for Acknowledgements {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, text: &str) {
        self.reports.log(level, fac, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }

    fn stats(&self, _: Statistics) {}
}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Box<Delivery>) {
        let Delivery { topic, partition, not_after, .. } = *delivery;
        let outcome = match result {
            Ok(message) => {
                let appended_at = void::appended_at(message);
                if let Some(at) = appended_at {
                    self.clocks.acknowledged(topic, partition, at);
                }
                // As its readers judge.
                match appended_at {
                    Some(at) if at > not_after => Err(Failed::Late),
                    _ => Ok(message.offset()),
                }
            }
            Err((error, _)) => Err(errors::append(error).into()),
        };
        delivery.call.answered(delivery.index, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn call(count: usize) -> (Arc<Call>, oneshot::Receiver<Result<Vec<i64>, Failed>>, Arc<Semaphore>) {
        let room = Arc::new(Semaphore::new(10));
        let (call, answer) = Call::new(count, room.clone().acquire_many_owned(10).await.unwrap());
        (call, answer, room)
    }

    #[tokio::test]
    async fn a_call_is_answered_with_offsets_in_its_own_order_once_all_are_there() {
        let (call, mut answer, room) = call(3).await;
        for (index, offset) in [(2, 9), (0, 7)] {
            call.answered(index, Ok(offset));
            assert!(answer.try_recv().is_err());
        }
        call.answered(1, Ok(8));
        assert_eq!(answer.await.unwrap().unwrap(), [7, 8, 9]);
        drop(call);
        assert_eq!(room.available_permits(), 10, "its share of the queue is free again");
    }

    #[tokio::test]
    async fn one_failure_fails_the_call_but_only_when_nothing_of_it_waits_any_more() {
        let (call, mut answer, room) = call(2).await;
        call.answered(0, Err(LogError::Unavailable("first".to_owned()).into()));
        assert!(answer.try_recv().is_err());
        assert_eq!(room.available_permits(), 0);
        call.answered(1, Ok(3));
        assert!(matches!(answer.await.unwrap(), Err(Failed::Log(LogError::Unavailable(reason))) if reason == "first"));
    }

    #[tokio::test]
    async fn a_full_queue_is_unavailable_soon() {
        // Nobody listens there, so that nothing is ever acknowledged.
        let options = Options {
            brokers: "127.0.0.1:1".to_owned(),
            queue_bytes: 3_000,
            queue_wait: std::time::Duration::from_millis(20),
            append_timeout: std::time::Duration::from_secs(2),
            ..Options::default()
        };
        let producer = Arc::new(Producer::new(&options, &Reports::default(), None).unwrap());
        let message = Append {
            topic: crate::log::Topic::Records,
            partition: 0,
            key: bytes::Bytes::new(),
            value: bytes::Bytes::from(vec![0; 2_000]),
        };
        let first = tokio::spawn({
            let (producer, messages) = (producer.clone(), vec![message.clone()]);
            async move { producer.append(messages).await }
        });
        while producer.room.available_permits() == 3_000 {
            tokio::task::yield_now().await;
        }
        let Err(LogError::Unavailable(reason)) = producer.append(vec![message]).await else {
            panic!("there was no room")
        };
        assert!(reason.contains("3000 bytes wait"), "{reason}");
        let Err(LogError::Unavailable(reason)) = first.await.unwrap() else { panic!("nobody can have acknowledged") };
        assert!(reason.contains("in time"), "{reason}");
        assert_eq!(producer.room.available_permits(), 3_000);
    }
}
