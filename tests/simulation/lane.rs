//! A lane at work, by the pipeline's own rules: where a chunk ends, when the next may go, the order of its tables, and what
//! of it a table has already. How long the work takes is the model's.

use super::{
    agenda::{Event, Ms},
    backends::Put,
    fleet::Standing,
    world::{MESSAGE_BYTES, RECORDS, World},
};
use std::collections::BTreeMap;
use tributary_pipeline::chunking::{Gathered, landed_before, smallest_first};

/// Records per second of a lane that has all of its share of a processor.
const QUICKNESS: f64 = 5_000.0;
/// Mean time of data file, deletion vectors and commit, one after the other.
const PUTS: Ms = 300;
/// Those of them that a commit takes whose files are there: the newest version is read, and the commit put.
const COMMIT: Ms = 100;
/// Mean wait between two tries while the store is away.
const PATIENCE: Ms = 2_500;
/// One answer to a commit in so many is lost on its way.
const LOST: u64 = 500;

#[derive(Debug)]
pub(crate) struct Chunk {
    /// Offset after it.
    next: i64,
    parts: Vec<Part>,
    begun: usize,
    ended: usize,
    /// When the lane's processor is free again.
    processor: Ms,
}

/// A table's part of a chunk.
#[derive(Debug)]
struct Part {
    workspace: usize,
    offsets: Vec<i64>,
    /// Version of the table that it was resolved for, and how much of it was in that.
    version: u64,
    landed: usize,
}

impl World {
    /// The worker takes its next chunk, if there is one and it may go.
    pub(crate) fn take(&mut self, number: usize) {
        if self.fleet.workers[number].standing == Standing::Gone || self.fleet.workers[number].chunk.is_some() {
            return;
        }
        if let Some(until) = self.paused(number) {
            return self.agenda.plan(until, Event::Take(number));
        }
        let worker = &self.fleet.workers[number];
        if worker.is_fenced() || worker.standing == Standing::Stopping {
            return self.retire(number);
        }
        let (lane, due, now) = (worker.lane as usize, worker.due, self.agenda.now);
        if worker.position >= self.log.partitions[lane].high() {
            return self.log.partitions[lane].waiting.push(number);
        }
        if now < due {
            return self.agenda.plan(due, Event::Take(number));
        }
        let (chunk, gathered) = self.gather(lane, worker.position);
        let worker = &mut self.fleet.workers[number];
        worker.due = now + gathered.pause(&self.config).as_millis() as Ms;
        let first = chunk.parts.len().min(self.config.concurrent_tables);
        worker.chunk = Some(chunk);
        for _ in 0..first {
            self.begin_next(number);
        }
    }

    fn gather(&self, lane: usize, from: i64) -> (Chunk, Gathered) {
        let (partition, mut gathered) = (&self.log.partitions[lane], Gathered::default());
        let mut next = from;
        while !gathered.is_whole(&self.config) && next < partition.high() {
            let room = gathered.room(&self.config);
            // A message always fits.
            let most = (room.bytes / MESSAGE_BYTES).max(1).min(room.records);
            let read = most.min((partition.high() - next) as usize);
            gathered.records += read;
            gathered.bytes += read * MESSAGE_BYTES;
            next += read as i64;
        }
        let mut tables: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
        for offset in from..next {
            let workspace = self.log.partitions[lane].messages[offset as usize].workspace;
            tables.entry(workspace).or_default().push(offset);
        }
        let part = |(workspace, offsets)| Part { workspace, offsets, version: 0, landed: 0 };
        let mut parts: Vec<_> = tables.into_iter().map(part).collect();
        smallest_first(&mut parts, |part| part.offsets.len());
        (Chunk { next, parts, begun: 0, ended: 0, processor: self.agenda.now }, gathered)
    }

    fn begin_next(&mut self, number: usize) {
        let Some(chunk) = &mut self.fleet.workers[number].chunk else { return };
        if chunk.begun < chunk.parts.len() {
            chunk.begun += 1;
            let part = chunk.begun - 1;
            self.resolve(number, part);
        }
    }

