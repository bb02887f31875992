//! What is measured on the way.

use super::{
    agenda::Ms,
    fleet::Cause,
    pace::{Look, Pace, Reading},
};
use std::{collections::BTreeMap, time::Duration};
use tributary_backends::log::Progress;

/// Lanes that moved for one reason.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moves {
    pub(crate) lanes: u64,
    /// The longest time between two commits of one of them while something waited.
    pub(crate) longest: Ms,
}

#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) conflicts: u64,
    /// Messages that were read again and had landed.
    pub(crate) replayed: u64,
    /// Commits of offsets that were refused.
    pub(crate) fenced: u64,
    pub(crate) moves: BTreeMap<Option<Cause>, Moves>,
    /// By workspace: the longest from acceptance to the lake.
    pub(crate) longest: Vec<Ms>,
    /// By look of the watch: how old the oldest record is.
    pub(crate) oldest: Vec<Ms>,
    /// Up to when the sweep knows what has landed, in microseconds.
    pub(crate) settled: i64,
}

impl Figures {
    pub(crate) fn new(workspaces: usize) -> Self {
        Self {
            conflicts: 0,
            replayed: 0,
            fenced: 0,
            moves: BTreeMap::new(),
            longest: vec![0; workspaces],
            oldest: Vec::new(),
            settled: 0,
        }
    }

    pub(crate) fn landed(&mut self, workspace: usize, after: Ms) {
        self.longest[workspace] = self.longest[workspace].max(after);
    }

    /// A lane has committed after such a pause, for the first time since it moved if there is a cause.
    pub(crate) fn moved(&mut self, cause: Option<Cause>, pause: Ms) {
        let moves = self.moves.entry(cause).or_default();
        moves.lanes += 1;
        moves.longest = moves.longest.max(pause);
    }

    pub(crate) fn oldest(&mut self, ages: impl Iterator<Item = Ms>) {
        self.oldest.push(ages.max().unwrap_or(0));
    }

    pub(crate) fn of(&self, cause: Option<Cause>) -> Moves {
        self.moves.get(&cause).copied().unwrap_or_default()
    }
}

/// When what waits in a lane will be done, as somebody was told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    at: Ms,
    /// Offset up to which everything is to be done by then.
    until: i64,
    /// In so many seconds.
    pub(crate) promised: f64,
    /// Seconds that it took.
    pub(crate) took: f64,
}

/// What was promised of the lanes, of each one thing at a time; and the lag as `tributary lag` reckons it.
#[derive(Debug)]
pub(crate) struct Promises {
    paces: Vec<Pace>,
    last: Vec<(Reading, Progress)>,
    open: Vec<Option<Promise>>,
    pub(crate) kept: Vec<Promise>,
}

impl Promises {
    pub(crate) fn new(lanes: u32) -> Self {
        let lanes = lanes as usize;
        let paces = (0..lanes).map(|_| Pace::default()).collect();
        Self { paces, last: Vec::new(), open: vec![None; lanes], kept: Vec::new() }
    }

    pub(crate) fn look(&mut self, lanes: &[Progress], now: Ms) {
        let at = Duration::from_millis(now);
        let look = |(pace, progress): (&mut Pace, &Progress)| {
            let (Progress { done, high }, rest) = (*progress, Duration::ZERO);
            (pace.observe(Look { at, done, high, rest }), *progress)
        };
        self.last = self.paces.iter_mut().zip(lanes).map(look).collect();
    }

    pub(crate) fn make(&mut self, lane: u32, at: Ms, until: i64, promised: f64) {
        self.open[lane as usize].get_or_insert(Promise { at, until, promised, took: 0.0 });
    }

    /// The drain times of all lanes that have one.
    pub(crate) fn make_all(&mut self, at: Ms) {
        for (lane, (reading, Progress { done, high })) in (0..).zip(self.last.clone()) {
            if let Some(rate) = reading.rate.filter(|rate| *rate > 0.0) {
                self.make(lane, at, high, (high - done) as f64 / rate);
            }
        }
    }

    pub(crate) fn committed(&mut self, lane: u32, done: i64, now: Ms) {
        if let Some(promise) = self.open[lane as usize].take_if(|promise| done >= promise.until) {
            self.kept.push(Promise { took: (now - promise.at) as f64 / 1_000.0, ..promise });
        }
    }

    /// How long it took for what was promised: the median, and the share of those of more than ten seconds that were right
    /// within a quarter.
    pub(crate) fn ratios(&self) -> (f64, f64) {
        let mut ratios: Vec<f64> = self.kept.iter().map(|promise| promise.took / promise.promised).collect();
        ratios.sort_by(f64::total_cmp);
        let long: Vec<&Promise> = self.kept.iter().filter(|promise| promise.took > 10.0).collect();
        let right = long.iter().filter(|promise| (promise.promised - promise.took).abs() <= promise.took / 4.0).count();
        (ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN), right as f64 / long.len() as f64)
    }
}
