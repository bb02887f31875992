//! Whose records wait in a lane: all of them counted when they are few, else by samples from all over the queue. Pure.

use std::collections::BTreeMap;

/// Samples of a lane that is not counted, and records of each.
const WINDOWS: usize = 8;
const WINDOW: usize = 250;
/// A name is cut after so many characters: whoever can write to the log can choose any.
const LONGEST_NAME: usize = 64;
/// In place of a name, for frames that name nobody.
const NOBODY: &str = "(unreadable)";

/// What waits in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    pub lane: u32,
    pub done: i64,
    pub high: i64,
}

impl Queue {
    /// How many wait.
    pub fn records(&self) -> u64 {
        u64::try_from(self.high - self.done).unwrap_or(0)
    }

    /// Where the samples begin, in order, and the records of each; all of it when that is no more.
    pub fn windows(&self) -> Vec<(i64, usize)> {
        let waiting = usize::try_from(self.records()).unwrap_or(usize::MAX);
        if waiting <= WINDOWS * WINDOW {
            return vec![(self.done, waiting)];
        }
        let span = (waiting - WINDOW) as i64;
        let start = |n: usize| self.done + span * n as i64 / (WINDOWS as i64 - 1);
        (0..WINDOWS).map(|n| (start(n), WINDOW)).collect()
    }
}

/// What was seen of one workspace in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    records: u64,
    /// When its oldest was appended, milliseconds since the Unix epoch.
    oldest: i64,
}

/// The records of one lane that were looked at.
#[derive(Debug, Default)]
pub struct Tally {
    workspaces: BTreeMap<String, Seen>,
    records: u64,
}

/// What waits of one workspace in one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub workspace: String,
    pub records: u64,
    /// When the oldest of those that were seen was appended, milliseconds since the Unix epoch.
    pub oldest: i64,
    /// Whether every record was counted.
    pub exact: bool,
}

impl Tally {
    /// Counts a record.
    pub fn add(&mut self, workspace: Option<&str>, appended_at: i64) {
        self.records += 1;
        let name = workspace.unwrap_or(NOBODY);
        let cut = name.char_indices().nth(LONGEST_NAME).map_or(name, |(at, _)| &name[..at]);
        match self.workspaces.get_mut(cut) {
            Some(seen) => {
                seen.records += 1;
                seen.oldest = seen.oldest.min(appended_at);
            }
            None => drop(self.workspaces.insert(cut.to_owned(), Seen { records: 1, oldest: appended_at })),
        }
    }

    /// The part of each workspace in `waiting` records, be it those that were counted, more of which they are samples, or
    /// those of a while later; together they are all of them, unless nothing was seen.
    pub fn parts(&self, waiting: u64) -> Vec<Part> {
        let (seen, exact) = (self.records.max(1), self.records == waiting);
        let mut given = 0;
        let mut before = 0;
        let part = |(workspace, one): (&String, &Seen)| {
            // What is rounded away from one is the next one's, so that the sum is right.
            before += one.records;
            let until = u64::try_from(u128::from(waiting) * u128::from(before) / u128::from(seen)).unwrap_or(u64::MAX);
            let records = until - std::mem::replace(&mut given, until);
            Part { workspace: workspace.clone(), records, oldest: one.oldest, exact }
        };
        self.workspaces.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_queue_is_read_whole_and_a_long_one_from_end_to_end() {
        let queue = |done, high| Queue { lane: 0, done, high };
        assert_eq!(queue(5, 2_005).windows(), [(5, 2_000)]);
        let windows = queue(1_000, 101_000).windows();
        assert_eq!((windows.len(), windows[0], windows[7]), (8, (1_000, 250), (100_750, 250)));
        assert!(windows.windows(2).all(|two| two[0].0 + 250 <= two[1].0), "none is counted twice: {windows:?}");
    }

    #[test]
    fn counted_parts_are_exact() {
        let mut tally = Tally::default();
        for n in 0..10 {
            tally.add(Some(if n % 5 == 0 { "small" } else { "large" }), 100 + n);
        }
        let part = |name: &str, records, oldest| Part { workspace: name.to_owned(), records, oldest, exact: true };
        assert_eq!(tally.parts(10), [part("large", 8, 101), part("small", 2, 100)]);
    }

    #[test]
    fn hostile_names_stay_short() {
        let mut tally = Tally::default();
        tally.add(Some(&"ä".repeat(1_000)), 0);
        tally.add(None, 0);
        let parts = tally.parts(2);
        assert_eq!(parts[0].workspace, NOBODY);
        assert_eq!(parts[1].workspace.chars().count(), LONGEST_NAME);
    }

    proptest! {
        #[test]
        fn parts_add_up_and_are_near(counts in proptest::collection::vec(1u64..500, 1..20), times in 1u64..1_000_000) {
            let mut tally = Tally::default();
            for (n, count) in counts.iter().enumerate() {
                (0..*count).for_each(|_| tally.add(Some(&format!("w{n:02}")), 0));
            }
            let seen: u64 = counts.iter().sum();
            let parts = tally.parts(seen * times);
            prop_assert_eq!(parts.iter().map(|part| part.records).sum::<u64>(), seen * times);
            prop_assert!(parts.iter().zip(&counts).all(|(part, count)| part.records.abs_diff(count * times) <= 1));
        }
    }
}
