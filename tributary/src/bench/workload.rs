//! Synthetic records: a function of the seed and of the place in the run, and of nothing else. Pure, in constant memory.

use std::io::Write;
use tributary_schemas::limits;

/// 2025-01-01T00:00:00Z, the last date: a clock would make runs differ.
const LAST_DATE: i64 = 1_735_689_600;
const DAY: u64 = 86_400;
/// Text that compresses about as well as people's.
const WORDS: [&str; 32] = [
    "the", "lake", "of", "and", "river", "to", "record", "in", "batch", "is", "offset", "that", "for", "commit", "it",
    "meeting", "was", "customer", "on", "invoice", "are", "as", "with", "delivery", "they", "be", "question", "at",
    "contract", "one", "have", "answer",
];

/// What records look like.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Same seed, same records.
    pub seed: u64,
    /// Bytes of a record without its line break.
    pub size: usize,
    /// Share of records that are later versions of earlier ones, 0 to 1.
    pub overwrites: f64,
    /// Dates that `_event_at` is spread over.
    pub dates: u64,
    /// Records of a request.
    pub batch: usize,
    /// Workspaces that take turns.
    pub workspaces: usize,
}

/// A request's body.
#[derive(Debug, PartialEq, Eq)]
pub struct Body {
    /// NDJSON.
    pub lines: Vec<u8>,
    /// Records in it that are no later version of another one.
    pub identities: u64,
}

impl Workload {
    /// Why no such records can be sent, if so.
    pub fn misuse(&self) -> Option<String> {
        let smallest = self.record(0, 0, 0).len();
        if self.size < smallest {
            return Some(format!("--size {}: a record has at least {smallest} bytes", self.size));
        }
        if !(0.0..=1.0).contains(&self.overwrites) {
            return Some(format!("--overwrites {}: a share is from 0 to 1", self.overwrites));
        }
        if self.batch > limits::MAX_BATCH_RECORDS {
            return Some(format!("--batch {}: at most {} records", self.batch, limits::MAX_BATCH_RECORDS));
        }
        let (bytes, most) = (self.size.saturating_add(1).saturating_mul(self.batch), limits::MAX_BODY_BYTES);
        (bytes > most).then(|| {
            let fits = most / self.size.saturating_add(1);
            format!("--batch {} of --size {}: {bytes} bytes are more than the {most} of a request; at most {fits} records fit", self.batch, self.size)
        })
    }

    /// Whose request `n` is.
    pub fn workspace(&self, n: u64) -> usize {
        usize::try_from(n % self.workspaces as u64).unwrap_or(0)
    }

    /// Request `n`.
    pub fn body(&self, n: u64) -> Body {
        let workspace = self.workspace(n);
        let first = n / self.workspaces as u64 * self.batch as u64;
        let mut body = Body { lines: Vec::with_capacity((self.size + 1) * self.batch), identities: 0 };
        for position in first..first + self.batch as u64 {
            body.identities += u64::from(self.overwritten(workspace, position).is_none());
            body.lines.extend_from_slice(&self.record(workspace, position, self.size));
            body.lines.push(b'\n');
        }
        body
    }

    /// The record that `position` is a later version of, somewhere before it.
    fn overwritten(&self, workspace: usize, position: u64) -> Option<u64> {
        if position == 0 || unit(self.draw(workspace, position, 0)) >= self.overwrites {
            return None;
        }
        Some(self.draw(workspace, position, 1) % position)
    }

    /// The first version of it.
    fn origin(&self, workspace: usize, position: u64) -> u64 {
        let mut at = position;
        while let Some(earlier) = self.overwritten(workspace, at) {
            at = earlier;
        }
        at
    }

    /// What is in `data` is of this version, all else of the first one. At least as long as needed, whatever `size`.
    fn record(&self, workspace: usize, position: u64, size: usize) -> Vec<u8> {
        let origin = self.origin(workspace, position);
        let day = self.draw(workspace, origin, 2) % self.dates.max(1) * DAY;
        let second = self.draw(workspace, origin, 3) % DAY;
        let at = LAST_DATE.saturating_sub_unsigned(day).saturating_add_unsigned(second);
        let at = jiff::Timestamp::from_second(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let mut record = Vec::with_capacity(size);
        // Writing to memory does not fail.
        let _ = write!(
            record,
            "{{\"_type\":\"message\",\"_schema_version\":\"1.0.0\",\"_event_at\":\"{at}\",\"_vendor_ids\":{{\"bench\":\
             \"{:016x}-{workspace:06}-{origin:012}\"}},\"_product_id\":\"bench\",\"_project_id\":\"bench\",\
             \"data\":{{\"version\":\"{position:012}\",\"text\":\"",
            self.seed
        );
        let end = b"\"}}";
        let text = size.saturating_sub(record.len() + end.len());
        self.text(&mut record, self.draw(workspace, position, 4), text);
        record.extend_from_slice(end);
        record
    }

    fn text(&self, record: &mut Vec<u8>, mut state: u64, bytes: usize) {
        let end = record.len() + bytes;
        while record.len() < end {
            state = mixed(state);
            // Twelve words of five bits each.
            for word in 0..12 {
                record.extend_from_slice(WORDS[(state >> (word * 5)) as usize % WORDS.len()].as_bytes());
                record.push(b' ');
            }
        }
        record.truncate(end);
    }

    fn draw(&self, workspace: usize, position: u64, what: u64) -> u64 {
        mixed(mixed(mixed(self.seed ^ what.rotate_left(56)) ^ workspace as u64) ^ position)
    }
}

/// SplitMix64: one step of a generator whose every output bit depends on every input bit.
fn mixed(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// In 0..1.
fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashMap};
    use tributary_schemas::{identity::Identity, record};

