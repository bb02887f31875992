//! Senders, and the door: the API's real flow control, in several processes.

use super::{
    agenda::{Event, Ms},
    world::{LIMIT, MESSAGE_BYTES, World},
};
use prometheus_client::registry::Registry;
use std::time::Duration;
use tributary_ingest_api::{
    metrics::LaneMetrics,
    pressure::{Pressure, Seen},
};
use tributary_schemas::identity::{Identity, Lanes, WorkspaceLanes};

/// Between two looks of a process, as with the default `--max-lag`.
const LOOK_EVERY: Ms = 2_000;

/// One process of the API.
#[derive(Debug)]
pub(crate) struct Door {
    pressure: Pressure,
    seen: Seen,
}

impl Door {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { pressure: Pressure::new(limit, LaneMetrics::register(&mut Registry::default())), seen: Seen::default() }
    }
}

/// A workspace.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) name: String,
    pub(crate) lanes: WorkspaceLanes,
    /// Mean time between two requests.
    pub(crate) every: Ms,
    /// Sends from here to there.
    pub(crate) active: (Ms, Ms),
    /// Takes no notice of being refused, and does not send again what was.
    pub(crate) floods: bool,
    pending: u64,
    blocked_until: Ms,
    pub(crate) asked: u64,
    pub(crate) taken: u64,
}

impl Sender {
    pub(crate) fn new(number: usize, every: Ms, active: (Ms, Ms), lanes: &Lanes) -> Self {
        let name = format!("workspace-{number:05}");
        Self {
            lanes: lanes.of(&name),
            name,
            every,
            active,
            floods: false,
            pending: 0,
            blocked_until: 0,
            asked: 0,
            taken: 0,
        }
    }
}

impl World {
    pub(crate) fn open_doors(&mut self) {
        for door in 0..self.doors.len() {
            self.agenda.plan(LOOK_EVERY * door as Ms / self.doors.len() as Ms, Event::Look(door));
        }
        for sender in 0..self.senders.len() {
            let Sender { every, active, .. } = self.senders[sender];
            self.agenda.plan(active.0 + self.dice.bits() % every, Event::Send(sender));
        }
    }

    pub(crate) fn look(&mut self, door: usize) {
        let (progress, at) = (self.log.progress(), Duration::from_millis(self.agenda.now));
        let Door { pressure, seen } = &mut self.doors[door];
        pressure.observe(seen, &progress, at, &self.lanes);
        self.agenda.plan(self.agenda.now + LOOK_EVERY, Event::Look(door));
    }

    /// The sender has one request more to send.
    pub(crate) fn send(&mut self, number: usize) {
        let sender = &mut self.senders[number];
        if self.agenda.now >= sender.active.1 {
            return;
        }
        sender.pending += 1;
        sender.asked += 1;
        self.agenda.plan(self.agenda.now + self.dice.about(sender.every), Event::Send(number));
        self.send_pending(number);
    }

    /// Sends what waits, until it is refused; then it comes back when it was told to.
    pub(crate) fn send_pending(&mut self, number: usize) {
        let now = self.agenda.now;
        while self.senders[number].pending > 0 {
            let sender = &self.senders[number];
            if now < sender.blocked_until && !sender.floods {
                return;
            }
            let door = self.dice.below(self.doors.len());
            match self.doors[door].pressure.admit(&sender.name, &self.lanes) {
                Ok(()) => self.taken(number, door),
                Err(refusal) => {
                    let wait = refusal.retry_after.expect("a 429 says when to come back");
                    // Until the lane is down to an eighth of the limit for those who crowd it, to a half for all.
                    let until = LIMIT / if refusal.message.contains("more than its part") { 8 } else { 2 };
                    self.refused(number, wait, until.as_secs());
                    return;
                }
            }
        }
    }

    fn taken(&mut self, number: usize, door: usize) {
        let sender = &mut self.senders[number];
        sender.pending -= 1;
        sender.taken += 1;
        self.doors[door].pressure.took(&sender.name, MESSAGE_BYTES);
        self.append(number);
    }

    /// A message of a workspace, with an identity by chance.
    pub(crate) fn append(&mut self, number: usize) {
        let (now, mut identity) = (self.agenda.now, [0; 16]);
        identity[..8].copy_from_slice(&self.dice.bits().to_le_bytes());
        identity[8..].copy_from_slice(&self.dice.bits().to_le_bytes());
        let lane = self.senders[number].lanes.lane(&Identity(identity));
        for worker in self.log.append(lane, number, now) {
            self.agenda.plan(now, Event::Take(worker));
        }
    }

    fn refused(&mut self, number: usize, wait: u64, until: u64) {
        assert!((1..=60).contains(&wait), "retryAfter of {wait} s");
        let now = self.agenda.now;
        let sender = &mut self.senders[number];
        if sender.floods {
            sender.pending -= 1;
            // Told to wait until the lane is down to that, if nothing more comes: so what waits now has gone after both.
            // Longer waits are cut.
            let (lane, behind) = (sender.lanes.all().next().unwrap_or(0), wait + until);
            if wait < 60 {
                self.promises.make(lane, now, self.log.partitions[lane as usize].high(), behind as f64);
            }
        } else {
            sender.blocked_until = now + wait * 1_000;
            self.refusals.push(now);
            self.agenda.plan(sender.blocked_until, Event::Retry(number));
        }
    }

    /// What its senders still hold back because they were refused.
    pub(crate) fn held_back(&self) -> u64 {
        self.senders.iter().map(|sender| sender.pending).sum()
    }
}