    /// What of the part is not in the table yet is written, for the version that the table has now.
    fn resolve(&mut self, number: usize, place: usize) {
        let pace = self.fleet.processes[self.fleet.workers[number].process].pace;
        let worker = &mut self.fleet.workers[number];
        let lane = worker.lane;
        let Some(chunk) = &mut worker.chunk else { return };
        let part = &mut chunk.parts[place];
        part.version = self.lake.version(part.workspace);
        part.landed = landed_before(&part.offsets, self.lake.position(part.workspace, lane));
        let missing = part.offsets.len() - part.landed;
        self.figures.replayed += part.landed as u64;
        if missing == 0 {
            return self.part_ended(number);
        }
        let work = (missing * RECORDS) as f64 * 1_000.0 / QUICKNESS / pace;
        chunk.processor = chunk.processor.max(self.agenda.now) + work as Ms;
        self.agenda.plan(chunk.processor + self.dice.about(PUTS), Event::Put(number, place));
    }

    /// The part is written; now it is committed.
    pub(crate) fn put(&mut self, number: usize, place: usize) {
        if self.fleet.workers[number].standing == Standing::Gone {
            return;
        }
        if let Some(until) = self.paused(number) {
            return self.agenda.plan(until, Event::Put(number, place));
        }
        let worker = &self.fleet.workers[number];
        let (lane, Some(chunk)) = (worker.lane, &worker.chunk) else { return };
        let part = &chunk.parts[place];
        match self.lake.put(part.workspace, part.version, (lane, chunk.next)) {
            Put::Away => self.agenda.plan(self.agenda.now + self.dice.about(PATIENCE), Event::Put(number, place)),
            Put::Conflict => {
                self.figures.conflicts += 1;
                self.lost(number, place);
            }
            Put::Done => {
                for offset in &part.offsets[part.landed..] {
                    let message = &mut self.log.partitions[lane as usize].messages[*offset as usize];
                    message.landed += 1;
                    assert_eq!(message.landed, 1, "offset {offset} of lane {lane} has landed twice: {worker:?}");
                    self.figures.landed(message.workspace, self.agenda.now - message.at);
                }
                if self.dice.one_in(LOST) {
                    // As after a conflict: look at what the table says now.
                    self.figures.conflicts += 1;
                    return self.resolve(number, place);
                }
                self.part_ended(number);
            }
        }
    }

    /// Another commit came first. What was written for an older version is put on the newest if only other lanes have
    /// committed since.
    fn lost(&mut self, number: usize, place: usize) {
        let worker = &mut self.fleet.workers[number];
        let Some(chunk) = &mut worker.chunk else { return };
        let part = &mut chunk.parts[place];
        if landed_before(&part.offsets, self.lake.position(part.workspace, worker.lane)) != part.landed {
            return self.resolve(number, place);
        }
        part.version = self.lake.version(part.workspace);
        self.agenda.plan(self.agenda.now + self.dice.about(COMMIT), Event::Put(number, place));
    }

    fn part_ended(&mut self, number: usize) {
        let Some(chunk) = &mut self.fleet.workers[number].chunk else { return };
        chunk.ended += 1;
        if chunk.ended < chunk.parts.len() {
            return self.begin_next(number);
        }
        let next = chunk.next;
        self.fleet.workers[number].chunk = None;
        self.commit_offsets(number, next);
        self.agenda.plan(self.agenda.now, Event::Take(number));
    }

    fn commit_offsets(&mut self, number: usize, next: i64) {
        let (newest, now) = (self.fleet.is_newest(number), self.agenda.now);
        let worker = &mut self.fleet.workers[number];
        if worker.is_fenced() {
            // Refused by the broker: another one has the lane.
            self.figures.fenced += 1;
            return;
        }
        assert!(newest, "two owners of lane {} may commit offsets", worker.lane);
        let partition = &mut self.log.partitions[worker.lane as usize];
        assert!(next > partition.done, "offsets go back in lane {}", worker.lane);
        let since = partition.oldest().unwrap_or(now).max(partition.moved_at);
        self.figures.moved(worker.cause.take(), now - since);
        (partition.done, partition.moved_at, worker.position) = (next, now, next);
        self.promises.committed(worker.lane, next, now);
    }
}
