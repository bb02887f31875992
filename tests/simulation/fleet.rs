//! Processes of the pipeline and who has which lane: the real assignment of `log::embedded`, which keeps to the same
//! contract as a cooperative group on Kafka (two rounds, a fence, few lanes that move).
//!
//! librdkafka's own choice of lanes cannot be run here. What stands for the brokers: a process that is silent for a session has left,
//! and a lane that was given out is begun after one round of the group.

use super::{
    agenda::{Event, Ms},
    world::World,
};
use std::sync::Arc;
use tributary_backends::log::{
    Topic,
    embedded::groups::{Event as Dealt, GroupKey, Groups, Lease},
};

/// As `--kafka-session-timeout`.
const SESSION: Ms = 6_000;
/// From a decision of the group until a lane is begun: a heartbeat, and a look at the committed offsets.
const ROUND: Ms = 500;

/// Why a lane has changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    Started,
    Joined,
    Left,
    Killed,
    Paused,
}

#[derive(Debug)]
pub(crate) struct Process {
    /// Its name in the group; none once it has left, or is known to.
    member: Option<u64>,
    pub(crate) is_dead: bool,
    /// Does nothing before.
    pub(crate) paused_until: Ms,
    /// How quick it is, one being as planned.
    pub(crate) pace: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Working,
    /// Was told to stop, and finishes its chunk.
    Stopping,
    Gone,
}

/// The task of one lane in one process.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) process: usize,
    pub(crate) lane: u32,
    lease: Arc<Lease>,
    pub(crate) standing: Standing,
    /// Why it has the lane, until it has committed.
    pub(crate) cause: Option<Cause>,
    pub(crate) position: i64,
    pub(crate) due: Ms,
    pub(crate) chunk: Option<super::lane::Chunk>,
}

impl Worker {
    pub(crate) fn is_fenced(&self) -> bool {
        *self.lease.fenced().borrow()
    }
}

#[derive(Debug)]
pub(crate) struct Fleet {
    groups: Groups,
    key: GroupKey,
    pub(crate) processes: Vec<Process>,
    pub(crate) workers: Vec<Worker>,
    /// Who was given each lane last.
    owners: Vec<Option<usize>>,
    /// Why each lane is being given up.
    causes: Vec<Option<Cause>>,
}

impl Fleet {
    pub(crate) fn new(lanes: u32) -> Self {
        Self {
            groups: Groups::default(),
            key: ("lanes".to_owned(), Topic::Records),
            processes: Vec::new(),
            workers: Vec::new(),
            owners: vec![None; lanes as usize],
            causes: vec![None; lanes as usize],
        }
    }

    /// Whether nobody else has been given the worker's lane since.
    pub(crate) fn is_newest(&self, worker: usize) -> bool {
        self.owners[self.workers[worker].lane as usize] == Some(worker)
    }

    fn able(&self, now: Ms) -> Vec<usize> {
        let able = |process: &Process| !process.is_dead && process.member.is_some() && process.paused_until <= now;
        (0..self.processes.len()).filter(|process| able(&self.processes[*process])).collect()
    }

    /// Lanes of each process that is there.
    pub(crate) fn shares(&self) -> Vec<usize> {
        let has = |process: usize| {
            let working = |worker: &&Worker| worker.process == process && worker.standing == Standing::Working;
            self.workers.iter().filter(working).count()
        };
        let here = |process: &usize| !self.processes[*process].is_dead && self.processes[*process].member.is_some();
        (0..self.processes.len()).filter(here).map(has).collect()
    }
}

impl World {
    /// A process comes.
    pub(crate) fn join(&mut self, cause: Cause) {
        let (member, _) = self.fleet.groups.join(&self.fleet.key, self.lanes.partitions);
        self.fleet.processes.push(Process { member: Some(member), is_dead: false, paused_until: 0, pace: 1.0 });
        self.deal(cause);
    }

    /// One of those that are able, by chance.
    pub(crate) fn anyone(&self) -> usize {
        let able = self.fleet.able(self.agenda.now);
        able[self.dice.below(able.len())]
    }

    /// A process is told to stop: it leaves the group at once, and finishes or abandons its chunks meanwhile.
    pub(crate) fn leave(&mut self, process: usize) {
        self.forget(process);
        for worker in self.workers_of(process) {
            self.stop(worker);
        }
        self.deal(Cause::Left);
    }

    /// `kill -9`: nothing of it goes on, and the brokers notice when its session is over.
    pub(crate) fn kill(&mut self, process: usize) {
        self.fleet.processes[process].is_dead = true;
        for worker in self.workers_of(process) {
            self.fleet.workers[worker].standing = Standing::Gone;
        }
        self.agenda.plan(self.agenda.now + SESSION, Event::Session(process));
    }

