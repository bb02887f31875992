//! How many records of each workspace something was done with lately. Pure.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

/// What was done lately was done in so long, or in the rest between two commits where that is longer.
pub const LATELY: Duration = Duration::from_secs(60);
/// The window moves on by such a part of itself, and is longer by one of them at most.
const PARTS: usize = 12;
/// Workspaces that are told apart. Of more the half with the least is counted together, so that none with much is
/// ever among these, whoever chose how many there are.
const NAMES: usize = 128;

/// Records of one workspace by the part in which they were done: that of number n is at n modulo the length.
type Counts = [u64; PARTS + 1];

/// Workspaces that a metric shows by name, however many there are.
pub const SHOWN: usize = 32;
/// The name under which those that are not told apart stand.
pub const OTHERS: &str = "(others)";

/// The records that it was done with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lately {
    /// In so long: less than [`LATELY`] as long as nobody has counted for longer.
    pub over: Duration,
    /// Of each workspace that is told apart, in no order.
    pub named: Vec<(String, u64)>,
    /// Of all others together.
    pub others: u64,
}

impl Lately {
    /// Those with the most, the most first, then [`OTHERS`] with the rest, if there is any; and in how long.
    pub fn most(self, names: usize) -> (Vec<(String, u64)>, Duration) {
        let Self { over, mut named, mut others } = self;
        named.sort_by(|(a, more), (b, less)| less.cmp(more).then_with(|| a.cmp(b)));
        others += named.drain(names.min(named.len())..).map(|(_, records)| records).sum::<u64>();
        if others > 0 {
            named.push((OTHERS.to_owned(), others));
        }
        (named, over)
    }
}

/// What was done since somebody began to count, of which what is old is forgotten. Times are since then.
#[derive(Debug)]
pub struct Window {
    part: Duration,
    /// Number of the part that is going on.
    newest: u32,
    names: HashMap<String, Counts>,
    others: Counts,
}

impl Window {
    /// Of somebody who rests so long in between.
    pub fn new(rest: Duration) -> Self {
        let part = LATELY.max(rest) / PARTS as u32;
        Self { part, newest: 0, names: HashMap::new(), others: Counts::default() }
    }

    /// Counts records of a workspace; `None`: of one that is not known.
    pub fn add(&mut self, at: Duration, workspace: Option<&str>, records: u64) {
        self.go_on(at);
        if records == 0 {
            return;
        }
        let here = place(self.newest);
        let Some(workspace) = workspace else {
            self.others[here] += records;
            return;
        };
        if let Some(counts) = self.names.get_mut(workspace) {
            counts[here] += records;
            return;
        }
        if self.names.len() >= NAMES {
            self.put_together();
        }
        let mut counts = Counts::default();
        counts[here] = records;
        self.names.insert(workspace.to_owned(), counts);
    }

    /// What was done until now.
    pub fn lately(&mut self, at: Duration) -> Lately {
        self.go_on(at);
        let begins = self.part * self.newest.saturating_sub(PARTS as u32);
        let named = self.names.iter().map(|(name, counts)| (name.clone(), sum(counts))).collect();
        Lately { over: at.saturating_sub(begins), named, others: sum(&self.others) }
    }

    /// Forgets what is too old by now.
    fn go_on(&mut self, now: Duration) {
        let now = u32::try_from(now.as_nanos() / self.part.as_nanos().max(1)).unwrap_or(u32::MAX);
        if now <= self.newest {
            return;
        }
        for part in (self.newest + 1..=now).take(PARTS + 1) {
            let old = place(part);
            self.others[old] = 0;
            self.names.values_mut().for_each(|counts| counts[old] = 0);
        }
        self.names.retain(|_, counts| sum(counts) > 0);
        self.newest = now;
    }

    /// By what came in this part and the one before: whoever comes anew has no more yet, however much it is.
    fn put_together(&mut self) {
        let (this, before) = (place(self.newest), place(self.newest + PARTS as u32));
        let mut all: Vec<_> = self.names.drain().collect();
        all.sort_by_cached_key(|(name, counts)| (Reverse(counts[this] + counts[before]), name.clone()));
        for (_, counts) in all.drain(NAMES / 2..) {
            self.others.iter_mut().zip(counts).for_each(|(others, count)| *others += count);
        }
        self.names.extend(all);
    }
}

fn place(part: u32) -> usize {
    part as usize % (PARTS + 1)
}

