//! Whose records a process has done lately.

use super::{
    mortal::Fate,
    small_world::{Rec, SmallWorld, quick},
};
use crate::context::Context;
use std::{collections::BTreeMap, sync::Arc};
use tributary_backends::log::Topic;
use tributary_schemas::identity::Lanes;

const TWO_LANES: Lanes = Lanes { partitions: 2, spread: 2 };

/// A process under a fate that has both lanes, and has taken them as far as it came.
async fn lived(world: &SmallWorld, fate: &Fate) -> Arc<Context> {
    let process = world.process(quick(4), fate);
    (0..2).for_each(|lane| process.holdings.assigned(Topic::Records, lane));
    // It may die or get through.
    let _ = world.run(&process, fate).await;
    process
}

/// By workspace; of those of which it is not known whose they were as well.
fn counted(process: &Context) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for lane in process.holdings.lately() {
        let unknown = (lane.others > 0).then(|| ("?".to_owned(), lane.others));
        for (workspace, records) in lane.named.into_iter().chain(unknown) {
            *all.entry(workspace).or_insert(0) += records;
        }
    }
    all
}

fn all(counts: impl IntoIterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(workspace, records)| (workspace.to_owned(), records)).collect()
}

/// Twelve of one workspace, two of them the same twice, five of another, and one that is no record.
fn sent() -> SmallWorld {
    let mut world = SmallWorld::new(TWO_LANES);
    let recs = |workspace, count: u8| (0..count).map(move |who| Rec { workspace, who, content: 1 });
    world.send("b", &recs(0, 10).chain(recs(1, 5)).collect::<Vec<_>>());
    world.send("c", &recs(0, 2).collect::<Vec<_>>());
    world.send_garbage(1, b"no record");
    world
}

#[tokio::test]
async fn every_record_is_counted_for_its_workspace_whatever_became_of_it() {
    let world = sent();
    let process = lived(&world, &Fate::immortal()).await;
    assert_eq!(counted(&process), all([("w0", 12), ("w1", 5), ("?", 1)]));
    // Who has it next begins anew, and what nobody has is counted for nobody.
    process.holdings.released(Topic::Records, 1);
    let kept = process.holdings.lately();
    assert_eq!(kept.len(), 1);
    process.holdings.assigned(Topic::Records, 1);
    assert_eq!(process.holdings.lately().iter().map(|lane| lane.named.is_empty()).collect::<Vec<_>>(), [false, true]);
    process.holdings.left(Topic::Records);
    process.holdings.done(0, &[("w0".to_owned(), 1)], 0);
    assert_eq!(process.holdings.lately(), []);
}

/// It counts when the offsets are committed: so what the next process takes again counts there, and nowhere twice.
#[tokio::test]
async fn of_processes_that_die_none_counts_what_another_does() {
    for call in [1, 2, 3, 5, 8, 11, 14, 18, 22, 27, 33] {
        for takes_effect in [false, true] {
            let world = sent();
            let died = lived(&world, &Fate::dies_at(call, takes_effect)).await;
            let committed: i64 = (0..2).map(|lane| world.stored.committed(Topic::Records, lane)).sum();
            let committed = u64::try_from(committed).unwrap();
            let next = lived(&world, &Fate::immortal()).await;
            let (first, second): (u64, u64) = (counted(&died).values().sum(), counted(&next).values().sum());
            assert!(first <= committed, "{call} {takes_effect}: {first} of {committed}");
            assert_eq!(second, 18 - committed, "{call} {takes_effect}");
        }
    }
}
