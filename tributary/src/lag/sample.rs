//! Reads whose records wait, a few of each lane, and sums it up.

use super::{
    report::{PartitionLag, WorkspaceLag},
    share::{Queue, Tally},
    standing::age,
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};
use tributary_backends::log::{FetchLimit, LogError, RecordLog, Topic};
use tributary_schemas::frame::workspace_of;

/// Lanes that are read at once.
const AT_ONCE: usize = 64;
/// Of one sample.
const SAMPLE: FetchLimit = FetchLimit { max_bytes: 4 << 20, max_messages: 1, max_wait: Duration::from_secs(2) };

/// Looks into these queues, the longest first, for as long as there is time. Of those that could not be read, or were not
/// reached, there is nothing.
pub async fn tally(log: &dyn RecordLog, mut queues: Vec<Queue>, until: Instant) -> HashMap<u32, Tally> {
    queues.sort_by_key(|queue| std::cmp::Reverse(queue.records()));
    let mut all = HashMap::new();
    for some in queues.chunks(AT_ONCE) {
        match timeout_at(until, read(log, some)).await {
            Ok(read) => all.extend(read.into_iter().flatten()),
            Err(_) => break,
        }
    }
    all
}

/// The n-th samples of all lanes are read at once.
async fn read(log: &dyn RecordLog, queues: &[Queue]) -> Result<HashMap<u32, Tally>, LogError> {
    let windows: Vec<_> = queues.iter().map(Queue::windows).collect();
    let mut tallies: Vec<_> = queues.iter().map(|_| Tally::default()).collect();
    let rounds = windows.iter().map(Vec::len).max().unwrap_or(0);
    for round in 0..rounds {
        let here: Vec<_> = (0..queues.len()).filter_map(|n| Some((n, *windows[n].get(round)?))).collect();
        let places: Vec<_> = here.iter().map(|(n, (from, _))| (queues[*n].lane, *from)).collect();
        let max_messages = here.iter().map(|(_, (_, count))| *count).max().unwrap_or(1);
        let seen = log.look(Topic::Records, &places, FetchLimit { max_messages, ..SAMPLE }).await?;
        for ((n, (from, count)), messages) in here.into_iter().zip(seen) {
            let end = from.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
            for message in messages.iter().filter(|message| message.offset < end) {
                tallies[n].add(workspace_of(&message.value), message.appended_at);
            }
        }
    }
    Ok(queues.iter().map(|queue| queue.lane).zip(tallies).collect())
}

/// Whose records wait in these lanes, those with the most first, and all that waits beside them, at `at` (milliseconds
/// since the Unix epoch).
pub fn workspaces<'p>(
    lanes: impl IntoIterator<Item = &'p PartitionLag>,
    tallies: &HashMap<u32, Tally>,
    at: i64,
) -> (Vec<WorkspaceLag>, WorkspaceLag) {
    let mut all: BTreeMap<String, WorkspaceLag> = BTreeMap::new();
    let mut others = WorkspaceLag::none(WorkspaceLag::OTHERS);
    for lane in lanes {
        let mut left = lane.records;
        for part in tallies.get(&lane.partition).map(|tally| tally.parts(lane.records)).unwrap_or_default() {
            left -= part.records;
            // None of them has waited for longer than the lane's oldest, whatever the clocks say.
            let seconds = age(at, part.oldest).as_secs_f64().min(lane.seconds);
            let one = all.entry(part.workspace).or_insert_with_key(|name| WorkspaceLag::none(name));
            one.add(lane, part.records, seconds, part.exact);
        }
        others.add(lane, left, lane.seconds, true);
    }
    let mut all: Vec<_> = all.into_values().filter(|one| one.records > 0).collect();
    all.sort_by(|a, b| b.records.cmp(&a.records).then_with(|| a.workspace.cmp(&b.workspace)));
    (all, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag::report::State;

    fn lane(partition: u32, records: u64, drain_seconds: Option<f64>, state: State) -> PartitionLag {
        PartitionLag {
            stage: "lake".to_owned(),
            topic: "records".to_owned(),
            partition,
            records,
            seconds: 50.0,
            throughput: None,
            drain_seconds,
            still_seconds: 0.0,
            state,
            owner: None,
            reason: None,
            waits_for: None,
        }
    }

    /// One workspace is spread over four lanes, of which one was not looked into.
    #[test]
    fn workspaces_and_the_others_are_all_that_waits() {
        let lanes = [
            lane(0, 3_000, Some(30.0), State::Working),
            lane(1, 2_000, Some(70.0), State::Working),
            lane(2, 1_000, None, State::Stuck),
            lane(3, 500, Some(5.0), State::Working),
        ];
        let tally = |counts: &[(&str, u64)]| {
            let mut tally = Tally::default();
            counts.iter().for_each(|(name, count)| (0..*count).for_each(|_| tally.add(Some(name), 90_000)));
            tally
        };
        let tallies = HashMap::from([
            (0, tally(&[("large", 200), ("small", 100)])),
            (1, tally(&[("large", 2_000)])),
            (2, tally(&[("large", 900), ("stands", 100)])),
            (9, tally(&[("gone", 5)])),
        ]);
        let (all, others) = workspaces(&lanes, &tallies, 100_000);
        let short: Vec<_> = all.iter().map(|one| (one.workspace.as_str(), one.records, &one.lanes[..])).collect();
        assert_eq!(short, [("large", 4_900, &[0, 1, 2][..]), ("small", 1_000, &[0]), ("stands", 100, &[2])]);
        let drains: Vec<_> = all.iter().map(WorkspaceLag::drains_in).collect();
        assert_eq!(drains, [Some(f64::INFINITY), Some(30.0), Some(f64::INFINITY)]);
        assert_eq!((all[0].exact, all[1].exact, all[2].exact), (false, false, true));
        assert_eq!((all[0].seconds, others.records, others.drains_in()), (10.0, 500, Some(5.0)));
        let sum = all.iter().map(|one| one.records).sum::<u64>() + others.records;
        assert_eq!(sum, lanes.iter().map(|lane| lane.records).sum::<u64>());
        let (all, _) = workspaces(&lanes[..1], &tallies, 10_000_000);
        assert_eq!(all[0].seconds, 50.0, "no older than the oldest of its lane");
    }
}
