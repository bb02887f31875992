//! One group of appends: laid out, written and synced together, so that many callers share one sync.

use super::{
    disk::{self, Disk},
    frame::FrameHeader,
    recovery::Place,
    segment,
    tail::Tail,
};
use crate::{
    log::{Append, LogError},
    trace::TraceParent,
};
use bytes::Bytes;
use std::{io, ops::Range};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Appends of one caller, waiting for the disk.
#[derive(Debug)]
pub struct Request {
    /// What to append.
    pub messages: Vec<Message>,
    /// Where the offsets go once all are durable.
    pub reply: oneshot::Sender<Result<Vec<i64>, LogError>>,
    /// Room in the queue, given back when the request is dropped.
    pub _room: OwnedSemaphorePermit,
}

/// A message on its way into a partition.
#[derive(Debug)]
pub struct Message {
    /// Index of the partition's tail.
    pub tail: usize,
    /// Checksum of trace, key and value, computed by the caller.
    pub sum: u32,
    /// The trace that it carries.
    pub trace: Option<TraceParent>,
    /// The message's key.
    pub key: Bytes,
    /// The message's value.
    pub value: Bytes,
}

impl Message {
    /// Takes the message for the partition with index `tail`; computes its checksum.
    pub fn new(tail: usize, append: Append, trace: Option<TraceParent>) -> Self {
        let Append { key, value, .. } = append;
        Self { tail, sum: super::frame::body_sum(trace.as_ref(), &key, &value), trace, key, value }
    }

    /// Bytes of key and value.
    pub fn len(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// Why a partition could not take its part of a group.
#[derive(Debug, Clone)]
pub enum Failure {
    /// No room; nothing of the group is in the partition.
    Full(String),
    /// Something else that may pass; nothing of the group is in the partition.
    Unavailable(String),
    /// The log takes no more appends until it is opened again.
    Halted(String),
}

impl From<&Failure> for LogError {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Full(reason) => Self::Full(reason.clone()),
            Failure::Unavailable(reason) => Self::Unavailable(reason.clone()),
            Failure::Halted(reason) => Self::Halted(reason.clone()),
        }
    }
}

/// Bytes given to the disk at once: enough for a system call to cost nothing beside them, few enough to stay in the
/// processor's cache.
const WRITE_BYTES: usize = 256 << 10;

/// What a group brings to one partition.
#[derive(Debug)]
pub struct Part<'m> {
    /// Headers, traces and keys of all frames, one after the other.
    heads: Vec<u8>,
    /// For each frame its place in `heads`, and its value.
    frames: Vec<(Range<usize>, &'m Bytes)>,
    /// Places for the sparse index.
    pub places: Vec<Place>,
    /// Behind the last frame.
    pub end: Place,
    /// Time of its messages (ms).
    pub time: i64,
    salt: u32,
    first: i64,
}

impl<'m> Part<'m> {
    /// A part that begins at the end of `tail`, at time `now` or later.
    pub fn begin(tail: &Tail, now: i64) -> Self {
        let (end, salt) = (tail.end, tail.header.salt);
        // A clock that jumped back must not make a message older than the one before it.
        let time = now.max(tail.last_time);
        Self { heads: Vec::new(), frames: Vec::new(), places: Vec::new(), end, time, salt, first: end.offset }
    }

    /// Adds a message; its offset.
    pub fn add(&mut self, message: &'m Message) -> i64 {
        let offset = self.end.offset;
        let header = FrameHeader {
            body_sum: message.sum,
            traced: message.trace.is_some(),
            key_len: message.key.len() as u32,
            value_len: message.value.len() as u32,
            place: (offset - self.first) as u32,
            offset,
            appended_at: self.time,
        };
        let start = self.heads.len();
        header.encode(self.salt, &mut self.heads);
        self.heads.extend_from_slice(message.trace.as_ref().map_or(&[], |trace| trace.as_str().as_bytes()));
        self.heads.extend_from_slice(&message.key);
        self.frames.push((start..self.heads.len(), &message.value));
        segment::note(&mut self.places, self.end);
        self.end = Place { offset: offset + 1, at: self.end.at + header.frame_len() as u64 };
        offset
    }

    /// Writes the part behind the tail's end. Frames are gathered in `buffer` first: a `writev` of their pieces costs
    /// more, for the kernel copies whole pages faster than small pieces by what gathering them costs, and more.
    pub fn write(&self, tail: &Tail, disk: &dyn Disk, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        let write = |bytes: &[u8]| disk.write(&tail.file, bytes).map_err(|error| undo_write(tail, &error));
        buffer.clear();
        for (head, value) in &self.frames {
            let head = &self.heads[head.clone()];
            if buffer.len() + head.len() + value.len() > WRITE_BYTES {
                write(buffer)?;
                buffer.clear();
            }
            buffer.extend_from_slice(head);
            if value.len() < WRITE_BYTES {
                buffer.extend_from_slice(value);
            } else {
                write(buffer)?;
                buffer.clear();
                write(value)?;
            }
        }
        write(buffer)
    }
}

/// After a failed write: cuts off what had been written of it, so that the next append finds a clean end.
fn undo_write(tail: &Tail, error: &io::Error) -> Failure {
    let path = tail.path();
    let failed = format!("cannot write {}: {error}", path.display());
    match disk::cut(&tail.file, tail.end.at) {
        Ok(()) if disk::is_full(error) => Failure::Full(failed),
        Ok(()) => Failure::Halted(failed),
        Err(again) => Failure::Halted(format!("{failed}; nor can the unfinished write be cut off: {again}")),
    }
}

/// After a failed sync: nothing that was written since the last good one can be trusted, whatever the page cache
/// shows, and syncing again proves nothing (the kernel has forgotten the failure). So it is all cut off, which is
/// allowed since nobody was told of it. A full disk is then as if nothing had been tried; any other reason halts the
/// log, for a disk that lost one write may have lost others.
pub fn undo_sync(tail: &Tail, disk: &dyn Disk, error: &io::Error) -> Failure {
    let path = tail.path();
    let failed = format!("cannot sync {}: {error}", path.display());
    let undone = disk::cut(&tail.file, tail.end.at).and_then(|()| disk.sync(&tail.file));
    match undone {
        Ok(()) if disk::is_full(error) => Failure::Full(failed),
        Ok(()) => Failure::Halted(failed),
        Err(again) => Failure::Halted(format!("{failed}; nor can the unfinished write be cut off: {again}")),
    }
}