    /// It stands still, and does not know it: what it was about to do it does when it wakes.
    pub(crate) fn pause(&mut self, process: usize, length: Ms) {
        let until = self.agenda.now + length;
        self.fleet.processes[process].paused_until = until;
        self.agenda.plan(self.agenda.now + SESSION, Event::Session(process));
        self.agenda.plan(until, Event::Wake(process));
    }

    /// The brokers have heard nothing of it for a session.
    pub(crate) fn session_over(&mut self, process: usize) {
        let Process { is_dead, paused_until, .. } = self.fleet.processes[process];
        if is_dead || paused_until > self.agenda.now {
            self.forget(process);
            self.deal(if is_dead { Cause::Killed } else { Cause::Paused });
        }
    }

    /// It learns that it was taken for dead, gives up what it had, and joins again.
    pub(crate) fn wake(&mut self, process: usize) {
        if self.fleet.processes[process].member.is_some() {
            return self.deal(Cause::Paused);
        }
        for worker in self.workers_of(process) {
            self.stop(worker);
        }
        let (member, _) = self.fleet.groups.join(&self.fleet.key, self.lanes.partitions);
        self.fleet.processes[process].member = Some(member);
        self.deal(Cause::Joined);
    }

    fn forget(&mut self, process: usize) {
        if let Some(member) = self.fleet.processes[process].member.take() {
            self.fleet.groups.leave(&self.fleet.key, member);
        }
    }

    fn workers_of(&self, process: usize) -> Vec<usize> {
        let of = |worker: &usize| {
            let worker = &self.fleet.workers[*worker];
            worker.process == process && worker.standing != Standing::Gone
        };
        (0..self.fleet.workers.len()).filter(of).collect()
    }

    /// Tells every process what the group has decided, until there is nothing more to tell.
    fn deal(&mut self, cause: Cause) {
        loop {
            let mut told = false;
            for process in self.fleet.able(self.agenda.now) {
                while let Some(member) = self.fleet.processes[process].member
                    && let Some(dealt) = self.fleet.groups.event(&self.fleet.key, member)
                {
                    told = true;
                    match dealt {
                        Dealt::Assigned(lease) => self.assigned(process, lease, cause),
                        Dealt::Revoked(lease) => self.revoked(&lease, cause),
                    }
                }
            }
            if !told {
                return;
            }
        }
    }

    fn assigned(&mut self, process: usize, lease: Arc<Lease>, cause: Cause) {
        let (lane, now) = (lease.partition as usize, self.agenda.now);
        if let Some(before) = self.fleet.owners[lane] {
            assert!(self.fleet.workers[before].is_fenced(), "lane {lane} was given away before it was given up");
        }
        let cause = self.fleet.causes[lane].take().unwrap_or(cause);
        self.fleet.owners[lane] = Some(self.fleet.workers.len());
        self.agenda.plan(now + ROUND, Event::Take(self.fleet.workers.len()));
        let position = self.log.partitions[lane].done;
        self.fleet.workers.push(Worker {
            process,
            lane: lease.partition,
            lease,
            standing: Standing::Working,
            cause: Some(cause),
            position,
            due: 0,
            chunk: None,
        });
    }

    fn revoked(&mut self, lease: &Arc<Lease>, cause: Cause) {
        self.fleet.causes[lease.partition as usize] = Some(cause);
        let worker = self.fleet.workers.iter().position(|worker| Arc::ptr_eq(&worker.lease, lease));
        self.stop(worker.expect("whoever has a lease has a worker"));
    }

    /// The worker may finish its chunk, for as long as the grace lasts.
    fn stop(&mut self, worker: usize) {
        if self.fleet.workers[worker].standing == Standing::Gone {
            return;
        }
        self.fleet.workers[worker].standing = Standing::Stopping;
        if self.fleet.workers[worker].chunk.is_none() {
            return self.end(worker);
        }
        let grace = self.config.stop_grace.as_millis() as Ms;
        self.agenda.plan(self.agenda.now + grace, Event::Abandon(worker));
    }

    /// The worker is no more, and its lane is free for the next one.
    fn end(&mut self, worker: usize) {
        let worker = &mut self.fleet.workers[worker];
        (worker.standing, worker.chunk) = (Standing::Gone, None);
        self.fleet.groups.release(&self.fleet.key, &worker.lease);
    }

    /// As [`Self::end`], when it ends by itself or its grace is over.
    pub(crate) fn retire(&mut self, worker: usize) {
        if self.fleet.workers[worker].standing != Standing::Gone {
            self.end(worker);
            self.deal(Cause::Joined);
        }
    }

    /// When the worker's process can do something again; `None` now, or never.
    pub(crate) fn paused(&self, worker: usize) -> Option<Ms> {
        let until = self.fleet.processes[self.fleet.workers[worker].process].paused_until;
        (until > self.agenda.now).then_some(until)
    }
}
