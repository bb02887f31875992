//! What a process with lanes tells all others: which partitions it has, how they do, and whose records it has done.
//!
//! It tells how long something has taken and never when it was, so that no two clocks are compared.

use super::{landing::Landing, pace::Reading};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};
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
    /// Whose records it has done lately in these lanes. Missing while it does not know it; other versions never do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    landing: Option<Landing>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waits: Option<String>,
}

/// As serde asks.
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl Note {
    /// Of what a process has, by what it has seen of it: how far it is, and what that means; and of what it has done there.
    pub fn new(member: &Member, readings: &HashMap<(Topic, u32), (i64, Reading)>, landing: Option<Landing>) -> Self {
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
                halted: holding.halted.map(|why| shortened(&why)),
                waits: holding.waits.map(|why| shortened(&why)),
            }
        };
        let holds = member.holdings.now().into_iter().map(held).collect();
        Self { name: member.name.clone(), rest: member.rest.as_secs_f64(), holds, landing }
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
    /// What it tries again until it works.
    pub waits: Option<String>,
}

/// What the notes of all processes say of each partition.
#[derive(Debug, Default)]
pub struct Owners {
    places: HashMap<(String, u32), Owner>,
    landing: Option<Landing>,
}

impl Owners {
    /// Reads them, the latest last, which is right where two say that they have a partition: it was restarted, or changed
    /// hands. A note of another version says nothing.
    pub fn read<'n>(notes: impl IntoIterator<Item = &'n [u8]>) -> Self {
        let notes: Vec<_> = notes.into_iter().filter_map(|note| serde_json::from_slice::<Note>(note).ok()).collect();
        let landing = landing(&notes);
        let each = |Note { name, rest, holds, .. }: Note| {
            let owner = move |held: Held| {
                let waited = (seconds(held.least), held.most.map(seconds));
                let Held { rate, throughput, .. } = held;
                let reading = Reading { throughput, rate, still: seconds(held.still), waited };
                let (name, rest) = (name.clone(), seconds(rest));
                (
                    (held.topic, held.partition),
                    Owner { name, rest, done: held.done, reading, halted: held.halted, waits: held.waits },
                )
            };
            holds.into_iter().map(owner)
        };
        Self { places: notes.into_iter().flat_map(each).collect(), landing }
    }

    /// Who has it, and how it does there.
    pub fn of(&self, topic: Topic, partition: u32) -> Option<&Owner> {
        self.places.get(&(topic.name().to_owned(), partition))
    }

    /// Whose records the owners of all lanes have done lately; `None` without any, and when one of them does not say.
    pub fn landing(&self) -> Option<&Landing> {
        self.landing.as_ref()
    }
}

/// Of those that have a lane: one all of whose lanes are others' by now is gone, and these count what it would count.
fn landing(notes: &[Note]) -> Option<Landing> {
    let mut owners = HashMap::new();
    for (n, note) in notes.iter().enumerate() {
        let lanes = note.holds.iter().filter(|held| held.topic == Topic::Records.name());
        owners.extend(lanes.map(|held| (held.partition, n)));
    }
    let owners: BTreeSet<_> = owners.into_values().collect();
    let told = owners.into_iter().map(|n| notes.get(n)?.landing.as_ref()).collect::<Option<Vec<_>>>();
    Landing::sum(told?)
}

/// As much of it as a note has room for.
fn shortened(why: &str) -> String {
    why.chars().take(LONGEST_REASON).collect()
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
            waits: None,
        }
    }

    fn note(name: &str, holds: Vec<Held>) -> Vec<u8> {
        serde_json::to_vec(&Note { name: name.to_owned(), rest: 0.3, holds, landing: None }).expect("json")
    }

    #[test]
    fn what_one_process_writes_another_reads() {
        let reading = Reading { rate: Some(7.5), throughput: None, still: 3 * SECOND, waited: (4 * SECOND, None) };
        let member = Member { name: "host:1".to_owned(), holdings: Holdings::default(), rest: 300 * SECOND };
        let mut note = Note::new(&member, &HashMap::from([((Topic::Records, 3), (7, reading))]), None);
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
        let expected =
            Owner { name: "host:1".to_owned(), rest: 300 * SECOND, done: 7, reading, halted: None, waits: None };
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

    /// Who has which lanes, and how much it has landed of `acme`.
    fn lands(name: &str, lanes: &[u32], rate: Option<f64>) -> Vec<u8> {
        let landing = rate.map(|rate| serde_json::json!({ "named": { "acme": rate }, "others": 0.5 }));
        let landing = landing.map(|landing| serde_json::from_value(landing).expect("a landing"));
        let holds = lanes.iter().map(|lane| held(*lane, None)).collect();
        serde_json::to_vec(&Note { name: name.to_owned(), rest: 0.3, holds, landing }).expect("json")
    }

    #[test]
    fn what_lands_is_what_all_owners_of_lanes_say() {
        let read = |notes: &[Vec<u8>]| Owners::read(notes.iter().map(|note| &note[..])).landing().cloned();
        let json = |landing: Option<Landing>| serde_json::to_value(landing).expect("json");
        let said = |acme: f64, others: f64| serde_json::json!({ "named": { "acme": acme }, "others": others });
        let (one, two) = (lands("host:1", &[0, 1], Some(8.0)), lands("host:2", &[2], Some(2.0)));
        assert_eq!(json(read(&[one.clone(), two.clone()])), said(10.0, 1.0));
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[lands("host:1", &[], Some(8.0))]), None, "nobody has a lane");
        // Of another version, or just started.
        assert_eq!(read(&[one.clone(), lands("host:2", &[2], None)]), None);
        assert_eq!(json(read(&[one.clone(), lands("host:2", &[], None)])), said(8.0, 0.5), "it has none");
        // Restarted: what is left of the old one's note is not counted beside the new one's.
        let anew = lands("host:3", &[0, 1], Some(7.0));
        assert_eq!(json(read(&[one.clone(), anew.clone()])), said(7.0, 0.5));
        assert_eq!(json(read(&[lands("host:1", &[0, 1, 3], Some(8.0)), anew])), said(15.0, 1.0), "it has one still");
    }

    #[test]
    fn notes_of_versions_that_do_not_count_can_be_read() {
        let owners = Owners::read([&br#"{"name":"host:1","holds":[{"topic":"records","partition":1}]}"#[..]]);
        assert_eq!(owners.of(Topic::Records, 1).map(|one| one.name.as_str()), Some("host:1"));
        assert_eq!(owners.landing(), None);
    }

    #[test]
    fn a_note_of_thousands_of_idle_lanes_stays_small() {
        let bytes = note("host:1", (0..10_000).map(|lane| held(lane, None)).collect());
        assert!(bytes.len() < 1_000_000, "{} bytes", bytes.len());
    }
}
