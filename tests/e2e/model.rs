//! What the table must hold, told without the code under test: a map from identity to the last version's `data`.

use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;

/// Who a record is: type in lower case, sorted vendor ids, seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(String, Vec<(String, String)>, i64);

impl Key {
    /// From its parts; `vendor_ids` is an object.
    pub fn new(kind: &str, vendor_ids: &Value, event_at: i64) -> Self {
        let ids = vendor_ids.as_object().expect("vendor ids").iter();
        let mut ids: Vec<_> = ids.map(|(name, id)| (name.clone(), id.as_str().expect("text").to_owned())).collect();
        ids.sort();
        Self(kind.to_owned(), ids, event_at)
    }
}

/// The last version of every record.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub struct Table(pub BTreeMap<Key, String>);

#[derive(serde::Deserialize)]
struct Seen<'a> {
    _type: String,
    _vendor_ids: Value,
    _event_at: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Table {
    /// Takes in accepted records, one per line.
    pub fn take(&mut self, ndjson: &str) {
        for line in ndjson.lines().filter(|line| !line.trim().is_empty()) {
            let (key, data) = read(line);
            self.0.insert(key, data);
        }
    }

    /// What accepted records make of an empty table.
    pub fn of(ndjson: &str) -> Self {
        let mut table = Self::default();
        table.take(ndjson);
        table
    }

    /// Compares, and says which records differ instead of printing both tables.
    #[track_caller]
    pub fn assert_is(&self, wanted: &Self) {
        let lost: Vec<&Key> = wanted.0.keys().filter(|key| !self.0.contains_key(key)).take(3).collect();
        let extra: Vec<&Key> = self.0.keys().filter(|key| !wanted.0.contains_key(key)).take(3).collect();
        let differ = |(key, data): &(&Key, &String)| self.0.get(key).is_some_and(|found| found != *data);
        let stale: Vec<_> =
            wanted.0.iter().filter(differ).take(3).map(|(key, data)| (key, data, &self.0[key])).collect();
        assert!(
            lost.is_empty() && extra.is_empty() && stale.is_empty(),
            "{} rows, wanted {}; lost: {lost:?}; not wanted: {extra:?}; stale (wanted, found): {stale:?}",
            self.0.len(),
            wanted.0.len(),
        );
    }
}

/// A record's identity and its `data`, byte for byte.
pub fn read(line: &str) -> (Key, String) {
    let seen: Seen<'_> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    let at: jiff::Timestamp = seen._event_at.parse().expect("a time");
    let second = at.as_millisecond().div_euclid(1_000) + i64::from(at.as_millisecond().rem_euclid(1_000) >= 500);
    (Key::new(&seen._type.to_lowercase(), &seen._vendor_ids, second), seen.data.get().to_owned())
}

/// The 400 turns of podcasts in `tests/data`.
pub const MESSAGES: &str = include_str!("../data/changelog-messages.ndjson");
/// Eight whole transcripts.
pub const TRANSCRIPTS: &str = include_str!("../data/changelog-transcripts.ndjson");
/// Twelve days of meetings.
pub const NOTES: &str = include_str!("../data/tc39-meeting-notes.ndjson");

/// A small record; `id` and `second` say who it is.
pub fn record(id: &str, second: i64, data: &str) -> String {
    let at = jiff::Timestamp::from_second(second).expect("a time");
    format!(
        r#"{{"_type":"message","_schema_version":"1.0.0","_event_at":"{at}","_vendor_ids":{{"id":"{id}"}},"_product_id":"p","_project_id":"q","data":{data}}}"#
    )
}

/// The same record with other `data`.
pub fn with_data(line: &str, data: &str) -> String {
    let (_, old) = read(line);
    let at = line.rfind(&old).expect("its data");
    format!("{}{data}{}", &line[..at], &line[at + old.len()..])
}
