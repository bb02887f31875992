//! Appending: idempotent, acknowledged by all in-sync copies, bounded.
//!
//! The bytes that wait are bounded by a semaphore before librdkafka sees a message. A call holds its share until the
//! last of its messages was acknowledged or given up, also when its caller has gone away.

use super::{
    call::{Call, Delivery, Failed},
    clients, errors,
    options::Options,
    registry::Headers,
    reports::Reports,
    send::{self, Outgoing, Sender},
    topics,
    void::{self, Clocks},
};
use crate::{
    log::{Append, LogError, TOO_LATE, Topic},
    trace::{self, TraceParent},
};
use rdkafka::{
    ClientContext, Message, Statistics,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::DeliveryResult,
    producer::{Producer as _, ProducerContext},
};
use std::{
    ffi::CString,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout_at},
};

/// How long the brokers may take to say who leads.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// What a message costs beside its bytes, here and in librdkafka.
const OVERHEAD: usize = 256;

type Native = Sender<Acknowledgements>;

/// Appends to the topics of one log.
pub(super) struct Producer {
    options: Options,
    reports: Reports,
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
        let acknowledgements = Acknowledgements { reports: reports.for_another(), clocks: clocks.clone() };
        let native = RwLock::new(Arc::new(native(options, acknowledgements)?));
        let room = Arc::new(Semaphore::new(options.queue_bytes.min(Semaphore::MAX_PERMITS)));
        Ok(Self { options: options.clone(), reports: reports.for_another(), headers, room, clocks, native })
    }

    /// Appends all, none of it after `by`; their offsets. Fails only when nothing of it can be appended any more, and takes no
    /// longer than [`Options::settles_within`], whatever librdkafka does.
    pub(super) async fn append(&self, messages: Vec<Append>, by: Option<Instant>) -> Result<Vec<i64>, LogError> {
        for message in &messages {
            self.check_size(message)?;
        }
        let given_up_at = by.into_iter().fold(Instant::now() + self.options.append_timeout, Instant::min);
        // By our own clock the first messages to a broker may be void from the start. Then they are known to be, and by the
        // second time so is its clock.
        let unknown = messages.iter().any(|message| !self.clocks.knows(message.topic, message.partition));
        let again = unknown.then(|| messages.clone());
        let trace = TraceParent::current();
        let outcome = match (self.append_once(messages, given_up_at, trace.as_ref()).await, again) {
            (Err(Failed::Late), Some(again)) => self.append_once(again, given_up_at, trace.as_ref()).await,
            (outcome, _) => outcome,
        };
        outcome.map_err(LogError::from)
    }

    async fn append_once(
        &self,
        messages: Vec<Append>,
        given_up_at: Instant,
        trace: Option<&TraceParent>,
    ) -> Result<Vec<i64>, Failed> {
        let room = self.room(&messages, given_up_at).await?;
        let (call, answer) = Call::new(messages, room);
        let native = self.native.read().unwrap_or_else(PoisonError::into_inner).clone();
        if given_up_at <= Instant::now() {
            return Err(LogError::Unavailable(TOO_LATE.to_owned()).into());
        }
        let sent = self.send(&native, &call, given_up_at, trace);
        // Those that are under way hold it.
        drop(call);
        let unavailable = |reason: &str| Err(LogError::Unavailable(reason.to_owned()).into());
        let (void_at, under_way) = (given_up_at + void::MARGIN, !matches!(sent, Err((_, 0))));
        let outcome = match sent {
            Ok(()) => match timeout_at(void_at, answer).await {
                Ok(answer) => answer.unwrap_or_else(|_| unavailable("the producer is gone")),
                // librdkafka looks at its clock once a second. What it still says is heard by nobody.
                Err(_) => unavailable("the brokers have not acknowledged it in time"),
            },
            Err((error, _)) => Err(error.into()),
        };
        if outcome.is_err() {
            native.context().reports.remind(native.client(), &self.options.brokers);
            self.replace_if_dead(&native);
        }
        if under_way && matches!(outcome, Err(Failed::Log(LogError::Unavailable(_)))) {
            sleep_until(void_at).await;
        }
        if outcome.is_err() {
            // It may have been replaced, and to close it takes a while.
            tokio::task::spawn_blocking(move || drop(native));
        }
        outcome
    }

    /// Hands all to librdkafka, without any waiting in between, so that the messages of a call keep their order; or says
    /// why, and how many it has taken before. They are void from `given_up_at` on, also when this process stands still
    /// before it hands them over.
    fn send(
        &self,
        native: &Native,
        call: &Arc<Call>,
        given_up_at: Instant,
        trace: Option<&TraceParent>,
    ) -> Result<(), (LogError, usize)> {
        let given_up_at = self.clocks.at(given_up_at);
        let mut framed = Vec::new();
        let carried = trace::carried(trace, call.messages());
        for ((index, message), carries) in call.messages().iter().enumerate().zip(carried) {
            let (topic, partition) = (message.topic, message.partition);
            let not_after = self.clocks.there(topic, partition, given_up_at);
            let outgoing = Outgoing {
                topic,
                partition: i32::try_from(partition).unwrap_or(i32::MAX),
                key: &message.key,
                framed: self.headers.as_ref().map(|headers| headers.put_on(topic, &message.value, &mut framed)),
                not_after: &not_after.to_be_bytes(),
                trace: trace.filter(|_| carries),
            };
            let delivery = Box::new(Delivery { call: call.clone(), index, not_after });
            send::send(native, &outgoing, delivery).map_err(|error| (errors::append(&error), index))?;
        }
        Ok(())
    }

    /// Whether it could append: the brokers let this client in, and the records' partitions are as many as were written
    /// down, or more, each with a leader. Blocks.
    pub(super) fn check(&self) -> Result<(), LogError> {
        let native = self.native.read().unwrap_or_else(PoisonError::into_inner).clone();
        let name = &self.options.topic(Topic::Records);
        let metadata = native.client().fetch_metadata(Some(name), PATIENCE);
        let metadata =
            metadata.map_err(|error| errors::unavailable("ask who leads the records' partitions", &error))?;
        let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
        let (has, configured) = (partitions.len(), self.options.partitions(Topic::Records) as usize);
        if has < configured {
            return Err(LogError::Unavailable(topics::grown(Topic::Records, name, has, configured)));
        }
        // What runs goes on with those that were written down: if it said that it cannot, all processes would at once.
        if has > configured {
            self.reports.warn("grown", &topics::grown(Topic::Records, name, has, configured));
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
    async fn room(&self, messages: &[Append], given_up_at: Instant) -> Result<OwnedSemaphorePermit, LogError> {
        let most = self.options.queue_bytes.min(u32::MAX as usize);
        let bytes: usize = messages.iter().map(|m| m.key.len() + m.value.len() + OVERHEAD).sum();
        let room = self.room.clone().acquire_many_owned(bytes.min(most) as u32);
        match timeout_at(given_up_at.min(Instant::now() + self.options.queue_wait), room).await {
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
        let acknowledgements = Acknowledgements { reports: self.reports.for_another(), clocks: self.clocks.clone() };
        match self::native(&self.options, acknowledgements) {
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

fn native(options: &Options, acknowledgements: Acknowledgements) -> Result<Native, LogError> {
    let name = |topic| CString::new(options.topic(topic));
    let names = Topic::ALL.map(name).into_iter().collect::<Result<_, _>>();
    let names = names.map_err(|error| LogError::Halted(format!("a topic's name: {error}")))?;
    let sender = Sender::new(clients::producer(options, acknowledgements)?, names);
    sender.map_err(|error| LogError::Unavailable(format!("cannot start a thread: {error}")))
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
        let Append { topic, partition, .. } = delivery.message();
        let outcome = match result {
            Ok(message) => {
                let appended_at = void::appended_at(message);
                if let Some(at) = appended_at {
                    self.clocks.acknowledged(*topic, *partition, at);
                }
                // As its readers judge.
                match appended_at {
                    Some(at) if at > delivery.not_after => Err(Failed::Late),
                    _ => Ok(message.offset()),
                }
            }
            Err((error, _)) => Err(errors::append(error).into()),
        };
        delivery.answered(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            async move { producer.append(messages, None).await }
        });
        while producer.room.available_permits() == 3_000 {
            tokio::task::yield_now().await;
        }
        let Err(LogError::Unavailable(reason)) = producer.append(vec![message], None).await else {
            panic!("there was no room")
        };
        assert!(reason.contains("3000 bytes wait"), "{reason}");
        let Err(LogError::Unavailable(reason)) = first.await.unwrap() else { panic!("nobody can have acknowledged") };
        assert!(reason.contains("in time"), "{reason}");
        // Its share is held until librdkafka has given its messages up.
        while producer.room.available_permits() < 3_000 {
            tokio::task::yield_now().await;
        }
    }
}
