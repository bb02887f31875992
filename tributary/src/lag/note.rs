//! What a process with lanes tells all others: which partitions it has, and how they do.
//!
//! It tells how long something has taken and never when it was, so that no two clocks are compared.

use super::pace::Reading;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, time::Duration};
use tributary_backends::log::Topic;
use tributary_pipeline::{Holding, Holdings};

/// Characters of a reason for halting; the log has all of it.
const LONGEST_REASON: usize = 300;

/// A process with lanes, to itself.
#[derive(Debug)]
pub struct Member {
    /// Host and process id.
    pub name: String,
    pub holdings: Holdings,
    /// How long its lanes rest between two commits.
    pub rest: Duration,
}

/// The note of one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    name: String,
    /// Seconds that its lanes rest between two commits.
    #[serde(default)]
    rest: f64,
    holds: Vec<Held>,
}

/// One of its partitions. There may be thousands, most of them idle: what says nothing is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Held {
    topic: String,
    partition: u32,
    /// Everything below this offset was done when it was looked at.
    #[serde(default)]
    done: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    throughput: Option<f64>,
    /// Seconds that it has moved nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    still: f64,
    /// Seconds that the oldest has waited, at least and at most.
    #[serde(default, skip_serializing_if = "is_zero")]
    least: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    most: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    halted: Option<String>,
}

/// As serde asks.
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl Note {
    /// Of what a process has, by what it has seen of it: how far it is, and what that means.
    pub fn new(member: &Member, readings: &HashMap<(Topic, u32), (i64, Reading)>) -> Self {
        let held = |holding: Holding| {
            let place = (holding.topic, holding.partition);
            let (done, reading) = readings.get(&place).copied().unwrap_or_default();
            Held {
                topic: holding.topic.name().to_owned(),
                partition: holding.partition,
                done,
                rate: reading.rate,
                throughput: reading.throughput,
                still: reading.still.as_secs_f64(),
                least: reading.waited.0.as_secs_f64(),
                most: reading.waited.1.map(|most| most.as_secs_f64()),
                halted: holding.halted.map(|why| why.chars().take(LONGEST_REASON).collect()),
            }
        };
        let holds = member.holdings.now().into_iter().map(held).collect();
        Self { name: member.name.clone(), rest: member.rest.as_secs_f64(), holds }
    }
}

/// Who has a partition, and how it did there when the note was left.
#[derive(Debug, Clone, PartialEq)]
pub struct Owner {
    /// Host and process id.
    pub name: String,
    /// How long its lanes rest between two commits.
    pub rest: Duration,
    /// Everything below this offset was done.
    pub done: i64,
    /// What it read of its own looks.
    pub reading: Reading,
    pub halted: Option<String>,
}

/// What the notes of all processes say of each partition.
#[derive(Debug, Default)]
pub struct Owners(HashMap<(String, u32), Owner>);

impl Owners {
    /// Reads them, the latest last, which is right where two say that they have a partition: it was restarted, or changed
    /// hands. A note of another version says nothing.
    pub fn read<'n>(notes: impl IntoIterator<Item = &'n [u8]>) -> Self {
        let notes = notes.into_iter().filter_map(|note| serde_json::from_slice::<Note>(note).ok());
        let each = |Note { name, rest, holds }: Note| {
            let owner = move |held: Held| {
                let waited = (seconds(held.least), held.most.map(seconds));
                let Held { rate, throughput, .. } = held;
                let reading = Reading { throughput, rate, still: seconds(held.still), waited };
                let (name, rest) = (name.clone(), seconds(rest));
                ((held.topic, held.partition), Owner { name, rest, done: held.done, reading, halted: held.halted })
            };
            holds.into_iter().map(owner)
        };
        Self(notes.flat_map(each).collect())
    }

    /// Who has it, and how it does there.
    pub fn of(&self, topic: Topic, partition: u32) -> Option<&Owner> {
        self.0.get(&(topic.name().to_owned(), partition))
    }
}

/// Whatever a note may say.
fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn held(partition: u32, halted: Option<String>) -> Held {
        Held {
            topic: "records".to_owned(),
            partition,
            done: 123_456_789,
            rate: None,
            throughput: Some(0.0),
            still: 0.0,
            least: 0.0,
            most: Some(0.0),
            halted,
        }
    }

    fn note(name: &str, holds: Vec<Held>) -> Vec<u8> {
        serde_json::to_vec(&Note { name: name.to_owned(), rest: 0.3, holds }).expect("json")
    }

    #[test]
    fn what_one_process_writes_another_reads() {
        let reading = Reading { rate: Some(7.5), throughput: None, still: 3 * SECOND, waited: (4 * SECOND, None) };
        let member = Member { name: "host:1".to_owned(), holdings: Holdings::default(), rest: 300 * SECOND };
        let mut note = Note::new(&member, &HashMap::from([((Topic::Records, 3), (7, reading))]));
        assert!(note.holds.is_empty(), "it has none");
        note.holds = vec![Held {
            done: 7,
            rate: Some(7.5),
            throughput: None,
            still: 3.0,
            least: 4.0,
            most: None,
            ..held(3, None)
        }];
        let bytes = serde_json::to_vec(&note).expect("json");
        let owners = Owners::read([&bytes[..], b"", b"{}", b"\xFF"]);
        let expected = Owner { name: "host:1".to_owned(), rest: 300 * SECOND, done: 7, reading, halted: None };
        assert_eq!(owners.of(Topic::Records, 3), Some(&expected));
        assert_eq!((owners.of(Topic::Records, 0), owners.of(Topic::Rejects, 3)), (None, None));
    }

    #[test]
    fn of_two_that_say_they_have_it_the_later_one_has() {
        let halted = note("host:1", vec![held(0, Some("broken".to_owned())), held(1, None)]);
        let anew = note("host:2", vec![held(0, None)]);
        let owner =
            |owners: &Owners, lane| owners.of(Topic::Records, lane).map(|one| (one.name.clone(), one.halted.is_some()));
        let owners = Owners::read([&halted[..], &anew]);
        assert_eq!(owner(&owners, 0), Some(("host:2".to_owned(), false)));
        assert_eq!(owner(&owners, 1), Some(("host:1".to_owned(), false)));
        let owners = Owners::read([&anew[..], &halted]);
        assert_eq!(owner(&owners, 0), Some(("host:1".to_owned(), true)));
    }

    #[test]
    fn a_note_of_thousands_of_idle_lanes_stays_small() {
        let bytes = note("host:1", (0..10_000).map(|lane| held(lane, None)).collect());
        assert!(bytes.len() < 1_000_000, "{} bytes", bytes.len());
    }
}
