//! Several processes on one fake clock and one board.

use super::*;
use governor::clock::FakeRelativeClock;
use proptest::{collection::vec, prelude::*};

/// Processes that serve one key.
struct Cluster {
    clock: FakeRelativeClock,
    processes: Vec<(Rates<FakeRelativeClock>, Sharing)>,
}

/// How time passes: in steps of so many to a second.
const STEPS: u32 = 20;

impl Cluster {
    fn new(processes: usize, rate: u32) -> Self {
        let clock = FakeRelativeClock::default();
        let process = |_| (Rates::new(rate, clock.clone()), Sharing::default());
        let processes = (0..processes).map(process).collect();
        Self { clock, processes }
    }

    /// One second in which each process is asked so often; how many requests passed at each.
    fn second(&mut self, asked: &[u32]) -> Vec<u32> {
        let mut passed = vec![0; asked.len()];
        for step in 0..STEPS {
            self.clock.advance(Duration::from_secs(1) / STEPS);
            for (n, (rates, _)) in self.processes.iter().enumerate() {
                let upto = |step| asked[n] * step / STEPS;
                passed[n] += (upto(step)..upto(step + 1)).filter(|_| rates.count("k", None).is_ok()).count() as u32;
            }
        }
        let second = Duration::from_secs(1);
        let notes: Vec<_> =
            self.processes.iter_mut().filter_map(|(rates, sharing)| sharing.note(rates, second)).collect();
        for (rates, sharing) in &mut self.processes {
            sharing.read(rates, notes.iter().map(Vec::as_slice));
        }
        passed
    }
}

#[test]
fn a_sender_that_keeps_to_one_process_gets_the_whole_rate() {
    let mut cluster = Cluster::new(4, 10);
    for _ in 0..10 {
        assert_eq!(cluster.second(&[9, 0, 0, 0]), [9, 0, 0, 0]);
    }
    // And when it changes to another.
    assert_eq!(cluster.second(&[0, 9, 0, 0]), [0, 9, 0, 0]);
}

#[test]
fn a_process_that_is_hardly_asked_holds_nobody_back() {
    let mut cluster = Cluster::new(2, 10);
    for _ in 0..5 {
        cluster.second(&[100, 2]);
    }
    let passed = cluster.second(&[100, 2]);
    assert_eq!(passed[1], 2);
    assert!((7..=9).contains(&passed[0]), "{passed:?}");
}

#[test]
fn nothing_asked_nothing_said() {
    let rates = Rates::new(10, FakeRelativeClock::default());
    let (mut sharing, second) = (Sharing::default(), Duration::from_secs(1));
    assert_eq!(sharing.note(&rates, second), None);
    assert!(rates.count("k", None).is_ok());
    assert_eq!(sharing.note(&rates, second).as_deref(), Some(&br#"{"k":1.0}"#[..]));
    assert_eq!(sharing.note(&rates, second).as_deref(), Some(&b"{}"[..]), "takes back what it said");
    assert_eq!(sharing.note(&rates, second), None);
}

#[test]
fn a_note_of_another_version_is_passed_over() {
    let rates = Rates::new(10, FakeRelativeClock::default());
    assert!(rates.count("k", None).is_ok());
    let mut sharing = Sharing::default();
    let own = sharing.note(&rates, Duration::from_secs(1)).expect("something");
    sharing.read(&rates, [&own[..], b"what?"].into_iter());
    assert_eq!((0..20).filter(|_| rates.count("k", None).is_ok()).count(), 9, "the rest of its burst");
}

proptest! {
    #[test]
    fn levels_share_the_rate(rate in 1.0f64..1_000.0, mut demands in vec(0.0f64..500.0, 1..12)) {
        let level = level(rate, &mut demands);
        let given: f64 = demands.iter().map(|demand| demand.min(level)).sum();
        let all: f64 = demands.iter().sum();
        prop_assert!(level <= rate && level >= rate / demands.len() as f64 - 1e-9);
        prop_assert!((given - all.min(rate)).abs() < 1e-6, "{given} of {all}, {rate}");
    }

    /// The stated tolerance: from the third second on the rate within a tenth, for any steady spread of requests.
    #[test]
    fn together_they_keep_to_the_rate(
        rate in 10u32..200,
        weights in vec(0u32..300, 1..6),
    ) {
        let mut cluster = Cluster::new(weights.len(), rate);
        for _ in 0..3 {
            cluster.second(&weights);
        }
        let seconds = 20;
        let passed: u32 = (0..seconds).map(|_| cluster.second(&weights).iter().sum::<u32>()).sum();
        let asked: u32 = weights.iter().sum::<u32>() * seconds;
        let (most, least) = (f64::from(rate * seconds) * 1.1, f64::from(asked.min(rate * seconds)) * 0.9);
        // What each limiter saves up and lets go, once.
        let burst = f64::from(rate);
        prop_assert!(f64::from(passed) <= most + burst, "{passed} of {asked} at {rate}/s");
        prop_assert!(f64::from(passed) >= least - weights.len() as f64 * f64::from(seconds), "{passed} of {asked} at {rate}/s");
    }
}
