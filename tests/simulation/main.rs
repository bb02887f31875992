//! A thousand lanes in virtual time, deterministic by seed, on the real code of what decides: which lane a record takes
//! (`schemas::identity`), who has a lane (`backends::log::embedded::groups`), where a chunk ends and what of it is in a
//! table already (`pipeline::chunking`), who is let in (`ingest_api::pressure`), what is settled (`pipeline::passage`) and
//! when a lane will have drained (`lag/pace.rs` of the binary).
//!
//! [`backends`] are the log and the lake reduced to what they promise; [`fleet`] are processes that come, go, die and
//! sleep; [`lane`] is the work; [`senders`] are those who send, and the doors; [`world`] moves it all. Nothing here waits,
//! and no clock is read. With `TRIBUTARY_SIMULATION_SEEDS=100` the tests run that many seeds; the figures of the first one
//! stand in docs/SCALING.md, and the tests hold them against it.

mod agenda;
mod backends;
mod figures;
mod fleet;
mod lane;
#[path = "../../tributary/src/lag/pace.rs"]
mod pace;
mod paper;
mod senders;
mod world;

use agenda::Ms;
use figures::Promises;
use fleet::Cause;
use std::collections::BTreeSet;
use world::{Act, Away, LANES, Plan, RECORDS, WATCH_EVERY, World};

const SECOND: Ms = 1_000;

fn seeds() -> std::ops::RangeInclusive<u64> {
    let wanted = std::env::var("TRIBUTARY_SIMULATION_SEEDS").ok();
    1..=wanted.map_or(2, |text| text.parse().expect("TRIBUTARY_SIMULATION_SEEDS is a number of seeds"))
}

