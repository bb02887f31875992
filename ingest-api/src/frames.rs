//! A checked batch → the messages for the log, all of them in few allocations. Pure.

use crate::batch::{Checked, Rejected};
use bytes::Bytes;
use tributary_backends::log::{Append, Topic};
use tributary_schemas::{
    frame::{Frame as _, Reject, RejectError, Stamp, encode_record},
    identity::{Identity, Lanes, partition_of},
};

/// Bytes kept of a rejected record's text.
pub const MAX_REJECT_PAYLOAD: usize = 256 * 1024;
/// Bytes that a frame has beyond the record's own text, roughly; only a hint for the allocation.
const FRAME_OVERHEAD: usize = 128;

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

/// The messages of a batch: its records in the body's order, then its rejects.
pub fn messages(
    checked: &Checked<'_>,
    stamp: &BatchStamp<'_>,
    lanes: &Lanes,
    body_len: usize,
    reject_partitions: u32,
) -> Vec<Append> {
    let mut messages = Vec::with_capacity(checked.accepted.len() + checked.rejected.len());
    records(checked, stamp, lanes, body_len, &mut messages);
    rejects(&checked.rejected, stamp, reject_partitions, &mut messages);
    messages
}

fn records(checked: &Checked<'_>, stamp: &BatchStamp<'_>, lanes: &Lanes, body_len: usize, out: &mut Vec<Append>) {
    let lanes_of_workspace = lanes.of(stamp.workspace);
    let routes: Vec<(Identity, u32)> = checked
        .accepted
        .iter()
        .map(|(_, record)| {
            let identity = Identity::of(record);
            (identity, lanes_of_workspace.lane(&identity))
        })
        .collect();
    let last = last_of_each_lane(routes.iter().map(|(_, lane)| *lane), lanes.partitions);
    let lanes_in_batch = u32::try_from(last.iter().flatten().count()).unwrap_or(u32::MAX);

    let mut keys = Vec::with_capacity(routes.len() * 16);
    let mut values = Vec::with_capacity(body_len + routes.len() * FRAME_OVERHEAD);
    let mut ends = Vec::with_capacity(routes.len());
    for (place, ((index, record), (identity, lane))) in checked.accepted.iter().zip(&routes).enumerate() {
        let ends_lane = last[*lane as usize] == Some(place);
        let stamp = Stamp {
            workspace: stamp.workspace,
            source: stamp.source,
            batch_id: stamp.batch_id,
            record_index: *index,
            received_at: stamp.received_at,
            identity: *identity,
            lanes_in_batch: ends_lane.then_some(lanes_in_batch),
        };
        encode_record(&stamp, record, &mut values);
        keys.extend_from_slice(&identity.0);
        ends.push(values.len());
    }

    let (keys, values) = (Bytes::from(keys), Bytes::from(values));
    let mut start = 0;
    for (place, (end, (_, lane))) in ends.into_iter().zip(&routes).enumerate() {
        let key = keys.slice(place * 16..(place + 1) * 16);
        out.push(Append { topic: Topic::Records, partition: *lane, key, value: values.slice(start..end) });
        start = end;
    }
}

/// For each lane the place of the last record that goes to it.
fn last_of_each_lane(lanes: impl Iterator<Item = u32>, partitions: u32) -> Vec<Option<usize>> {
    let mut last = vec![None; partitions as usize];
    for (place, lane) in lanes.enumerate() {
        last[lane as usize] = Some(place);
    }
    last
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
