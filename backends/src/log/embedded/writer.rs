//! The one thread that writes: takes every append that waits, writes each partition's part in one go, syncs each file
//! once, then answers. While it syncs, the next group gathers.

use super::{
    disk::{self, Disk},
    group::{self, Failure, Part, Request},
    offsets::Offsets,
    options::Options,
    retention,
    tail::Tail,
};
use crate::{crash, log::LogError, world::World};
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The writing thread's state.
#[derive(Debug)]
pub struct Writer {
    /// One for each partition of each topic.
    pub tails: Vec<Tail>,
    /// How files are written and synced.
    disk: Arc<dyn Disk>,
    /// For timestamps and salts.
    pub world: Arc<dyn World>,
    /// What the groups have consumed, for retention.
    pub offsets: Arc<Offsets>,
    /// Choices.
    pub options: Options,
    /// Why nothing can be appended any more.
    pub halted: Option<Failure>,
    /// Where frames are gathered before they are written.
    buffer: Vec<u8>,
}

impl Writer {
    /// The writer of these partitions.
    pub fn new(
        tails: Vec<Tail>,
        disk: Arc<dyn Disk>,
        world: Arc<dyn World>,
        offsets: Arc<Offsets>,
        options: Options,
    ) -> Self {
        Self { tails, disk, world, offsets, options, halted: None, buffer: Vec::new() }
    }

    /// Works until the senders are gone and everything that they sent is answered.
    pub fn run(mut self, requests: &Receiver<Request>) {
        let mut next_look = Instant::now();
        loop {
            let wait = next_look.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                retention::enforce(&mut self);
                next_look = Instant::now() + self.options.retention_interval.max(Duration::from_millis(1));
                continue;
            }
            match self.take_group(requests, wait) {
                Ok(group) => {
                    if self.commit(group) {
                        next_look = Instant::now();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.tails.iter().for_each(Tail::close);
        if let Err(error) = self.offsets.sync() {
            tracing::warn!(%error, "cannot sync the committed offsets");
        }
    }

    /// Everything that waits, up to the size of a group; waits for the first one.
    fn take_group(&self, requests: &Receiver<Request>, wait: Duration) -> Result<Vec<Request>, RecvTimeoutError> {
        let mut bytes = 0;
        let mut group = Vec::new();
        let mut next = requests.recv_timeout(wait)?;
        loop {
            bytes += next.messages.iter().map(group::Message::len).sum::<usize>();
            group.push(next);
            if bytes >= self.options.group_bytes {
                return Ok(group);
            }
            match requests.try_recv() {
                Ok(request) => next = request,
                Err(_) => return Ok(group),
            }
        }
    }

    /// Makes a group durable and answers its callers; whether a segment was sealed.
    fn commit(&mut self, group: Vec<Request>) -> bool {
        let mut failures = vec![self.halted.clone(); self.tails.len()];
        let mut rolled = false;
        if self.halted.is_none() {
            rolled = self.roll_full(&group, &mut failures);
        }
        let (parts, offsets) = self.lay_out(&group);
        self.write(&parts, &mut failures);
        crash::point("log.append.before_sync");
        self.sync(&parts, &mut failures);
        crash::point("log.append.after_sync");
        self.publish(parts, &failures);
        if let Some(halt) = failures.iter().flatten().find(|failure| matches!(failure, Failure::Halted(_))) {
            self.halt(halt.clone());
        }
        for (request, offsets) in group.into_iter().zip(offsets) {
            let mut failed = request.messages.iter().find_map(|message| failures[message.tail].as_ref());
            if request.messages.is_empty() {
                failed = self.halted.as_ref();
            }
            // A caller that is gone does not want to know.
            let _ = request.reply.send(failed.map_or(Ok(offsets), |failure| Err(LogError::from(failure))));
        }
        rolled
    }

    /// Begins a new segment in each partition of the group whose segment is full.
    fn roll_full(&mut self, group: &[Request], failures: &mut [Option<Failure>]) -> bool {
        let mut touched = vec![false; self.tails.len()];
        group.iter().flat_map(|request| &request.messages).for_each(|message| touched[message.tail] = true);
        let mut rolled = false;
        for (at, tail) in self.tails.iter_mut().enumerate() {
            if !touched[at] || tail.is_empty() || tail.end.at < self.options.segment_bytes {
                continue;
            }
            match tail.roll(self.world.as_ref()) {
                Ok(()) => rolled = true,
                Err(error) => {
                    let reason = format!("cannot begin a segment after {}: {error}", tail.path().display());
                    let full = disk::is_full(&error);
                    failures[at] = Some(if full { Failure::Full(reason) } else { Failure::Unavailable(reason) });
                }
            }
        }
        rolled
    }

    fn lay_out<'g>(&self, group: &'g [Request]) -> (Vec<Option<Part<'g>>>, Vec<Vec<i64>>) {
        let now = self.world.now_micros() / 1_000;
        let mut parts: Vec<Option<Part<'g>>> = self.tails.iter().map(|_| None).collect();
        let mut place = |message: &'g group::Message| {
            let part = parts[message.tail].get_or_insert_with(|| Part::begin(&self.tails[message.tail], now));
            part.add(message)
        };
        let offsets = group.iter().map(|request| request.messages.iter().map(&mut place).collect()).collect();
        (parts, offsets)
    }

    fn write(&mut self, parts: &[Option<Part<'_>>], failures: &mut [Option<Failure>]) {
        for ((part, tail), failure) in parts.iter().zip(&self.tails).zip(failures) {
            if let (Some(part), None) = (part, failure.as_ref()) {
                *failure = part.write(tail, self.disk.as_ref(), &mut self.buffer).err();
            }
        }
    }

    /// Syncs the files of all written parts, at once when there are several.
    fn sync(&self, parts: &[Option<Part<'_>>], failures: &mut [Option<Failure>]) {
        let wanted: Vec<usize> = (0..parts.len()).filter(|&at| parts[at].is_some() && failures[at].is_none()).collect();
        let Some((&own, others)) = wanted.split_first() else { return };
        let sync = |at: usize| (at, self.disk.sync(&self.tails[at].file));
        let results: Vec<(usize, io::Result<()>)> = std::thread::scope(|scope| {
            let helpers: Vec<_> = others.iter().map(|&at| (at, scope.spawn(move || sync(at)))).collect();
            let first = sync(own);
            let joined = helpers.into_iter().map(|(at, helper)| {
                helper.join().unwrap_or_else(|_| (at, Err(io::Error::other("the syncing thread panicked"))))
            });
            std::iter::once(first).chain(joined).collect()
        });
        for (at, result) in results {
            let undo = |error| group::undo_sync(&self.tails[at], self.disk.as_ref(), &error);
            failures[at] = result.err().map(undo);
        }
    }

    fn publish(&mut self, parts: Vec<Option<Part<'_>>>, failures: &[Option<Failure>]) {
        for ((part, tail), failure) in parts.into_iter().zip(&mut self.tails).zip(failures) {
            if let (Some(part), None) = (part, failure) {
                tail.publish(part.end, part.time, &part.places);
            }
        }
    }

    fn halt(&mut self, failure: Failure) {
        let Failure::Halted(reason) = &failure else { return };
        if self.halted.is_none() {
            tracing::error!(%reason, "the log takes no more appends; check the disk, then start again");
            self.halted = Some(failure);
        }
    }
}
