//! A lane in a model world: so many records come in each tick, so many are worked off, and commits come in steps.

use super::*;
use proptest::{collection::vec, prelude::*};

const LIMIT: Duration = Duration::from_secs(120);
const TICK: u64 = 2;

struct World {
    lane: LaneLag,
    now: u64,
    /// Records per second that the lane can do.
    capacity: i64,
    /// A commit every so many ticks.
    commit_every: u64,
    high: i64,
    worked_off: i64,
    done: i64,
    last: Standing,
}

impl World {
    fn new(capacity: i64, commit_every: u64) -> Self {
        let mut lane = LaneLag::new(LIMIT);
        let last = lane.observe(Look { at: Duration::ZERO, done: 0, high: 0 });
        Self { lane, now: 0, capacity, commit_every, high: 0, worked_off: 0, done: 0, last }
    }

    /// One tick in which `came` records per second come in.
    fn tick(&mut self, came: i64) -> Standing {
        self.now += TICK;
        self.high += came * TICK as i64;
        self.worked_off = self.high.min(self.worked_off + self.capacity * TICK as i64);
        if (self.now / TICK).is_multiple_of(self.commit_every) {
            self.done = self.worked_off;
        }
        self.last = self.lane.observe(Look { at: Duration::from_secs(self.now), done: self.done, high: self.high });
        self.last
    }

    /// The same at a door that is shut while the lane refuses.
    fn tick_at_the_door(&mut self, came: i64) -> Standing {
        self.tick(if self.last.refused.is_some() { 0 } else { came })
    }

    /// Seconds of work that wait.
    fn backlog(&self) -> f64 {
        (self.high - self.done) as f64 / self.capacity as f64
    }
}

/// A lane that is fed little and then much at once is not taken for one that is slow.
#[test]
fn a_burst_after_quiet_times_is_let_in() {
    let mut world = World::new(10_000, 1);
    for _ in 0..100 {
        assert_eq!(world.tick(10).refused, None);
    }
    let first = world.tick(200_000);
    assert_eq!((first.refused, first.rate), (None, None));
    while world.high > world.done {
        let standing = world.tick(10);
        assert_eq!(standing.refused, None, "{standing:?} at {}", world.now);
    }
}

#[test]
fn a_lane_that_stands_still_refuses_when_the_limit_is_over() {
    let mut world = World::new(0, 1);
    let refused_at = loop {
        if let Some(wait) = world.tick(5).refused {
            assert_eq!(wait, LONGEST_WAIT);
            break world.now;
        }
    };
    let limit = LIMIT.as_secs();
    assert!((limit..=limit + 3 * TICK).contains(&refused_at), "{refused_at}");
    // For a day: what is kept stays small, and how long it stands is still known.
    for _ in 0..43_200 {
        world.tick(0);
    }
    assert!(world.lane.looks.len() <= LOOKS && world.last.behind > Duration::from_secs(86_000), "{:?}", world.last);
    world.capacity = 1_000;
    world.tick(0);
    assert_eq!(world.last.refused, None, "all of it is done: {:?}", world.last);
}

/// The first chunk after it was shut makes the oldest record a little younger than what is overdue; the lane is as far
/// behind as before.
#[test]
fn a_door_that_was_shut_stays_so_until_the_lane_is_down_to_the_mark() {
    for (percent, commit_every) in (150..=400).step_by(5).flat_map(|percent| [(percent, 1), (percent, 2), (percent, 3)])
    {
        let mut world = World::new(1_000, commit_every);
        while world.tick(10 * percent).crowded.is_none() {}
        while world.last.crowded.is_some() {
            world.tick(0);
        }
        let mark = LIMIT.as_secs_f64() / 8.0 + (3 * TICK) as f64;
        assert!(world.backlog() <= mark, "{percent} %, {commit_every}: it opens {} s behind", world.backlog());
    }
}

/// This process starts in front of a backlog: nothing is known of the past.
#[test]
fn a_start_in_front_of_a_backlog() {
    let mut world = World::new(100, 1);
    world.high = 100 * 1_000;
    world.lane = LaneLag::new(LIMIT);
    let mut ticks = 0;
    while world.tick(0).refused.is_none() {
        ticks += 1;
        assert_eq!(world.last.rate, None);
    }
    assert!(ticks * TICK <= LIMIT.as_secs() / 8 + TICK, "known after {ticks} ticks");
    let rate = world.last.rate.expect("known");
    assert!((90.0..=110.0).contains(&rate), "{rate}");
}

