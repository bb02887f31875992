//! Dropping old segments: whole and sealed ones only, and never what some known group has still to read.

use super::{offsets::Key, segment::Segment, tail::Tail, writer::Writer};
use std::sync::Arc;

/// Drops what age and size allow, in every partition.
pub fn enforce(writer: &mut Writer) {
    let now = writer.world.now_micros() / 1_000;
    for at in 0..writer.tails.len() {
        let consumed = consumed(writer, &writer.tails[at]);
        seal_old(writer, at, now, consumed);
        let segments = writer.tails[at].partition.segments();
        let bounds =
            Bounds { oldest: now.saturating_sub(age(writer)), bytes: writer.options.retention_bytes, consumed };
        let Some(low) = keep_from(&segments, &bounds) else { continue };
        let tail = &mut writer.tails[at];
        match tail.drop_below(low) {
            Ok(()) => tracing::info!(
                topic = tail.partition.topic.name(),
                partition = tail.partition.number,
                low,
                "dropped old messages"
            ),
            Err(error) => tracing::warn!(segment = %tail.path().display(), %error, "cannot drop old segments"),
        }
    }
}

/// What may go.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Messages before this time (ms) may.
    oldest: i64,
    /// What a partition may keep, in bytes.
    bytes: u64,
    /// Only messages below this offset may at all.
    consumed: i64,
}

/// The first offset to keep, when any segment goes. `segments` are in order; the last one is being written and stays.
fn keep_from(segments: &[Arc<Segment>], bounds: &Bounds) -> Option<i64> {
    let mut bytes: u64 = segments.iter().map(|segment| segment.end().at).sum();
    let mut low = None;
    for pair in segments.windows(2) {
        let (segment, next) = (&pair[0], &pair[1].header);
        // The next segment's floor is the time of this one's last message.
        let unwanted = next.time_floor < bounds.oldest || bytes > bounds.bytes;
        if !unwanted || next.base > bounds.consumed {
            break;
        }
        bytes -= segment.end().at;
        low = Some(next.base);
    }
    low
}

/// Seals a segment that is old and consumed although it is not full, so that a quiet topic is dropped too.
fn seal_old(writer: &mut Writer, at: usize, now: i64, consumed: i64) {
    let old = now.saturating_sub(age(writer));
    let tail = &mut writer.tails[at];
    if tail.is_empty() || tail.last_time >= old || tail.end.offset > consumed || writer.halted.is_some() {
        return;
    }
    if let Err(error) = tail.roll(writer.world.as_ref()) {
        tracing::warn!(segment = %tail.path().display(), %error, "cannot begin a new segment");
    }
}

/// Everything below this has been read by every group that is known to read the partition. Where there is none, as for
/// dead letters, nothing has been read, and nothing may go.
fn consumed(writer: &Writer, tail: &Tail) -> i64 {
    let (topic, partition) = (tail.partition.topic, tail.partition.number);
    let groups = writer.options.groups.iter().filter(|(_, read)| *read == topic);
    let committed = groups.map(|(group, _)| {
        let key = Key { group: group.clone(), topic, partition };
        writer.offsets.committed(&key).unwrap_or(0)
    });
    committed.min().unwrap_or(0)
}

fn age(writer: &Writer) -> i64 {
    i64::try_from(writer.options.retention_age.as_millis()).unwrap_or(i64::MAX)
}
