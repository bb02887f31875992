//! Backpressure from the lake: when a lane is behind by more than `--max-lag`, its senders are told to come back later,
//! before what they send fills the disks.
//!
//! One task looks at the offsets of every lane, off the path of requests ([`Pressure::watch`]); what they mean is worked
//! out in [`lag`]; a request only reads the outcome ([`Pressure::admit`]). It goes by lane: a workspace whose records
//! take other lanes does not notice that one of them is behind. All that it needs are the offsets in the log, so that
//! it works the same whether the pipeline is in this process or in others.
//!
//! Before a lane refuses everybody it refuses those that fill it: from a quarter of the limit on, a workspace that sends
//! more than an equal part of what comes to the lane ([`flows`]) is told to wait while the others go on. Who floods
//! thus waits for the lane, and the others wait for a quarter of the limit at most.

pub mod flows;
pub mod lag;

use crate::{failure::Failure, metrics::LaneMetrics};
use axum::http::StatusCode;
use flows::{Crowd, Flows};
use lag::{LaneLag, Look, Standing};
use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tributary_backends::log::{Progress, RecordLog, Topic};
use tributary_schemas::identity::Lanes;

/// The group that takes records to the lake.
const GROUP: &str = "lanes";
/// Looks within the limit: enough to see a rate in it.
const LOOKS_PER_LIMIT: u32 = 60;
/// Between two looks; less costs the brokers questions, more makes the answers late.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Which lanes take no more, and when to come back.
#[derive(Debug)]
pub struct Pressure {
    /// Zero: every lane takes everything.
    limit: Duration,
    lanes: RwLock<Vec<Door>>,
    flows: Mutex<Flows>,
    metrics: LaneMetrics,
}

/// What was seen of the lanes so far.
#[derive(Debug, Default)]
pub struct Seen {
    lanes: Vec<LaneLag>,
    /// When, since the looking began.
    last: Duration,
}

/// Who is let into a lane.
#[derive(Debug, Clone, Copy)]
struct Door {
    standing: Standing,
    crowd: Crowd,
}

impl Pressure {
    /// No lane is known to be behind yet.
    pub fn new(limit: Duration, metrics: LaneMetrics) -> Self {
        Self { limit, lanes: RwLock::default(), flows: Mutex::default(), metrics }
    }

    /// Whether the lanes of a workspace take more from it.
    ///
    /// # Errors
    /// 429, with the time after which the slowest of them should.
    pub fn admit(&self, workspace: &str, lanes: &Lanes) -> Result<(), Failure> {
        if self.limit.is_zero() {
            return Ok(());
        }
        let rate = {
            let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
            flows.asked(workspace);
            flows.rate(workspace, lanes)
        };
        let doors = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        let doors = lanes.of(workspace).all().filter_map(|lane| doors.get(lane as usize));
        let waits = doors.filter_map(|door| Some((door.wait_of(rate)?, door)));
        match waits.max_by_key(|(wait, _)| *wait) {
            None => Ok(()),
            Some((wait, door)) => {
                self.metrics.refused.inc();
                Err(door.refusal(wait))
            }
        }
    }

    /// A workspace's body of so many bytes was taken.
    pub fn took(&self, workspace: &str, bytes: usize) {
        if !self.limit.is_zero() {
            self.flows.lock().unwrap_or_else(PoisonError::into_inner).took(workspace, bytes);
        }
    }

