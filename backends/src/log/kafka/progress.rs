//! How far groups are, asked from outside them.
//!
//! Committed offsets can only be asked for by a client with the group's name. There is one for each name that was ever
//! asked about, because setting one up costs threads and connections. It never subscribes, so it is no member. Every
//! question is for all partitions at once: one request to each group's coordinator, one to each broker that leads some.
//!
//! There is a question of an administrator that one client could put for all groups. In librdkafka 2.12 it ends the process
//! (`rd_kafka_enq_once_del_source_return: Assertion`) when a client is closed over it whose brokers have gone, and a client that
//! is kept never learns that another broker coordinates a group now.

use super::{Kafka, PATIENCE, clients, committed, errors, native, offsets, reports::Reports};
use crate::log::{LogError, Progress, Topic};
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    topic_partition_list::{Offset, TopicPartitionList},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError},
    time::Duration,
};

/// Offsets of partitions.
type Offsets = HashMap<(Topic, u32), i64>;

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

    /// How far each group is in each partition of its topic. Blocks.
    pub(super) fn progress(&self, groups: &[(String, Topic)]) -> Result<Vec<Vec<Progress>>, LogError> {
        let places = |topic: Topic| (0..self.options.partitions(topic)).map(move |partition| (topic, partition));
        // All of them connect at once, the first time.
        groups.iter().try_for_each(|(group, topic)| self.asker(group, *topic).map(drop))?;
        // In this order, so that nobody is ahead of the end.
        let committed = groups.iter().map(|(group, topic)| {
            let all: Vec<u32> = (0..self.options.partitions(*topic)).collect();
            self.committed(group, *topic, &all)
        });
        let committed = committed.collect::<Result<Vec<_>, _>>()?;
        let ends = self.ends(groups.iter().flat_map(|(_, topic)| places(*topic)), Offset::End)?;
        let known =
            |group: usize, partition: u32| committed.get(group).and_then(|known| known.get(&partition)).copied();
        let new = groups.iter().enumerate().flat_map(|(group, (_, topic))| {
            places(*topic).filter(move |(_, partition)| known(group, *partition).is_none())
        });
        let beginnings = self.ends(new, Offset::Beginning)?;
        let one = |group: usize, place: (Topic, u32)| {
            let done = known(group, place.1).or_else(|| beginnings.get(&place).copied());
            let high = ends.get(&place).copied();
            let missing = || {
                let (topic, partition) = (place.0.name(), place.1);
                LogError::Unavailable(format!("nobody answers for partition {partition} of {topic}"))
            };
            Ok(Progress { done: done.ok_or_else(missing)?, high: high.ok_or_else(missing)? })
        };
        let of =
            |(group, (_, topic)): (usize, &(String, Topic))| places(*topic).map(|place| one(group, place)).collect();
        groups.iter().enumerate().map(of).collect()
    }

    /// The first or one past the last offset of each partition: a look-up by time with the two times that stand for
    /// them in Kafka's protocol, which are also what librdkafka has for them.
    pub(super) fn ends(
        &self,
        places: impl IntoIterator<Item = (Topic, u32)>,
        end: Offset,
    ) -> Result<Offsets, LogError> {
        let failed = |error: KafkaError| errors::unavailable("ask for the ends of partitions", &error);
        let (names, mut asked) = (Topic::ALL.map(|topic| self.options.topic(topic)), TopicPartitionList::new());
        // Brokers take none twice.
        for (topic, partition) in places.into_iter().collect::<BTreeSet<_>>() {
            asked.add_partition_offset(&names[topic as usize], native(partition), end).map_err(failed)?;
        }
        if asked.count() == 0 {
            return Ok(Offsets::new());
        }
        let answer =
            self.plain.offsets_for_times(asked, PATIENCE).and_then(|answer| offsets(&answer)).map_err(failed)?;
        let known = |name: &str| Topic::ALL.into_iter().find(|topic| names[*topic as usize] == name);
        let ends = answer.into_iter().filter_map(|(name, partition, end)| Some(((known(&name)?, partition), end)));
        Ok(ends.collect())
    }
}