/// Runs a scenario for each seed; what it says of the first stands on the page.
#[expect(clippy::print_stdout, reason = "the figures are what it is run for")]
fn each_seed(scenario: fn(u64) -> Vec<(&'static str, String)>) {
    for seed in seeds() {
        let figures = scenario(seed);
        figures.iter().for_each(|(name, value)| println!("seed {seed}: {name}: {value}"));
        if seed == *seeds().start() {
            paper::assert_says(&figures);
        }
    }
}

fn seconds(ms: Ms) -> String {
    format!("{:.1} s", ms as f64 / 1_000.0)
}

/// Floods that are twice what a lane can take, from people who insist.
#[test]
fn a_flood_takes_its_part_and_no_more() {
    each_seed(|seed| {
        let (until, flood) = (210 * SECOND, (20 * SECOND, 150 * SECOND));
        let mut world = World::new(seed, Plan { spread: 1, processes: 20, doors: 2, until });
        let floods = far_apart(&world, 10);
        for number in &floods {
            let sender = &mut world.senders[*number];
            (sender.floods, sender.every, sender.active) = (true, 400, flood);
        }
        world.open_doors();
        world.run(until);
        let drained = world.drain(until + 60 * SECOND);
        world.assert_exact();

        let lanes = |number: &usize| world.senders[*number].lanes.all().collect::<Vec<_>>();
        let flooded: BTreeSet<u32> = floods.iter().flat_map(lanes).collect();
        let (mut beside, mut elsewhere) = (0, 0);
        for number in (0..world.senders.len()).filter(|number| !world.senders[*number].floods) {
            let longest =
                if lanes(&number).iter().any(|lane| flooded.contains(lane)) { &mut beside } else { &mut elsewhere };
            *longest = world.figures.longest[number].max(*longest);
        }
        // A quarter of --max-lag, what the flood brings in the eighth of it before it can be told from a burst, looks that are
        // two seconds old, and a chunk.
        assert!(beside <= 80 * SECOND, "beside a flood a record took {beside} ms");
        assert!(elsewhere <= 10 * SECOND, "far from any flood a record took {elsewhere} ms");
        let (during, after): (Vec<Ms>, Vec<Ms>) = world.refusals.iter().partition(|at| **at < flood.1);
        assert!(during.is_empty(), "who sends less than its part was refused at {during:?}");
        // Then a request can be more than an equal part, and is refused until the lane is down to an eighth.
        assert!(after.iter().all(|at| *at < flood.1 + 40 * SECOND) && after.len() < 50, "refused at {after:?}");
        let (asked, taken) = floods.iter().fold((0, 0), |(asked, taken), number| {
            (asked + world.senders[*number].asked, taken + world.senders[*number].taken)
        });
        assert!(taken * 100 <= asked * 55, "of {asked} requests of the floods {taken} were taken");
        let (told, _) = assert_kept(&world.promises, 30, 0.9..=1.1);
        vec![
            ("floods: requests that were taken", format!("{:.0} %", taken as f64 * 100.0 / asked as f64)),
            ("floods: requests of others that were refused meanwhile", during.len().to_string()),
            ("floods: requests of others that were refused after them", after.len().to_string()),
            ("floods: the longest way to the lake in the same lane", seconds(beside)),
            ("floods: the longest way to the lake in other lanes", seconds(elsewhere)),
            ("floods: time that it took / time that `retryAfter` told (median)", format!("{told:.2}")),
            ("floods: until nothing waited after all senders had stopped", seconds(drained)),
        ]
    });
}

/// Workspaces that have no lane in common.
fn far_apart(world: &World, count: usize) -> Vec<usize> {
    let (mut taken, mut found) = (BTreeSet::new(), Vec::new());
    while found.len() < count {
        let number = world.dice.below(world.senders.len());
        let lanes: Vec<u32> = world.senders[number].lanes.all().collect();
        if lanes.iter().all(|lane| taken.insert(*lane)) {
            found.push(number);
        }
    }
    found
}

/// What was promised came true, as far as looks every two seconds and whole chunks can tell; the median, and the
/// share of the long ones that were right within a quarter.
fn assert_kept(promises: &Promises, least: usize, usual: std::ops::RangeInclusive<f64>) -> (f64, f64) {
    let kept = &promises.kept;
    assert!(kept.len() >= least, "{} promises", kept.len());
    for promise in kept {
        let error = (promise.promised - promise.took).abs();
        assert!(error <= promise.took / 4.0 + 8.0, "{promise:?}");
    }
    let (median, right) = promises.ratios();
    assert!(usual.contains(&median), "it takes {median} times as long as is promised");
    (median, right)
}

/// Processes come, go, die, and sleep for longer than their sessions.
#[test]
fn whoever_comes_goes_dies_or_sleeps_no_record_is_lost_or_doubled() {
    each_seed(|seed| {
        let until = 265 * SECOND;
        let mut world = World::new(seed, Plan { spread: 2, processes: 20, doors: 1, until });
        world.open_doors();
        let acts = [
            (40, Act::Join),
            (60, Act::Kill),
            (75, Act::Join),
            (90, Act::Leave),
            (105, Act::Pause(25 * SECOND)),
            (110, Act::Kill),
            (130, Act::Join),
            (140, Act::Pause(4 * SECOND)),
            (150, Act::Pause(8 * SECOND)),
            (165, Act::Leave),
            (166, Act::Kill),
            (180, Act::Join),
            (190, Act::Pause(9 * SECOND)),
            (200, Act::Pause(40 * SECOND)),
            (202, Act::Leave),
            (220, Act::Kill),
            (225, Act::Join),
        ];
        for (at, act) in acts {
            let at = at * SECOND + world.dice.about(4 * SECOND);
            world.at(at, act);
        }
        world.run(until);
        let drained = world.drain(until + 30 * SECOND);
        world.assert_exact();

        let figures = &world.figures;
        assert!(figures.fenced > 0 && figures.replayed > 0, "nobody was taken for dead: {figures:?}");
        let longest = figures.moves.values().map(|moves| moves.longest).max().unwrap_or(0);
        assert!(longest <= 20 * SECOND, "a lane stood still for {longest} ms");
        let settled_late = 60 * SECOND as i64 * 1_000;
        assert!(
            figures.settled >= until as i64 * 1_000 - settled_late,
            "the sweep waits for ever: {}",
            figures.settled
        );
        // The last process sleeps until 244 s at most, and gives up what it had within five seconds more.
        let calm = figures.oldest.iter().skip((260 * SECOND / WATCH_EVERY) as usize).max().copied().unwrap_or(0);
        assert!(calm <= 6 * SECOND, "{calm} ms behind although all is well again");
        let moved = |cause| {
            let moves = figures.of(Some(cause));
            assert!(moves.lanes > 0, "{cause:?}");
            (moves.lanes.to_string(), seconds(moves.longest))
        };
        let [joined, left, killed, paused] = [Cause::Joined, Cause::Left, Cause::Killed, Cause::Paused].map(moved);
        vec![
            ("lanes that moved: a process joined", joined.0),
            ("their longest pause: joined", joined.1),
            ("lanes that moved: a process left", left.0),
            ("their longest pause: left", left.1),
            ("lanes that moved: a process was killed", killed.0),
            ("their longest pause: killed", killed.1),
            ("lanes that moved: a process slept", paused.0),
            ("their longest pause: slept", paused.1),
            ("the longest pause of lanes that stayed", seconds(figures.of(None).longest)),
            ("fleet: commits of offsets that were refused", figures.fenced.to_string()),
            ("fleet: messages that were read again and skipped", figures.replayed.to_string()),
            ("fleet: commits of tables that met another", format!("{} of {}", figures.conflicts, world.lake.commits)),
            ("fleet: until nothing waited after all senders had stopped", seconds(drained)),
        ]
    });
}

/// The store is away for longer than `--max-lag`.
#[test]
fn an_outage_is_held_at_the_door_and_drains_as_told() {
    each_seed(|seed| {
        let (until, away, back) = (280 * SECOND, 20 * SECOND, 160 * SECOND);
        let mut world = World::new(seed, Plan { spread: 1, processes: 20, doors: 1, until });
        world.open_doors();
        world.looks_at_lag = true;
        world.at(away, Act::Store(Away::Begins));
        world.at(back, Act::Store(Away::Ends));
        world.at(back + 16 * SECOND, Act::Promise);
        world.run(until);
        let drained = world.drain(until + 90 * SECOND);
        world.assert_exact();

        let refused = world.refusals.len();
        assert!(refused > 0, "the door stayed open");
        let oldest = &world.figures.oldest;
        let worst = oldest.iter().max().copied().unwrap_or(0);
        assert!(worst <= 190 * SECOND, "a record waited for {worst} ms");
        // A lane begins again some seconds after the look that saw it stand, so it is quicker than it seems at first.
        let (usual, right) = assert_kept(&world.promises, LANES as usize / 2, 0.75..=1.1);
        let looks = oldest.iter().enumerate().skip((back / WATCH_EVERY) as usize);
        let calm = looks.filter(|(_, age)| **age > 60 * SECOND).map(|(n, _)| (n as Ms + 2) * WATCH_EVERY).max();
        let calm = calm.map_or(0, |at| at.saturating_sub(back));
        assert!(calm <= 200 * SECOND, "it took {calm} ms until no record was older than 60 s");
        vec![
            ("outage: requests that were refused", refused.to_string()),
            ("outage: the oldest record at its worst", seconds(worst)),
            ("outage: from its end until no record was older than 60 s", seconds(calm)),
            ("outage: lanes whose drain time was told 16 s after its end", world.promises.kept.len().to_string()),
            ("outage: time that it took / drain time that was told (median)", format!("{usual:.2}")),
            ("outage: those above 10 s that were right within 25 %", format!("{:.0} %", right * 100.0)),
            ("outage: until nothing waited after all senders had stopped", seconds(drained)),
        ]
    });
}

/// One table that is far behind, by the number of its lanes. Each commits to the same table, and one that met another's
/// commit puts what it has written on the newer version.
#[test]
fn more_lanes_make_one_table_quicker_although_they_meet() {
    each_seed(|seed| {
        let messages = 200;
        let rate = |spread: u32| {
            let mut world = World::new(seed, Plan { spread, processes: 1, doors: 1, until: 0 });
            (0..messages).for_each(|_| world.append(0));
            let took = world.drain(600 * SECOND) as f64 / 1_000.0;
            let share = world.figures.conflicts as f64 / world.lake.commits as f64;
            ((messages * RECORDS) as f64 / took, share)
        };
        let [one, two, four, eight] = [1, 2, 4, 8].map(rate);
        assert!(one.1 < 0.05, "alone it meets nobody: {one:?}");
        let quicker = |more: (f64, f64), fewer: (f64, f64)| more.0 > fewer.0 * 1.4;
        assert!(quicker(two, one) && quicker(four, two) && quicker(eight, four), "{one:?} {two:?} {four:?} {eight:?}");
        let row = |(rate, share): (f64, f64)| format!("{rate:.0} records/s, {share:.1} conflicts a commit");
        vec![
            ("a table behind, spread 1", row(one)),
            ("a table behind, spread 2", row(two)),
            ("a table behind, spread 4", row(four)),
            ("a table behind, spread 8", row(eight)),
        ]
    });
}
