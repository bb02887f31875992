//! How many records of each workspace are done per second, as the owners of the lanes have counted them. Pure.

use super::{pace::per_second, report::WorkspaceLag};
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::BTreeMap};
use tributary_backends::lately::Lately;

/// Workspaces that a process tells apart: a note is read every two seconds by all of them.
const NAMED: usize = 64;

/// Records per second, lately.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Landing {
    /// Of the workspaces with the most.
    named: BTreeMap<String, f64>,
    /// Of all others together.
    others: f64,
}

impl Landing {
    /// Of what a process has done lately in each of its lanes. `None` while it has none, or has had none for long enough.
    pub fn of(lanes: impl IntoIterator<Item = Lately>) -> Option<Self> {
        let mut all: Option<Self> = None;
        for Lately { over, named, others } in lanes {
            let rate = |records: u64| per_second(i64::try_from(records).unwrap_or(i64::MAX), over);
            let Some(others) = rate(others) else { continue };
            let named = named.into_iter().filter_map(|(name, records)| Some((name, rate(records)?))).collect();
            all.get_or_insert_default().also(&Self { named, others });
        }
        all.map(Self::cut)
    }

    /// Of all these together; `None` of none.
    pub fn sum<'l>(each: impl IntoIterator<Item = &'l Self>) -> Option<Self> {
        let mut all: Option<Self> = None;
        each.into_iter().for_each(|one| all.get_or_insert_default().also(one));
        all
    }

    fn also(&mut self, other: &Self) {
        for (name, rate) in &other.named {
            *self.named.entry(name.clone()).or_default() += sane(*rate);
        }
        self.others += sane(other.others);
    }

    /// Only so many by name.
    fn cut(mut self) -> Self {
        if self.named.len() > NAMED {
            let mut all: Vec<_> = std::mem::take(&mut self.named).into_iter().collect();
            all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            self.others += all.drain(NAMED..).map(|(_, rate)| rate).sum::<f64>();
            self.named = all.into_iter().collect();
        }
        self
    }

    /// Says it of those that wait, and adds those of which nothing does. Of one that is not told apart it is not known, unless
    /// all are; what it has done is the others'.
    pub fn tell(mut self, workspaces: &mut Vec<WorkspaceLag>, others: &mut WorkspaceLag) {
        let least = (self.others <= 0.0).then_some(0.0);
        for one in &mut *workspaces {
            one.throughput = self.named.remove(&one.workspace).or(least);
        }
        let idle = |(workspace, rate): (String, f64)| WorkspaceLag {
            throughput: Some(rate),
            ..WorkspaceLag::none(&workspace)
        };
        workspaces.extend(self.named.into_iter().map(idle));
        others.throughput = Some(self.others);
        // Those with the most, and of those of which nothing waits those that land the most.
        workspaces.sort_by(|a, b| {
            let rate = |one: &WorkspaceLag| one.throughput.unwrap_or_default();
            let most = Reverse(a.records).cmp(&Reverse(b.records)).then_with(|| rate(b).total_cmp(&rate(a)));
            most.then_with(|| a.workspace.cmp(&b.workspace))
        });
    }
}