    fn workload(seed: u64, size: usize, overwrites: f64, dates: u64, workspaces: usize) -> Workload {
        Workload { seed, size, overwrites, dates, batch: 50, workspaces }
    }

    fn lines(workload: &Workload, requests: std::ops::Range<u64>) -> Vec<(usize, String)> {
        let bodies = requests.map(|n| (workload.workspace(n), workload.body(n).lines));
        let all = bodies.flat_map(|(workspace, lines)| {
            let text = String::from_utf8(lines).expect("text");
            text.lines().map(|line| (workspace, line.to_owned())).collect::<Vec<_>>()
        });
        all.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_record_is_valid_of_its_size_and_counted(
            seed: u64, size in 300..3_000usize, overwrites in 0.0..=1.0, dates in 1..5_000u64, workspaces in 1..4usize,
        ) {
            let workload = workload(seed, size, overwrites, dates, workspaces);
            prop_assert_eq!(workload.misuse(), None);
            let (mut seen, mut identities) = (BTreeSet::new(), 0);
            for n in 0..12 {
                let body = workload.body(n);
                identities += body.identities;
                let text = String::from_utf8(body.lines).expect("text");
                prop_assert_eq!(text.lines().count(), 50);
                for line in text.lines() {
                    prop_assert_eq!(line.len(), size);
                    let parsed = record::parse(line.as_bytes());
                    prop_assert!(parsed.is_ok(), "{line}");
                    seen.insert((workload.workspace(n), Identity::of(&parsed.expect("valid"))));
                }
            }
            prop_assert_eq!(seen.len() as u64, identities);
        }

        #[test]
        fn the_same_seed_makes_the_same_records_and_another_seed_none_of_them(seed: u64, n in 0..1_000_000u64) {
            let one = workload(seed, 400, 0.3, 10, 2);
            prop_assert_eq!(one.body(n), one.body(n));
            let other = workload(seed.wrapping_add(1), 400, 0.3, 10, 2);
            let ours: BTreeSet<_> = lines(&one, n..n + 1).into_iter().collect();
            prop_assert!(lines(&other, n..n + 1).iter().all(|line| !ours.contains(line)));
        }

        #[test]
        fn as_many_overwrites_and_dates_as_asked_for(seed: u64, overwrites in 0.0..=1.0, dates in 1..60u64) {
            let workload = workload(seed, 300, overwrites, dates, 1);
            let all = lines(&workload, 0..100);
            let fresh: u64 = (0..100).map(|n| workload.body(n).identities).sum();
            let share = 1.0 - fresh as f64 / all.len() as f64;
            // Five standard deviations of 5,000 draws, at most.
            prop_assert!((share - overwrites).abs() < 0.036, "{share} instead of {overwrites}");
            let seen: BTreeSet<&str> = all.iter().map(|(_, line)| date(line)).collect();
            prop_assert!(seen.len() as u64 <= dates);
            if overwrites < 0.5 {
                prop_assert_eq!(seen.len() as u64, dates);
            }
        }
    }

    fn date(line: &str) -> &str {
        let at = line.find("_event_at").expect("a date") + 12;
        &line[at..at + 10]
    }

    #[test]
    fn a_later_version_has_other_data() {
        let workload = workload(7, 300, 0.5, 5, 2);
        let mut versions: HashMap<_, BTreeSet<String>> = HashMap::new();
        let all = lines(&workload, 0..40);
        for (workspace, line) in &all {
            let identity = Identity::of(&record::parse(line.as_bytes()).expect("valid"));
            let new = versions.entry((*workspace, identity)).or_default().insert(line.clone());
            assert!(new, "the same twice: {line}");
        }
        assert!(versions.len() < all.len() * 2 / 3);
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        let fits = workload(1, 300, 0.0, 1, 1);
        let said = |workload: Workload| workload.misuse().unwrap_or_default();
        assert_eq!(said(fits), "");
        assert!(said(Workload { size: 100, ..fits }).contains("at least"));
        assert!(said(Workload { overwrites: 1.5, ..fits }).contains("from 0 to 1"));
        assert!(said(Workload { overwrites: f64::NAN, ..fits }).contains("from 0 to 1"));
        assert!(said(Workload { batch: 1_001, ..fits }).contains("at most 1000"));
        assert!(said(Workload { size: 6_000, batch: 1_000, ..fits }).contains("873 records fit"));
    }
}
