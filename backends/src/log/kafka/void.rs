//! An append that failed must not come to pass later.
//!
//! What was sent may lie in a network for longer than anybody waits for it. Against what the same process sends later the
//! brokers know how to tell (the idempotent producer's sequence), but not against what others send: a version of a record
//! that its sender was told to send again would land behind a newer one.
//!
//! So each message says until when it may be appended, *by the clock of the broker that appends it*, which stamps it
//! (`LogAppendTime`). One that was stamped later is void: readers pass over it, and whoever sent it sees the same stamp in
//! the acknowledgement and takes it for a failure. Both judge by the same two numbers, so nothing that was acknowledged is
//! ever passed over, whatever the clocks do. And an append fails no sooner than that time is over, so that whoever hears
//! of the failure and sends again, here or elsewhere, comes behind it.
//!
//! For the last part we must know what time it is at the broker: an acknowledgement tells. It was stamped before it
//! arrived, so by what we know the broker is behind a little, and the time given a little short, which is the safe side.
//! What remains is that the clocks of two brokers that lead a partition one after the other must agree within
//! [`MARGIN`].

use super::{header, options::Options};
use crate::log::Topic;
use rdkafka::{Message, Timestamp, message::BorrowedMessage};
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The header with the last millisecond at which the message may be appended: eight bytes, the greatest first.
pub(super) const HEADER: &std::ffi::CStr = c"not-after";
/// Between the time given to a message and the failure of its append.
pub(super) const MARGIN: Duration = Duration::from_secs(1);
const UNKNOWN: i64 = i64::MIN;
/// A broker that seems further behind than before is believed by this part of the difference: it is rather the
/// acknowledgement that took longer.
const BELIEVED: i64 = 8;

/// What time it is at the leader of each partition.
#[derive(Debug)]
pub(super) struct Clocks {
    /// The wall clock at `since`; from then on it is not looked at, for it may jump.
    started_at: i64,
    since: Instant,
    /// By topic and partition: how far its leader is ahead of us, in milliseconds.
    ahead: Vec<Vec<AtomicI64>>,
}

impl Clocks {
    pub(super) fn new(options: &Options) -> Self {
        let unknown = |topic| (0..options.partitions(topic)).map(|_| AtomicI64::new(UNKNOWN)).collect();
        Self {
            started_at: options.world.now_micros() / 1_000,
            since: Instant::now(),
            ahead: Topic::ALL.map(unknown).into(),
        }
    }

    /// Milliseconds since the Unix epoch by our own clock.
    pub(super) fn here(&self) -> i64 {
        self.at(Instant::now())
    }

    /// The same at another moment.
    pub(super) fn at(&self, moment: Instant) -> i64 {
        let since = moment.saturating_duration_since(self.since);
        self.started_at.saturating_add(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn of(&self, topic: Topic, partition: u32) -> Option<&AtomicI64> {
        self.ahead.get(topic as usize)?.get(partition as usize)
    }

    /// Whether [`Self::there`] is more than a guess by our own clock.
    pub(super) fn knows(&self, topic: Topic, partition: u32) -> bool {
        self.of(topic, partition).is_some_and(|ahead| ahead.load(Ordering::Relaxed) != UNKNOWN)
    }

    /// A message was appended then.
    pub(super) fn acknowledged(&self, topic: Topic, partition: u32, appended_at: i64) {
        self.learn(topic, partition, appended_at - self.here());
    }

    /// The same at the partition's leader when it is `here` by ours, or a little less.
    pub(super) fn there(&self, topic: Topic, partition: u32, here: i64) -> i64 {
        let ahead = self.of(topic, partition).map_or(UNKNOWN, |ahead| ahead.load(Ordering::Relaxed));
        if ahead == UNKNOWN { here } else { here.saturating_add(ahead) }
    }

    fn learn(&self, topic: Topic, partition: u32, seen: i64) {
        let Some(ahead) = self.of(topic, partition) else { return };
        let known = ahead.load(Ordering::Relaxed);
        let believed = if known == UNKNOWN || seen >= known { seen } else { known - (known - seen) / BELIEVED };
        ahead.store(believed, Ordering::Relaxed);
    }
}

/// When the broker appended a message; `None` when it was not the broker who stamped it.
pub(super) fn appended_at(message: &BorrowedMessage<'_>) -> Option<i64> {
    match message.timestamp() {
        Timestamp::LogAppendTime(at) => Some(at),
        Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
    }
}

/// Whether it came too late.
pub(super) fn is_void(message: &BorrowedMessage<'_>) -> bool {
    let not_after = header::find(message, HEADER).and_then(|value| Some(i64::from_be_bytes(value.try_into().ok()?)));
    not_after.zip(appended_at(message)).is_some_and(|(not_after, at)| at > not_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::TestWorld;
    use std::sync::Arc;

    fn clocks() -> Clocks {
        Clocks::new(&Options { world: Arc::new(TestWorld::new(1)), ..Options::default() })
    }

    #[test]
    fn a_broker_is_known_by_what_it_acknowledged_and_never_taken_to_be_ahead_of_that() {
        let clocks = clocks();
        let ahead = |partition| clocks.there(Topic::Records, partition, 1_000_000) - 1_000_000;
        let learn = |seen| clocks.learn(Topic::Records, 0, seen);
        // Ahead by 90 s; the acknowledgement took 3 s.
        learn(87_000);
        assert_eq!(ahead(0), 87_000);
        // A quick one tells more.
        learn(90_000);
        assert_eq!(ahead(0), 90_000);
        // A slow one little, unless they all are.
        learn(82_000);
        assert_eq!(ahead(0), 89_000);
        for _ in 0..100 {
            learn(10_000);
        }
        assert!((10_000..10_010).contains(&ahead(0)));
        assert_eq!(ahead(1), 0, "nothing is known of another's leader");
    }
}
