//! Records as the API puts them into the log.

use crate::backends::{LANES, WORKSPACE};
use bytes::Bytes;
use tributary_backends::log::{Append, Topic};
use tributary_schemas::{
    frame::{Stamp, encode_record},
    identity::Identity,
    record::{self, Record},
};

/// A record comes from some time in 2025.
const RECEIVED_AT: i64 = 1_750_000_000_000_000;
/// Bytes that a frame has beyond the record's text, roughly.
const FRAME_OVERHEAD: usize = 128;

/// The lines of NDJSON.
pub fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Reads a record that is known to be good.
pub fn parse(line: &[u8]) -> anyhow::Result<Record<'_>> {
    record::parse(line).map_err(|errors| anyhow::anyhow!("a message is no record: {errors:?}"))
}

/// What the API adds to a record.
pub fn stamp(batch_id: &str, record_index: u32, identity: Identity) -> Stamp<'_> {
    Stamp {
        workspace: WORKSPACE,
        source: "bench",
        batch_id,
        record_index,
        received_at: RECEIVED_AT,
        identity,
        lanes_in_batch: None,
    }
}

/// A batch's messages, their values in one buffer. With the default spread all go to one lane.
pub fn batch(body: &[u8], batch_id: &str) -> anyhow::Result<Vec<Append>> {
    let records = lines(body).map(parse).collect::<anyhow::Result<Vec<_>>>()?;
    let mut frames = Vec::with_capacity(body.len() + FRAME_OVERHEAD * records.len());
    let mut ends = Vec::with_capacity(records.len());
    for (index, record) in (0u32..).zip(&records) {
        let identity = Identity::of(record);
        let last = ends.len() + 1 == records.len();
        let stamp = Stamp { lanes_in_batch: last.then_some(1), ..stamp(batch_id, index, identity) };
        encode_record(&stamp, record, &mut frames);
        ends.push((identity, frames.len()));
    }
    let frames = Bytes::from(frames);
    let mut start = 0;
    let message = |(identity, end): (Identity, usize)| {
        let value = frames.slice(start..end);
        start = end;
        let partition = LANES.of(WORKSPACE).lane(&identity);
        Append { topic: Topic::Records, partition, key: Bytes::copy_from_slice(&identity.0), value }
    };
    Ok(ends.into_iter().map(message).collect())
}
