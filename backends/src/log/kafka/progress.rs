//! How far groups are, asked from outside them.
//!
//! Committed offsets can only be asked for by a client with the group's name. There is one for each name that was ever
//! asked about, because setting one up costs threads and connections. It never subscribes, so it is no member. Every
//! question is for all partitions at once: one request to the group's coordinator, one to each broker that leads some.

use super::{Kafka, PATIENCE, clients, committed, errors, native, offsets, reports::Reports};
use crate::log::{LogError, Progress, Topic};
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    topic_partition_list::{Offset, TopicPartitionList},
};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

impl Kafka {
    /// What the group has committed; partitions without are left out. Blocks.
    pub(super) fn committed(
        &self,
        group: &str,
        topic: Topic,
        partitions: &[u32],
    ) -> Result<HashMap<u32, i64>, LogError> {
        let asker = self.asker(group, topic)?;
        // Takes what librdkafka has to say about this client, which it keeps until it is asked.
        let _ = asker.poll(Duration::ZERO);
        asker.context().remind(asker.client(), &self.options.brokers);
        committed(&asker, &self.options.topic(topic), partitions)
    }

    /// How far the group is in each partition. Blocks.
    pub(super) fn progress(&self, group: &str, topic: Topic) -> Result<Vec<Progress>, LogError> {
        let all: Vec<u32> = (0..self.options.partitions(topic)).collect();
        // In this order, so that nobody is ahead of the end.
        let committed = self.committed(group, topic, &all)?;
        let ends = self.ends(topic, &all, Offset::End)?;
        let new: Vec<u32> = all.iter().filter(|partition| !committed.contains_key(partition)).copied().collect();
        let beginnings = self.ends(topic, &new, Offset::Beginning)?;
        let one = |partition: &u32| {
            let done = committed.get(partition).or_else(|| beginnings.get(partition)).copied();
            let high = ends.get(partition).copied();
            let missing =
                || LogError::Unavailable(format!("nobody answers for partition {partition} of {}", topic.name()));
            Ok(Progress { done: done.ok_or_else(missing)?, high: high.ok_or_else(missing)? })
        };
        all.iter().map(one).collect()
    }

    fn asker(&self, group: &str, topic: Topic) -> Result<Arc<BaseConsumer<Reports>>, LogError> {
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asker) = askers.get(group) {
            return Ok(asker.clone());
        }
        let asker: BaseConsumer<Reports> = clients::consumer(&self.options, group, topic, self.reports.for_another())?;
        let asker = Arc::new(asker);
        askers.insert(group.to_owned(), asker.clone());
        Ok(asker)
    }

    /// The first or one past the last offset of each partition: a look-up by time with the two times that stand for
    /// them in Kafka's protocol, which are also what librdkafka has for them.
    pub(super) fn ends(&self, topic: Topic, partitions: &[u32], end: Offset) -> Result<HashMap<u32, i64>, LogError> {
        if partitions.is_empty() {
            return Ok(HashMap::new());
        }
        let failed = |error: KafkaError| errors::unavailable("ask for the ends of partitions", &error);
        let (mut asked, name) = (TopicPartitionList::new(), self.options.topic(topic));
        for partition in partitions {
            asked.add_partition_offset(&name, native(*partition), end).map_err(failed)?;
        }
        offsets(&self.plain.offsets_for_times(asked, PATIENCE).map_err(failed)?, failed)
    }
}