fn sum(counts: &Counts) -> u64 {
    counts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const SECOND: Duration = Duration::from_secs(1);

    fn sorted(mut lately: Lately) -> Lately {
        lately.named.sort();
        lately
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut window = Window::new(Duration::ZERO);
        window.add(SECOND, Some("a"), 10);
        window.add(9 * SECOND, Some("b"), 5);
        window.add(9 * SECOND, None, 2);
        let both = vec![("a".to_owned(), 10), ("b".to_owned(), 5)];
        let first = Lately { over: 10 * SECOND, named: both.clone(), others: 2 };
        assert_eq!(sorted(window.lately(10 * SECOND)), first);
        assert_eq!(sorted(window.lately(64 * SECOND)), Lately { over: 64 * SECOND, ..first });
        // The part in which `a` came is over.
        let second = Lately { over: 61 * SECOND, named: both[1..].to_vec(), others: 2 };
        assert_eq!(window.lately(66 * SECOND), second);
        let nothing = Lately { over: 60 * SECOND, ..Lately::default() };
        assert_eq!(window.lately(70 * SECOND), nothing);
        window.add(71 * SECOND, Some("a"), 1);
        let much_later = window.lately(1_000_000 * SECOND);
        assert_eq!(much_later, nothing);
    }

    #[test]
    fn a_lane_that_rests_for_long_is_looked_at_for_as_long() {
        let mut window = Window::new(300 * SECOND);
        window.add(SECOND, Some("a"), 3_000);
        assert_eq!(
            window.lately(299 * SECOND),
            Lately { over: 299 * SECOND, named: vec![("a".to_owned(), 3_000)], others: 0 }
        );
    }

    #[test]
    fn however_many_there_are_those_with_the_most_are_told_apart() {
        let mut window = Window::new(Duration::ZERO);
        for n in 0..10_000u64 {
            window.add(SECOND, Some(&format!("small-{n}")), 1);
            window.add(SECOND, Some(if n % 2 == 0 { "large" } else { "larger" }), 1 + n % 2);
            assert!(window.names.len() <= NAMES);
        }
        let lately = window.lately(SECOND);
        let of = |name: &str| lately.named.iter().find(|(known, _)| known == name).map(|(_, records)| *records);
        assert_eq!((of("large"), of("larger")), (Some(5_000), Some(10_000)));
        assert_eq!(lately.named.iter().map(|(_, records)| records).sum::<u64>() + lately.others, 25_000);
    }

    /// A thousand are there for longer than the window, and then one that does a hundred times as much.
    #[test]
    fn who_comes_late_with_much_is_told_apart() {
        let mut window = Window::new(Duration::ZERO);
        for second in 0..100 {
            for n in 0..1_000u64 {
                window.add(second * SECOND, Some(&format!("small-{n}")), 10);
            }
            if second >= 70 {
                window.add(second * SECOND, Some("large"), 1_000);
            }
        }
        let lately = window.lately(99 * SECOND);
        let large = lately.named.iter().find(|(name, _)| name == "large");
        assert_eq!(large.map(|(_, records)| *records), Some(30_000));
    }

    proptest! {
        /// Whatever is added when, all of what is not too old is there, and of a name never more than there was.
        #[test]
        fn nothing_is_lost_and_nothing_made_up(
            rest in 0u64..200,
            steps in proptest::collection::vec((0u64..30_000, 0usize..300, 0u64..1_000), 1..400),
        ) {
            let rest = Duration::from_secs(rest);
            let mut window = Window::new(rest);
            let (span, part) = (LATELY.max(rest), LATELY.max(rest) / PARTS as u32);
            let (mut now, mut all) = (Duration::ZERO, Vec::new());
            for (millis, name, records) in steps {
                now += Duration::from_millis(millis);
                let name = (name < 290).then(|| format!("w{name}"));
                window.add(now, name.as_deref(), records);
                all.push((now, name, records));
                let lately = window.lately(now);
                prop_assert!(lately.over <= span + part && lately.over >= now.min(part * PARTS as u32), "{:?}", lately);
                prop_assert!(lately.named.len() <= NAMES);
                let begins = now - lately.over;
                let mut left = BTreeMap::new();
                all.iter().filter(|(at, ..)| *at >= begins).for_each(|(_, name, records)| {
                    *left.entry(name.clone()).or_insert(0) += records;
                });
                let told: u64 = lately.named.iter().map(|(_, records)| records).sum();
                prop_assert_eq!(told + lately.others, left.values().sum::<u64>());
                let seen: BTreeSet<_> = all.iter().filter_map(|(_, name, _)| name.as_ref()).collect();
                for (name, records) in &lately.named {
                    let really = left.get(&Some(name.clone())).copied().unwrap_or(0);
                    prop_assert!(*records > 0 && *records <= really, "{}: {} of {}", name, records, really);
                    prop_assert!(seen.len() > NAMES || *records == really);
                }
            }
        }
    }
}