/// Whatever a note may say.
fn sane(rate: f64) -> f64 {
    if rate.is_finite() { rate.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn lately(seconds: u64, named: &[(&str, u64)], others: u64) -> Lately {
        let named = named.iter().map(|(name, records)| ((*name).to_owned(), *records)).collect();
        Lately { over: Duration::from_secs(seconds), named, others }
    }

    fn landing(named: &[(&str, f64)], others: f64) -> Landing {
        Landing { named: named.iter().map(|(name, rate)| ((*name).to_owned(), *rate)).collect(), others }
    }

    fn waits(workspace: &str, records: u64) -> WorkspaceLag {
        WorkspaceLag { records, ..WorkspaceLag::none(workspace) }
    }

    #[test]
    fn each_lane_is_measured_for_as_long_as_it_was_had() {
        // The second lane has come from another process ten seconds ago.
        let all = Landing::of([lately(60, &[("a", 600), ("b", 60)], 30), lately(10, &[("a", 100)], 0)]);
        assert_eq!(all, Some(landing(&[("a", 20.0), ("b", 1.0)], 0.5)));
    }

    #[test]
    fn nothing_is_claimed_of_lanes_that_were_just_taken() {
        assert_eq!(Landing::of([]), None);
        assert_eq!(Landing::of([Lately { over: Duration::from_millis(499), ..lately(0, &[("a", 600)], 1) }]), None);
        let other = lately(1, &[], 0);
        assert_eq!(Landing::of([lately(0, &[("a", 600)], 1), other]), Some(landing(&[], 0.0)));
    }

    #[test]
    fn of_many_those_with_the_most_are_named_and_nothing_is_lost() {
        let names: Vec<_> = (0..1_000u64).map(|n| (format!("w{n:03}"), n)).collect();
        let lanes =
            names.chunks(100).map(|some| Lately { over: Duration::from_secs(1), named: some.to_vec(), others: 1 });
        let all = Landing::of(lanes).expect("they are known");
        assert_eq!((all.named.len(), all.named.get("w999"), all.named.get("w936")), (64, Some(&999.0), Some(&936.0)));
        assert_eq!(all.others, (0..936).sum::<u64>() as f64 + 10.0);
        let text = serde_json::to_vec(&all).expect("json");
        assert!(text.len() < 64 * 100, "{} bytes", text.len());
        assert_eq!(serde_json::from_slice::<Landing>(&text).expect("json"), all);
    }

    #[test]
    fn those_that_wait_come_first_and_then_those_that_land() {
        let (mut all, mut others) = (vec![waits("idle", 9), waits("busy", 5)], waits(WorkspaceLag::OTHERS, 7));
        let sum = Landing::sum([
            &landing(&[("busy", 2.0), ("slow", 1.0)], 0.0),
            &landing(&[("busy", 1.5), ("quick", 50.0)], 0.0),
        ]);
        sum.expect("of two").tell(&mut all, &mut others);
        let told: Vec<_> = all.iter().map(|one| (one.workspace.as_str(), one.records, one.throughput)).collect();
        let expected =
            [("idle", 9, Some(0.0)), ("busy", 5, Some(3.5)), ("quick", 0, Some(50.0)), ("slow", 0, Some(1.0))];
        assert_eq!(told, expected);
        assert_eq!((others.records, others.throughput), (7, Some(0.0)));
    }

    #[test]
    fn of_one_that_may_be_among_the_others_it_is_not_known() {
        let (mut all, mut others) = (vec![waits("small", 9), waits("large", 5)], waits(WorkspaceLag::OTHERS, 7));
        landing(&[("large", 2.0)], 8.0).tell(&mut all, &mut others);
        assert_eq!((all[0].throughput, all[1].throughput, others.throughput), (None, Some(2.0), Some(8.0)));
    }

    #[test]
    fn a_note_that_makes_no_sense_makes_nothing_negative() {
        let sum =
            Landing::sum([&landing(&[("a", -5.0), ("b", f64::INFINITY)], f64::NAN), &landing(&[("a", 1.0)], 2.0)]);
        assert_eq!(sum, Some(landing(&[("a", 1.0), ("b", 0.0)], 2.0)));
    }

    proptest! {
        /// However lanes are divided among processes, together they tell what was done.
        #[test]
        fn the_sum_over_owners_is_what_was_done(
            lanes in proptest::collection::vec(proptest::collection::btree_map(0usize..200, 1u64..1_000, 0..120), 1..6),
        ) {
            let done: u64 = lanes.iter().flatten().map(|(_, records)| records).sum();
            let of = |lane: &BTreeMap<usize, u64>| {
                let named = lane.iter().map(|(name, records)| (format!("w{name}"), *records)).collect();
                Landing::of([Lately { over: Duration::from_secs(10), named, others: 0 }]).expect("known")
            };
            let notes: Vec<_> = lanes.iter().map(of).collect();
            let (mut all, mut others) = (Vec::new(), WorkspaceLag::none(WorkspaceLag::OTHERS));
            Landing::sum(&notes).expect("some").tell(&mut all, &mut others);
            let told: f64 = all.iter().chain([&others]).filter_map(|one| one.throughput).sum();
            prop_assert!((told * 10.0 - done as f64).abs() < 0.01, "{} of {}", told * 10.0, done);
            prop_assert!(all.iter().chain([&others]).all(|one| one.throughput >= Some(0.0)));
            prop_assert!(all.len() <= NAMED * notes.len());
        }
    }
}
