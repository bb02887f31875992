//! Looking at messages, or at the whole log, without being in a group or changing anything.
//!
//! One client for all looks, made at the first; it reads the places that it is shown, little ahead, and is shown none in
//! between.

use super::{Kafka, KafkaLog, Options, Shared, clients, errors, native, producer::Producer, reader, topics, void};
use crate::log::{FetchLimit, LogError, Message, RecordLog, Topic};
use rdkafka::{
    consumer::Consumer,
    topic_partition_list::{Offset, TopicPartitionList},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tributary_schemas::identity::Lanes;

/// How long the client waits at a time; what it then finds is asked of the partitions' ends.
const SLICE: Duration = Duration::from_millis(50);

/// Opens a log that is there as it is: nothing is made, nothing is checked, and the number of lanes is that of the topic.
///
/// # Errors
/// [`LogError::Halted`] when there is none, or the brokers do not let us in; [`LogError::Unavailable`] when no broker
/// answers within [`Options::start_timeout`].
pub async fn observe(options: Options) -> Result<Arc<dyn RecordLog>, LogError> {
    options.check()?;
    let (id, partitions) = topics::inspect(&Kafka::connect(options.clone(), None)?).await?;
    let lanes = Lanes { partitions, ..options.lanes };
    let kafka = Kafka::connect(Options { lanes, ..options }, None)?;
    let listener = kafka.listen()?;
    let producer = Producer::new(&kafka.options, &kafka.reports, None)?;
    Ok(Arc::new(KafkaLog(Arc::new(Shared { id, producer, _listener: listener, kafka, threads: Mutex::default() }))))
}

impl Kafka {
    /// What is at some places of different partitions. Blocks.
    pub(super) fn look(
        &self,
        topic: Topic,
        places: &[(u32, i64)],
        limit: FetchLimit,
    ) -> Result<Vec<Vec<Message>>, LogError> {
        let deadline = Instant::now() + limit.max_wait;
        let ends = self.ends(places.iter().map(|(partition, _)| (topic, *partition)), Offset::End)?;
        let mut wanted: HashMap<u32, Wanted> = HashMap::new();
        let mut list = TopicPartitionList::new();
        let (name, failed) = (self.options.topic(topic), |error| errors::unavailable("look at messages", &error));
        for (partition, from) in places {
            let end = ends.get(&(topic, *partition)).copied().unwrap_or(0);
            wanted.insert(*partition, Wanted { end, messages: Vec::new(), bytes: 0, done: *from >= end });
            if *from < end {
                list.add_partition_offset(&name, native(*partition), Offset::Offset(*from)).map_err(failed)?;
            }
        }
        let mut client = self.onlooker.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &mut *client {
            Some(client) => client,
            none => none.insert(clients::onlooker(&self.options, self.reports.for_another())?),
        };
        client.assign(&list).map_err(failed)?;
        let mut fault = None;
        while wanted.values().any(|wanted| !wanted.done) && Instant::now() < deadline {
            match client.poll(SLICE) {
                Some(Ok(message)) => {
                    let partition = u32::try_from(rdkafka::Message::partition(&message)).unwrap_or(u32::MAX);
                    if let Some(wanted) = wanted.get_mut(&partition) {
                        if void::is_void(&message) {
                            wanted.done = rdkafka::Message::offset(&message) + 1 >= wanted.end;
                        } else {
                            wanted.take(reader::owned(&message), limit);
                        }
                    }
                }
                // Mostly something that passes, and then the messages come after all.
                Some(Err(error)) => fault = Some(error),
                None => {}
            }
        }
        client.context().remind(client.client(), &self.options.brokers);
        client.unassign().map_err(failed)?;
        if let Some(error) = fault.filter(|_| wanted.values().any(|wanted| !wanted.done)) {
            return Err(failed(error));
        }
        let mut taken = |(partition, _): &(u32, i64)| wanted.remove(partition).map(|wanted| wanted.messages);
        Ok(places.iter().map(|place| taken(place).unwrap_or_default()).collect())
    }
}

/// What has come of one partition.
struct Wanted {
    end: i64,
    messages: Vec<Message>,
    bytes: usize,
    done: bool,
}

impl Wanted {
    fn take(&mut self, message: Message, limit: FetchLimit) {
        let bytes = self.bytes + message.key.len() + message.value.len();
        if self.done || !self.messages.is_empty() && bytes > limit.max_bytes {
            self.done = true;
            return;
        }
        self.done = message.offset + 1 >= self.end || self.messages.len() + 1 >= limit.max_messages;
        self.bytes = bytes;
        self.messages.push(message);
    }
}
