//! Letters of a small world: listed, refused, replayed once, and what a kill between two steps leaves.

use super::*;
use crate::{
    Trouble,
    context::encode,
    tests::{
        mortal::Fate as Luck,
        small_world::{Rec, SmallWorld, quick},
    },
};
use tributary_backends::{
    log::{RecordLog, Topic},
    world::SystemWorld,
};
use tributary_schemas::identity::Lanes;

mod listing;
mod many;
mod replay;
mod versions;
mod written;

const ONE_LANE: Lanes = Lanes { partitions: 1, spread: 1 };

fn rec(who: u8, content: u8) -> Rec {
    Rec { workspace: 0, who, content }
}

fn replaying() -> Handling {
    handling(Deed::Replayed)
}

fn handling(deed: Deed) -> Handling {
    Handling { deed, by: "ann".to_owned(), reason: "mended".to_owned(), dry_run: false, overwrite: false }
}

/// A letter about what is in the lane at `offset`, as a lane would write it that could not read it; and the lane goes on
/// behind it.
fn put_aside(world: &SmallWorld, offset: i64) {
    let letter = letter(world, offset);
    world.stored.put(Topic::DeadLetters, 0, letter.key.clone().into(), encode(&letter));
    world.stored.skip(Topic::Records, 0, offset + 1);
}

fn letter(world: &SmallWorld, offset: i64) -> DeadLetter {
    let message = &world.stored.all(Topic::Records, 0)[offset as usize];
    DeadLetter {
        topic: "records".to_owned(),
        partition: 0,
        offset,
        stage: "decode".to_owned(),
        reason: "unknown schema".to_owned(),
        at: 1,
        key: message.key.to_vec(),
        payload: message.value.to_vec(),
    }
}

async fn act(world: &SmallWorld, log: &dyn RecordLog, how: &Handling) -> Result<Vec<Fate>, Trouble> {
    act_on(world, log, &[], how).await
}

async fn act_on(world: &SmallWorld, log: &dyn RecordLog, ids: &[&str], how: &Handling) -> Result<Vec<Fate>, Trouble> {
    let ids: Vec<LetterId> = ids.iter().map(|id| id.parse().unwrap()).collect();
    let mut fates = Vec::new();
    let mut tell = |_: &Letter, fate| fates.push(fate);
    let missing = handle((log, &*world.tables, &SystemWorld), &ids, &Filter::default(), how, &mut tell).await?;
    assert_eq!(missing, None);
    Ok(fates)
}

async fn listed(log: &dyn RecordLog, limit: usize, before: Option<Cursor>) -> Listing {
    list(log, &Bounds { handled: true, limit, before }, &Filter::default()).await.unwrap()
}

/// All there are, in the order in which they were put aside.
async fn all(log: &dyn RecordLog) -> Vec<Shown> {
    let mut letters = listed(log, 1_000, None).await.letters;
    letters.reverse();
    letters
}

async fn land(world: &SmallWorld) {
    let luck = Luck::immortal();
    world.run(&world.process(quick(10), &luck), &luck).await.unwrap();
}

async fn rows(world: &SmallWorld) -> u64 {
    let report = crate::check::run(&world.lake, &*world.tables, None).await.unwrap();
    assert!(report.tables.iter().all(|table| table.finding_count == 0), "{report:?}");
    report.tables.iter().map(|table| table.live_rows).sum()
}

async fn open(log: &dyn RecordLog) -> u64 {
    let mut ledger = Ledger::default();
    ledger.catch_up(log).await.unwrap();
    ledger.open().values().sum()
}