    /// Looks at the lanes again and again. Never ends; to be dropped.
    pub async fn watch(&self, log: &dyn RecordLog, settled: &Lanes) -> Infallible {
        if self.limit.is_zero() {
            return std::future::pending().await;
        }
        let started = Instant::now();
        let mut pauses = interval((self.limit / LOOKS_PER_LIMIT).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        pauses.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Seen::default();
        let mut blind = false;
        loop {
            pauses.tick().await;
            match log.progress(GROUP, Topic::Records).await {
                Ok(progress) => {
                    blind = false;
                    self.observe(&mut seen, &progress, started.elapsed(), settled);
                }
                // What was known goes on to hold: without the log nothing is accepted anyway.
                Err(error) if !blind => {
                    tracing::warn!(%error, "cannot see how far the lanes are behind; will go on trying");
                    blind = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Takes a look at all lanes, so long after the looking began: from now on requests go by it.
    pub fn observe(&self, seen: &mut Seen, progress: &[Progress], at: Duration, settled: &Lanes) {
        seen.lanes.resize_with(progress.len(), || LaneLag::new(self.limit));
        let look = |(lane, progress): (&mut LaneLag, &Progress)| {
            lane.observe(Look { at, done: progress.done, high: progress.high })
        };
        let standings = seen.lanes.iter_mut().zip(progress).map(look).collect();
        let passed = at.saturating_sub(std::mem::replace(&mut seen.last, at));
        self.tell(standings, settled, passed);
    }

    /// Makes the outcome known to requests, to the metrics, and in the log when a lane begins or ends to refuse.
    fn tell(&self, standings: Vec<Standing>, lanes: &Lanes, passed: Duration) {
        let crowds = {
            let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
            flows.look(passed);
            flows.crowds(lanes)
        };
        let doors: Vec<_> =
            standings.into_iter().zip(crowds).map(|(standing, crowd)| Door { standing, crowd }).collect();
        for (lane, door) in (0u32..).zip(&doors) {
            self.metrics.lane(lane, &door.standing);
        }
        let before = {
            let mut known = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, doors.clone())
        };
        for (lane, door) in (0u32..).zip(&doors) {
            let before = before.get(lane as usize).is_some_and(|door| door.standing.refused.is_some());
            let Standing { lag, rate, behind, refused, .. } = door.standing;
            let rate = rate.unwrap_or(0.0);
            match (before, refused.is_some()) {
                (false, true) => tracing::warn!(
                    lane,
                    lag,
                    rate,
                    ?behind,
                    "the pipeline is behind in this lane: its senders get 429 until it is down to half of --max-lag"
                ),
                (true, false) => tracing::info!(lane, lag, rate, ?behind, "this lane takes records again"),
                _ => {}
            }
        }
    }
}

impl Door {
    /// How long a workspace that sends so many bytes per second has to wait, if at all.
    fn wait_of(&self, rate: f64) -> Option<Duration> {
        let Standing { crowded, refused, .. } = self.standing;
        refused.or_else(|| crowded.filter(|_| self.crowd.is_crowded_by(rate)))
    }

    fn refusal(&self, wait: Duration) -> Failure {
        let Standing { rate, behind, refused, .. } = self.standing;
        let behind = behind.as_secs().max(1);
        let message = match (refused, rate) {
            (None, _) => format!(
                "records take about {behind} s to reach the lake now, and this workspace sends more than its part of \
                 them"
            ),
            (Some(_), Some(rate)) if rate > 0.0 => format!(
                "the records of this workspace take about {behind} s to reach the lake now, which is too long to take \
                 more"
            ),
            (Some(_), _) => format!("no record of this workspace has reached the lake for {behind} s"),
        };
        let message = format!("{message}; nothing of this request was kept: send it again after retryAfter seconds");
        Failure::new(StatusCode::TOO_MANY_REQUESTS, "PIPELINE_BEHIND", message).retry_after(wait.as_secs().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    const LOOK: Duration = Duration::from_secs(2);
    const UP_TO_DATE: Standing = Standing { lag: 0, rate: None, behind: Duration::ZERO, crowded: None, refused: None };

    fn pressure() -> Pressure {
        Pressure::new(Duration::from_secs(120), LaneMetrics::register(&mut Registry::default()))
    }

    fn refusing(rate: Option<f64>, seconds: u64) -> Standing {
        let wait = Some(Duration::from_secs(seconds));
        Standing { lag: 7, rate, behind: Duration::from_secs(200), crowded: wait, refused: wait }
    }

    /// A workspace of this lane only.
    fn workspace_of(lane: u32, lanes: &Lanes) -> String {
        let mut names = (0..).map(|n| format!("w{n}"));
        names.find(|name| lanes.of(name).all().eq([lane])).expect("some workspace takes every lane")
    }

    /// One lane that drains, one that stands still, one that is up to date.
    #[test]
    fn only_workspaces_of_a_lane_that_is_behind_are_refused() {
        let (pressure, lanes) = (pressure(), Lanes { partitions: 3, spread: 1 });
        let [drains, stands, current] = [0, 1, 2].map(|lane| workspace_of(lane, &lanes));
        assert_eq!(pressure.admit(&drains, &lanes), Ok(()), "nothing is known yet");
        pressure.tell(vec![refusing(Some(10.0), 30), refusing(Some(0.0), 60), UP_TO_DATE], &lanes, LOOK);
        let refused = pressure.admit(&drains, &lanes).expect_err("refused");
        assert_eq!((refused.status, refused.code), (StatusCode::TOO_MANY_REQUESTS, "PIPELINE_BEHIND"));
        assert_eq!(refused.retry_after, Some(30));
        assert!(refused.message.contains("take about 200 s"), "{}", refused.message);
        let refused = pressure.admit(&stands, &lanes).expect_err("refused");
        assert!(refused.message.contains("has reached the lake for 200 s"), "{}", refused.message);
        assert_eq!(pressure.admit(&current, &lanes), Ok(()));
        let wide = Lanes { partitions: 3, spread: 3 };
        let refused = pressure.admit(&current, &wide).expect_err("one of its lanes is behind");
        assert_eq!(refused.retry_after, Some(60), "that of the slowest");
        pressure.tell(vec![UP_TO_DATE; 3], &lanes, LOOK);
        assert_eq!(pressure.admit(&drains, &lanes), Ok(()));
    }

    /// A lane with little room left, shared by one that floods and one that does not.
    #[test]
    fn who_fills_a_lane_waits_and_the_others_go_on() {
        let (pressure, lanes) = (pressure(), Lanes { partitions: 1, spread: 1 });
        for _ in 0..10 {
            assert_eq!(pressure.admit("flood", &lanes), Ok(()));
            pressure.took("flood", 1_000_000);
        }
        assert_eq!(pressure.admit("small", &lanes), Ok(()));
        pressure.took("small", 1_000);
        let (behind, wait) = (Duration::from_secs(40), Some(Duration::from_secs(25)));
        let crowded = Standing { lag: 7, rate: Some(1.0), behind, crowded: wait, refused: None };
        pressure.tell(vec![crowded], &lanes, LOOK);
        assert_eq!(pressure.admit("small", &lanes), Ok(()));
        assert_eq!(pressure.admit("new", &lanes), Ok(()));
        let refused = pressure.admit("flood", &lanes).expect_err("refused");
        assert_eq!((refused.code, refused.retry_after), ("PIPELINE_BEHIND", Some(25)));
        assert!(refused.message.contains("more than its part"), "{}", refused.message);
        // Alone it fills nobody else's lane.
        let alone = self::pressure();
        assert_eq!(alone.admit("flood", &lanes), Ok(()));
        alone.took("flood", 1_000_000);
        alone.tell(vec![crowded], &lanes, LOOK);
        assert_eq!(alone.admit("flood", &lanes), Ok(()));
    }
}
