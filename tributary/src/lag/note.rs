//! What a process with lanes tells all others: which partitions it has, and how they do.

use super::pace::Reading;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, time::Duration};
use tributary_backends::log::Topic;
use tributary_pipeline::Holding;

/// Characters of a reason for halting; the log has all of it.
const LONGEST_REASON: usize = 300;

/// The note of one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Host and process id.
    pub name: String,
    holds: Vec<Held>,
}

/// One of its partitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    topic: String,
    partition: u32,
    pub rate: Option<f64>,
    pub throughput: Option<f64>,
    /// Seconds.
    still: f64,
    pub halted: Option<String>,
}

impl Held {
    /// How long it has moved nothing.
    pub fn still(&self) -> Duration {
        Duration::try_from_secs_f64(self.still).unwrap_or_default()
    }
}

impl Note {
    /// Of what a process has, by what it has seen of it.
    pub fn new(name: &str, holdings: Vec<Holding>, readings: &HashMap<(Topic, u32), Reading>) -> Self {
        let held = |holding: Holding| {
            let reading = readings.get(&(holding.topic, holding.partition)).copied().unwrap_or_default();
            Held {
                topic: holding.topic.name().to_owned(),
                partition: holding.partition,
                rate: reading.rate,
                throughput: reading.throughput,
                still: reading.still.as_secs_f64(),
                halted: holding.halted.map(|why| why.chars().take(LONGEST_REASON).collect()),
            }
        };
        Self { name: name.to_owned(), holds: holdings.into_iter().map(held).collect() }
    }
}

/// What the notes of all processes say of each partition.
#[derive(Debug, Default)]
pub struct Owners(HashMap<(String, u32), (String, Held)>);

impl Owners {
    /// Reads them; one of another version says nothing.
    pub fn read<'n>(notes: impl IntoIterator<Item = &'n [u8]>) -> Self {
        let notes = notes.into_iter().filter_map(|note| serde_json::from_slice::<Note>(note).ok());
        let each = |note: Note| {
            let Note { name, holds } = note;
            holds.into_iter().map(move |held| ((held.topic.clone(), held.partition), (name.clone(), held)))
        };
        Self(notes.flat_map(each).collect())
    }

    /// Who has it, and how it does there.
    pub fn of(&self, topic: Topic, partition: u32) -> Option<&(String, Held)> {
        self.0.get(&(topic.name().to_owned(), partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_process_writes_another_reads() {
        let holding = |topic, partition, halted| Holding { topic, partition, halted };
        let reading = Reading { rate: Some(7.5), still: Duration::from_secs(3), ..Reading::default() };
        let holdings = vec![holding(Topic::Records, 3, None), holding(Topic::Rejects, 0, Some("x".repeat(10_000)))];
        let note = Note::new("host:1", holdings, &HashMap::from([((Topic::Records, 3), reading)]));
        let bytes = serde_json::to_vec(&note).expect("json");
        assert!(bytes.len() < 1_000, "{}", bytes.len());
        let owners = Owners::read([&bytes[..], b"", b"{}", b"\xFF"]);
        let (name, held) = owners.of(Topic::Records, 3).expect("an owner");
        assert_eq!((name.as_str(), held.rate, held.still()), ("host:1", Some(7.5), Duration::from_secs(3)));
        assert!(owners.of(Topic::Rejects, 0).is_some_and(|(_, held)| held.halted.is_some()));
        assert!(owners.of(Topic::Records, 0).is_none());
    }
}
