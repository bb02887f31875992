//! The model world: a thousand lanes, and the events that move it.

use super::{
    agenda::{Agenda, Dice, Event, Ms},
    backends::{Lake, Log},
    figures::{Figures, Promises},
    fleet::{Cause, Fleet},
    senders::{Door, Sender},
};
use std::time::Duration;
use tributary_pipeline::{
    Config,
    passage::{Look, Passage},
};
use tributary_schemas::identity::Lanes;

/// What one message of the model stands for.
pub(crate) const RECORDS: usize = 4_000;
/// Bytes of it: benches/README.md has 670 for a record.
pub(crate) const MESSAGE_BYTES: usize = RECORDS * 670;
pub(crate) const LANES: u32 = 1_000;
const WORKSPACES: usize = 4_000;
/// Requests per second of all of them: a million records.
const REQUESTS: Ms = 250;
/// `--max-lag`.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks of the watch over the lag.
pub(crate) const WATCH_EVERY: Ms = 2_000;
/// Between two looks of the sweep.
const SWEEP_EVERY: Ms = 16_000;
/// `--landing-deadline`.
const DEADLINE: Duration = Duration::from_secs(600);

/// What a world begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Lanes of each workspace.
    pub(crate) spread: u32,
    /// Processes of the pipeline.
    pub(crate) processes: usize,
    /// Processes of the API.
    pub(crate) doors: usize,
    /// Senders send until then.
    pub(crate) until: Ms,
}

/// Something that happens to the fleet or the store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    Join,
    Leave,
    Kill,
    Pause(Ms),
    Store(Away),
    /// From now on it is watched whether the drain times come true that the lag tells.
    Promise,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Away {
    Begins,
    Ends,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) agenda: Agenda,
    pub(crate) dice: Dice,
    pub(crate) lanes: Lanes,
    pub(crate) config: Config,
    pub(crate) log: Log,
    pub(crate) lake: Lake,
    pub(crate) fleet: Fleet,
    pub(crate) doors: Vec<Door>,
    pub(crate) senders: Vec<Sender>,
    /// When somebody was refused who does not flood.
    pub(crate) refusals: Vec<Ms>,
    pub(crate) figures: Figures,
    pub(crate) promises: Promises,
    /// Whether somebody asks how far the lanes are behind.
    pub(crate) looks_at_lag: bool,
    acts: Vec<Act>,
    passage: Passage,
}

impl World {
    pub(crate) fn new(seed: u64, Plan { spread, processes, doors, until }: Plan) -> Self {
        let (every, lanes) = (WORKSPACES as Ms * 1_000 / REQUESTS, Lanes { partitions: LANES, spread });
        let sender = |number| Sender::new(number, every, (0, until), &lanes);
        let mut world = Self {
            agenda: Agenda::default(),
            dice: Dice::new(seed),
            lanes,
            // Half of the default, so that a chunk of the model is a few messages.
            config: Config { chunk_bytes: 6 << 20, ..Config::default() },
            log: Log::new(LANES),
            lake: Lake::new(WORKSPACES),
            fleet: Fleet::new(LANES),
            doors: (0..doors).map(|_| Door::new(LIMIT)).collect(),
            senders: (0..WORKSPACES).map(sender).collect(),
            refusals: Vec::new(),
            figures: Figures::new(WORKSPACES),
            promises: Promises::new(LANES),
            looks_at_lag: false,
            acts: Vec::new(),
            passage: Passage::new(DEADLINE),
        };
        for _ in 0..processes {
            world.join(Cause::Started);
        }
        world.agenda.plan(WATCH_EVERY, Event::Watch);
        world
    }

    /// Plans an act.
    pub(crate) fn at(&mut self, at: Ms, act: Act) {
        self.agenda.plan(at, Event::Act(self.acts.len()));
        self.acts.push(act);
    }

    /// Runs until that time.
    pub(crate) fn run(&mut self, until: Ms) {
        while let Some(event) = self.agenda.next(until) {
            self.happen(event);
        }
    }

    /// Runs until nothing waits, in the log or at the door, but not beyond `latest`; how long that took.
    pub(crate) fn drain(&mut self, latest: Ms) -> Ms {
        let began = self.agenda.now;
        while self.log.waiting() > 0 || self.held_back() > 0 {
            assert!(
                self.agenda.now < latest,
                "{} messages still wait, {} held back",
                self.log.waiting(),
                self.held_back()
            );
            self.run(self.agenda.now + 500);
        }
        self.agenda.now - began
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Send(sender) => self.send(sender),
            Event::Retry(sender) => self.send_pending(sender),
            Event::Look(door) => self.look(door),
            Event::Take(worker) => self.take(worker),
            Event::Put(worker, part) => self.put(worker, part),
            Event::Abandon(worker) => self.retire(worker),
            Event::Session(process) => self.session_over(process),
            Event::Wake(process) => self.wake(process),
            Event::Act(number) => self.act(self.acts[number]),
            Event::Watch => self.watch(),
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Join => self.join(Cause::Joined),
            Act::Leave => self.leave(self.anyone()),
            Act::Kill => self.kill(self.anyone()),
            Act::Pause(length) => self.pause(self.anyone(), length),
            Act::Store(away) => self.lake.is_away = away == Away::Begins,
            Act::Promise => {
                self.promises.look(&self.log.progress(), self.agenda.now);
                self.promises.make_all(self.agenda.now);
            }
        }
    }

    /// What is taken for settled has landed.
    fn sweep(&mut self) {
        let look = Look { at: self.agenda.now as i64 * 1_000, lanes: self.log.progress(), events: Vec::new() };
        let Some(settled) = self.passage.observe(look) else { return };
        self.figures.settled = self.figures.settled.max(settled.until);
        for (lane, partition) in self.log.partitions.iter().enumerate() {
            let oldest = partition.oldest().map_or(i64::MAX, |at| at as i64 * 1_000);
            assert!(settled.but_for_some || oldest >= settled.until, "lane {lane} is settled before it has landed");
        }
    }

    /// The lag is looked at, and now and then what is overdue.
    fn watch(&mut self) {
        let now = self.agenda.now;
        if self.looks_at_lag {
            self.promises.look(&self.log.progress(), now);
        }
        if now.is_multiple_of(SWEEP_EVERY) {
            self.sweep();
        }
        self.figures.oldest(self.log.partitions.iter().filter_map(|one| Some(now - one.oldest()?)));
        self.agenda.plan(now + WATCH_EVERY, Event::Watch);
    }

    /// At the end: all that was taken has landed, once.
    pub(crate) fn assert_exact(&self) {
        let taken: u64 = self.senders.iter().map(|sender| sender.taken).sum();
        let messages = || self.log.partitions.iter().flat_map(|one| &one.messages);
        assert_eq!(messages().count() as u64, taken);
        assert!(messages().all(|message| message.landed == 1));
        let shares = self.fleet.shares();
        let (least, most) = (shares.iter().min(), shares.iter().max());
        assert_eq!(shares.iter().sum::<usize>(), LANES as usize, "every lane has an owner: {shares:?}");
        assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "shares differ: {shares:?}");
        // The sweep may call nothing failed that can still land, but it must not wait for ever either.
        let asked: u64 = self.senders.iter().filter(|sender| !sender.floods).map(|sender| sender.asked).sum();
        let given: u64 = self.senders.iter().filter(|sender| !sender.floods).map(|sender| sender.taken).sum();
        assert_eq!(asked, given, "who comes back is let in");
    }
}
