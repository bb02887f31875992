//! A model pipeline: what was appended when, what was taken through the lanes, what was said of it in either of two
//! partitions, and stored.

use super::*;
use proptest::{collection::vec, prelude::*};

const SECOND: i64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(600);

fn progress(pairs: &[(i64, i64)]) -> Vec<Progress> {
    pairs.iter().map(|(done, high)| Progress { done: *done, high: *high }).collect()
}

fn look(at: i64, lanes: &[(i64, i64)], events: (i64, i64)) -> Look {
    Look { at: at * SECOND, lanes: progress(lanes), events: progress(&[events]) }
}

fn until(settled: Option<Settled>) -> Option<i64> {
    settled.map(|settled| settled.until / SECOND)
}

#[test]
fn a_pipeline_without_work_is_settled_at_once() {
    let mut passage = Passage::new(PATIENCE);
    let settled = passage.observe(look(100, &[(7, 7), (0, 0)], (3, 3)));
    assert_eq!(settled, Some(Settled { until: 100 * SECOND, but_for_some: false }));
}

#[test]
fn what_waits_behind_a_pipeline_that_was_away_is_not_settled() {
    let mut passage = Passage::new(PATIENCE);
    assert_eq!(passage.observe(look(0, &[(0, 1_000)], (0, 0))), None);
    assert_eq!(passage.observe(look(15, &[(500, 2_000)], (5, 5))), None);
    // The end of the first look is passed, but what was said of it is not stored.
    assert_eq!(passage.observe(look(30, &[(1_000, 3_000)], (5, 10))), None);
    assert_eq!(until(passage.observe(look(45, &[(1_900, 3_000)], (10, 19)))), Some(0));
    assert_eq!(until(passage.observe(look(60, &[(3_000, 3_000)], (30, 30)))), Some(60));
}

#[test]
fn a_lane_that_stands_is_waited_for_and_then_not() {
    let mut passage = Passage::new(PATIENCE);
    for at in (0..600).step_by(15) {
        assert_eq!(passage.observe(look(at, &[(5, 6), (at, at)], (0, 0))), None, "at {at}");
    }
    let settled = passage.observe(look(600, &[(5, 6), (600, 600)], (0, 0)));
    assert_eq!(settled, Some(Settled { until: 600 * SECOND, but_for_some: true }));
    // It moves again: what came since is waited for anew.
    let again = passage.observe(look(615, &[(6, 9), (600, 600)], (0, 0)));
    assert_eq!(again, Some(Settled { until: 600 * SECOND, but_for_some: false }));
    assert_eq!(until(passage.observe(look(630, &[(8, 9), (600, 600)], (0, 0)))), Some(600));
    assert_eq!(until(passage.observe(look(645, &[(9, 9), (600, 600)], (0, 0)))), Some(645));
}

#[test]
fn looks_do_not_pile_up() {
    let mut passage = Passage::new(Duration::MAX);
    for at in 0..10_000 {
        passage.observe(look(at, &[(0, 1)], (0, 0)));
        assert!(passage.looks.len() <= LOOKS);
    }
    assert_eq!(until(passage.observe(look(10_000, &[(1, 1)], (0, 0)))), Some(10_000));
}

#[test]
fn a_partition_of_the_facts_that_is_behind_is_waited_for() {
    let mut passage = Passage::new(PATIENCE);
    let look = |at: i64, events: [(i64, i64); 2]| Look {
        at: at * SECOND,
        lanes: progress(&[(9, 9)]),
        events: progress(&events),
    };
    assert_eq!(passage.observe(look(0, [(5, 5), (3, 4)])), None);
    assert_eq!(passage.observe(look(15, [(7, 7), (3, 4)])), None);
    assert_eq!(until(passage.observe(look(30, [(7, 8), (4, 5)]))), Some(15));
}

proptest! {
    /// However it goes, what is said to be settled is: appended by then, taken through, said, stored.
    #[test]
    fn settled_is_settled(
        steps in vec(([0i64..20, 0i64..20], [0i64..20, 0i64..20], [0i64..40, 0i64..40], any::<u32>()), 1..80),
    ) {
        let mut passage = Passage::new(Duration::MAX);
        let (mut high, mut done) = ([0i64; 2], [0i64; 2]);
        // Of each record in a lane: when it was appended; and of each fact in a partition: the lane.
        let mut appended: [Vec<i64>; 2] = Default::default();
        let mut said: [Vec<usize>; 2] = Default::default();
        let mut stored = [0usize; 2];
        let mut before = i64::MIN;
        for (now, (came, worked, kept, hashes)) in (0i64..).zip(steps) {
            for lane in 0..2 {
                high[lane] += came[lane];
                appended[lane].resize(high[lane] as usize, now);
                let from = done[lane];
                done[lane] = high[lane].min(from + worked[lane]);
                for record in from..done[lane] {
                    said[(hashes >> (record % 32) & 1) as usize].push(lane);
                }
            }
            for n in 0..2 {
                stored[n] = said[n].len().min(stored[n] + kept[n] as usize);
            }
            let lanes: Vec<_> = done.into_iter().zip(high).collect();
            let events: Vec<_> = (0..2).map(|n| (stored[n] as i64, said[n].len() as i64)).collect();
            let look = Look { at: now * SECOND, lanes: progress(&lanes), events: progress(&events) };
            if let Some(until) = until(passage.observe(look)) {
                prop_assert!(until >= before, "it never goes back");
                before = until;
                for (lane, times) in appended.iter().enumerate() {
                    let settled = times.partition_point(|at| *at <= until);
                    let known = (0..2).flat_map(|n| &said[n][..stored[n]]).filter(|of| **of == lane).count();
                    prop_assert!(known >= settled, "{known} of {settled} in lane {lane} by {until}");
                }
            }
        }
    }
}