#[test]
fn a_log_made_anew_and_a_group_set_back_start_from_nothing() {
    let mut world = World::new(0, 1);
    while world.tick(5).refused.is_none() {}
    let at = Duration::from_secs(world.now + 1);
    let anew = world.lane.observe(Look { at, done: 0, high: 3 });
    assert_eq!((anew.behind, anew.crowded, anew.refused), (Duration::ZERO, None, None));
}

#[test]
fn waits_are_whole_seconds_within_bounds() {
    for (behind, expected) in [(121, 60), (90, 30), (61, 1), (60, 1), (100_000, 60)] {
        assert_eq!(wait(Duration::from_secs(behind), LIMIT / 2).as_secs(), expected);
    }
    assert_eq!(wait(Duration::from_millis(70_100), LIMIT / 2).as_secs(), 11);
}

proptest! {
    /// As long as everything lands within a third of the limit, nothing is refused, however unevenly it comes.
    #[test]
    fn what_lands_in_time_is_never_refused(
        capacity in 10i64..10_000,
        commit_every in 1u64..4,
        came in vec((0i64..400, 1u64..40), 1..30),
    ) {
        let mut world = World::new(capacity, commit_every);
        for (percent, ticks) in came {
            for _ in 0..ticks {
                let full = world.backlog() > LIMIT.as_secs_f64() / 3.0 - 5.0 * TICK as f64;
                let standing = world.tick(if full { 0 } else { capacity * percent / 100 });
                prop_assert_eq!(standing.refused, None, "{:?} with {} s of work", standing, world.backlog());
            }
        }
    }

    /// Too much, for hours: what waits stays bounded, the lane never runs dry, and the door does not flap.
    #[test]
    fn too_much_for_hours_is_held_at_the_limit(
        capacity in 10i64..10_000,
        commit_every in 1u64..4,
        times in 2i64..20,
    ) {
        let mut world = World::new(capacity, commit_every);
        let (mut shut_at, mut was_shut) = (Vec::new(), false);
        let before_it_is_known = (times * i64::try_from(LIMIT.as_secs() / 8 + 4 * TICK).expect("small")) as f64;
        for _ in 0..3_600 {
            let standing = world.tick_at_the_door(capacity * times);
            prop_assert!(world.backlog() <= 1.3 * LIMIT.as_secs_f64() + before_it_is_known, "{}", world.backlog());
            if !shut_at.is_empty() {
                prop_assert!(world.backlog() > LIMIT.as_secs_f64() / 8.0, "it ran dry");
            }
            if standing.refused.is_some() && !was_shut {
                shut_at.push(world.now);
            }
            was_shut = standing.refused.is_some();
        }
        prop_assert!(shut_at.len() > 1, "it opens again");
        prop_assert!(shut_at.windows(2).all(|two| two[1] - two[0] >= LIMIT.as_secs() / 3), "{:?}", shut_at);
    }

    /// A door that is shut only for the one that sends too much keeps the lane at a quarter of the limit for the others.
    #[test]
    fn the_small_ones_wait_a_quarter_of_the_limit(capacity in 100i64..10_000, percent in 150i64..300) {
        let mut world = World::new(capacity, 1);
        let small = capacity / 100;
        let detected_late = (percent - 100) as f64 / 100.0 * (LIMIT.as_secs_f64() / 8.0 + 4.0 * TICK as f64);
        for _ in 0..1_800 {
            let flood = if world.last.crowded.is_some() { 0 } else { capacity * percent / 100 };
            let standing = world.tick(flood + small);
            prop_assert_eq!(standing.refused, None, "the small ones always get in");
            let most = LIMIT.as_secs_f64() / 4.0 * 1.3 + detected_late;
            prop_assert!(world.backlog() <= most, "{} of {most}", world.backlog());
        }
    }

    /// Whoever comes back when told to is let in soon: the wait follows from the rate.
    #[test]
    fn the_wait_that_is_told_is_long_enough(capacity in 10i64..10_000, times in 2i64..10) {
        let mut world = World::new(capacity, 1);
        while world.tick_at_the_door(capacity * times).refused.is_none() {}
        let mut told = Vec::new();
        while let Some(wait) = world.last.refused {
            told.push(wait.as_secs());
            prop_assert!((1..=60).contains(&wait.as_secs()));
            for _ in 0..wait.as_secs().div_ceil(TICK) {
                world.tick_at_the_door(0);
            }
        }
        // All but the last two were as long as a wait can be.
        prop_assert!(told.iter().rev().skip(2).all(|wait| *wait == 60), "{:?}", told);
        prop_assert!(world.backlog() > 0.0, "not later than need be: {:?}", told);
    }
}
