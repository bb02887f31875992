//! The records of a batch → the messages for the log, all of them in few allocations. Pure.

use crate::batch::Rejected;
use bytes::Bytes;
use tributary_backends::log::{Append, Topic};
use tributary_schemas::{
    frame::{Frame as _, Reject, RejectError, Stamp, encode_record},
    identity::{Identity, Lanes, WorkspaceLanes, partition_of},
    record::Record,
};

/// Bytes kept of a rejected record's text.
pub const MAX_REJECT_PAYLOAD: usize = 256 * 1024;
/// Bytes of an identity.
const KEY_BYTES: usize = 16;
/// Room for one frame beyond the body's length, which the frames of most bodies do not exceed; only a hint for the
/// allocation.
const FRAME_OVERHEAD: usize = 4 << 10;

/// What is stamped on every record of a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchStamp<'a> {
    /// Workspace of the key.
    pub workspace: &'a str,
    /// Source of the key.
    pub source: &'a str,
    /// The batch.
    pub batch_id: &'a str,
    /// Microseconds since the Unix epoch.
    pub received_at: i64,
}

/// The messages of a batch in the making.
///
/// The last record that goes to a lane says how many lanes the batch has, which nobody knows before its end. So each
/// lane's newest record waits until the next one for that lane comes; within a lane the body's order holds.
#[derive(Debug)]
pub struct Messages<'a> {
    stamp: BatchStamp<'a>,
    lanes: WorkspaceLanes,
    /// Each lane's newest record.
    waiting: Vec<Option<Waiting<'a>>>,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Lane of each message, and where its value ends.
    routes: Vec<(u32, usize)>,
}

#[derive(Debug)]
struct Waiting<'a> {
    index: u32,
    identity: Identity,
    record: Record<'a>,
}

impl<'a> Messages<'a> {
    /// None yet, of a body of so many bytes.
    pub fn new(stamp: BatchStamp<'a>, lanes: &Lanes, body_len: usize) -> Self {
        Self {
            stamp,
            lanes: lanes.of(stamp.workspace),
            waiting: (0..lanes.partitions).map(|_| None).collect(),
            keys: Vec::new(),
            values: Vec::with_capacity(body_len + FRAME_OVERHEAD),
            routes: Vec::new(),
        }
    }

    /// Adds the next record of the body.
    pub fn add(&mut self, index: u32, record: Record<'a>) {
        let identity = Identity::of(&record);
        let lane = self.lanes.lane(&identity);
        let waiting =
            self.waiting.get_mut(lane as usize).and_then(|newest| newest.replace(Waiting { index, identity, record }));
        if let Some(before) = waiting {
            self.encode(lane, &before, None);
        }
    }

    /// All messages of the batch: its records, then its rejects.
    pub fn finish(mut self, rejected: &[Rejected<'_>], reject_partitions: u32) -> Vec<Append> {
        let last = std::mem::take(&mut self.waiting);
        let lanes_in_batch = u32::try_from(last.iter().flatten().count()).unwrap_or(u32::MAX);
        for (lane, record) in (0u32..).zip(&last) {
            if let Some(record) = record {
                self.encode(lane, record, Some(lanes_in_batch));
            }
        }
        let mut messages = Vec::with_capacity(self.routes.len() + rejected.len());
        let (keys, values) = (Bytes::from(self.keys), Bytes::from(self.values));
        let mut start = 0;
        for (place, (partition, end)) in self.routes.into_iter().enumerate() {
            let key = keys.slice(place * KEY_BYTES..(place + 1) * KEY_BYTES);
            messages.push(Append { topic: Topic::Records, partition, key, value: values.slice(start..end) });
            start = end;
        }
        rejects(rejected, &self.stamp, reject_partitions, &mut messages);
        messages
    }

    fn encode(&mut self, lane: u32, waiting: &Waiting<'_>, lanes_in_batch: Option<u32>) {
        let Waiting { index, identity, record } = waiting;
        let stamp = Stamp {
            workspace: self.stamp.workspace,
            source: self.stamp.source,
            batch_id: self.stamp.batch_id,
            record_index: *index,
            received_at: self.stamp.received_at,
            identity: *identity,
            lanes_in_batch,
        };
        encode_record(&stamp, record, &mut self.values);
        self.keys.extend_from_slice(&identity.0);
        self.routes.push((lane, self.values.len()));
    }
}

fn rejects(rejected: &[Rejected<'_>], stamp: &BatchStamp<'_>, partitions: u32, out: &mut Vec<Append>) {
    let key = Bytes::copy_from_slice(stamp.batch_id.as_bytes());
    let partition = partition_of(stamp.batch_id.as_bytes(), partitions);
    for rejected in rejected {
        let mut value = Vec::new();
        reject(rejected, stamp).encode(&mut value);
        out.push(Append { topic: Topic::Rejects, partition, key: key.clone(), value: value.into() });
    }
}

fn reject(rejected: &Rejected<'_>, stamp: &BatchStamp<'_>) -> Reject {
    let text = rejected.piece.text;
    let kept = &text[..text.len().min(MAX_REJECT_PAYLOAD)];
    let errors = rejected.errors.iter().map(|error| RejectError {
        code: error.code.as_str().to_owned(),
        pointer: error.pointer.clone(),
        message: error.message.clone(),
    });
    Reject {
        workspace: stamp.workspace.to_owned(),
        batch_id: stamp.batch_id.to_owned(),
        record_index: rejected.index,
        line: rejected.piece.line,
        received_at: stamp.received_at,
        errors: errors.collect(),
        payload: String::from_utf8_lossy(kept).into_owned(),
        payload_cut: kept.len() < text.len(),
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
