//! Random operations, with reopening in between, against plain maps.

use super::open;
use crate::tables::{BatchPosition, BatchRow, Found, IndexPart, Location, Tables};
use proptest::{collection::vec, prelude::*};
use std::{collections::BTreeMap, sync::Arc};
use tributary_schemas::{
    batch::{BatchStatus, Fact, status},
    frame::BatchEvent,
    identity::Identity,
};
use uuid::Uuid;

/// Workspaces, and batches, by number.
const NAMES: [&str; 3] = ["a", "ab", "a\0b"];

#[derive(Debug, Clone)]
enum Op {
    Put { workspace: usize, batch: u8, created_at: i64 },
    Facts(Vec<(usize, u8, i64, Fact)>),
    Upsert { part: u32, entries: Vec<(u8, u64)> },
    Watermark { part: u32, version: u64 },
    Clear { part: u32 },
    Reopen,
}

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        (0..2_u32).prop_map(|lane| Fact::Landed { lane, lanes_in_batch: 2 }),
        Just(Fact::Failed { reason: "late".to_owned() }),
        Just(Fact::Processed { processor: "p".to_owned() }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let event = (0..3_usize, 0..6_u8, 0..5_i64, fact());
    prop_oneof![
        4 => (0..3_usize, 0..6_u8, -2..3_i64)
            .prop_map(|(workspace, batch, created_at)| Op::Put { workspace, batch, created_at }),
        4 => vec(event, 0..4).prop_map(Op::Facts),
        4 => (0..2_u32, vec((0..20_u8, 0..6_u64), 0..30)).prop_map(|(part, entries)| Op::Upsert { part, entries }),
        1 => (0..2_u32, 0..6_u64).prop_map(|(part, version)| Op::Watermark { part, version }),
        1 => (0..2_u32).prop_map(|part| Op::Clear { part }),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    batches: BTreeMap<(usize, u8), i64>,
    facts: BTreeMap<(usize, u8), BTreeMap<Fact, i64>>,
    index: BTreeMap<u32, BTreeMap<u8, Location>>,
    watermarks: BTreeMap<u32, u64>,
}

fn row(workspace: usize, batch: u8, created_at: i64) -> BatchRow {
    BatchRow {
        workspace: NAMES[workspace].to_owned(),
        batch_id: batch_id(batch),
        created_at,
        accepted: 1,
        rejected: 0,
        total_errors: 0,
        errors: Vec::new(),
        source: "s".to_owned(),
        kind: "email".to_owned(),
        format: None,
        attachments: 0,
    }
}

fn batch_id(batch: u8) -> String {
    "b".repeat(usize::from(batch % 3) + 1) + &batch.to_string()
}

fn part(lane: u32) -> IndexPart {
    IndexPart { workspace: "w".to_owned(), lane }
}

fn location(nth: usize, table_version: u64) -> Location {
    Location { file: Uuid::nil(), row: u32::try_from(nth).unwrap(), version: 1, digest: 2, table_version }
}

async fn apply(tables: &dyn Tables, model: &mut Model, op: &Op, nth: usize) {
    match op {
        Op::Put { workspace, batch, created_at } => {
            tables.put_batch(row(*workspace, *batch, *created_at)).await.unwrap();
            model.batches.insert((*workspace, *batch), *created_at);
        }
        Op::Facts(facts) => {
            let events: Vec<_> = facts
                .iter()
                .map(|(workspace, batch, at, fact)| BatchEvent {
                    workspace: NAMES[*workspace].to_owned(),
                    batch_id: batch_id(*batch),
                    at: *at,
                    fact: fact.clone(),
                })
                .collect();
            tables.add_facts(&events).await.unwrap();
            for (workspace, batch, at, fact) in facts {
                let known = model.facts.entry((*workspace, *batch)).or_default();
                known.entry(fact.clone()).and_modify(|first| *first = (*first).min(*at)).or_insert(*at);
            }
        }
        Op::Upsert { part: lane, entries } => {
            let written: Vec<_> =
                entries.iter().map(|(key, version)| (Identity([*key; 16]), location(nth, *version))).collect();
            tables.upsert(&part(*lane), &written).await.unwrap();
            let index = model.index.entry(*lane).or_default();
            for (key, version) in entries {
                if index.get(key).is_none_or(|there| there.table_version <= *version) {
                    index.insert(*key, location(nth, *version));
                }
            }
        }
        Op::Watermark { part: lane, version } => {
            tables.set_watermark(&part(*lane), *version).await.unwrap();
            model.watermarks.insert(*lane, *version);
        }
        Op::Clear { part: lane } => {
            tables.clear(&part(*lane)).await.unwrap();
            model.index.remove(lane);
            model.watermarks.remove(lane);
        }
        Op::Reopen => {}
    }
}

async fn compare(tables: &dyn Tables, model: &Model) {
    for (workspace, name) in NAMES.into_iter().enumerate() {
        let mut wanted: Vec<_> = model
            .batches
            .iter()
            .filter(|((of, _), _)| *of == workspace)
            .map(|((_, batch), created_at)| (*created_at, batch_id(*batch), *batch))
            .collect();
        wanted.sort();
        wanted.reverse();
        let mut before: Option<BatchPosition> = None;
        for (created_at, batch_id, batch) in wanted {
            let page = tables.batches(name, 1, before.as_ref()).await.unwrap();
            assert_eq!(page[0].row, row(workspace, batch, created_at));
            let facts: BTreeMap<Fact, i64> = page[0].facts.iter().cloned().collect();
            assert_eq!(facts, model.facts.get(&(workspace, batch)).cloned().unwrap_or_default());
            assert_eq!(tables.batch(name, &batch_id).await.unwrap().as_ref(), page.first());
            before = Some(BatchPosition { created_at, batch_id });
        }
        assert_eq!(tables.batches(name, 1, before.as_ref()).await.unwrap(), []);
    }
    compare_landing(tables, model).await;
    compare_index(tables, model).await;
}

async fn compare_landing(tables: &dyn Tables, model: &Model) {
    let none = BTreeMap::new();
    let mut wanted: Vec<_> = model
        .batches
        .iter()
        .filter(|(id, created_at)| {
            let facts = model.facts.get(id).unwrap_or(&none);
            **created_at < 1 && status(facts.keys(), &[]) == BatchStatus::Landing
        })
        .map(|((workspace, batch), created_at)| row(*workspace, *batch, *created_at))
        .collect();
    let mut found: Vec<_> = tables.landing_before(1, 100).await.unwrap().into_iter().map(|batch| batch.row).collect();
    let order = |row: &BatchRow| (row.workspace.clone(), row.batch_id.clone());
    wanted.sort_by_key(order);
    found.sort_by_key(order);
    assert_eq!(found, wanted);
}

async fn compare_index(tables: &dyn Tables, model: &Model) {
    for lane in 0..2 {
        let index = model.index.get(&lane).cloned().unwrap_or_default();
        let keys: Vec<_> = (0..20).map(|key| Identity([key; 16])).collect();
        let wanted: Vec<_> = (0..20).map(|key| index.get(&key).copied()).collect();
        let complete_to = model.watermarks.get(&lane).copied();
        let found = Found { locations: wanted, complete_to };
        assert_eq!(tables.lookup(&part(lane), &keys).await.unwrap(), found);
        let mut scanned = Vec::new();
        let scan = tables.scan(&part(lane), &mut |slice| scanned.extend_from_slice(slice)).await;
        assert_eq!(scan.unwrap(), complete_to);
        let wanted: Vec<_> = index.iter().map(|(key, location)| (Identity([*key; 16]), *location)).collect();
        assert_eq!(scanned, wanted);
        assert_eq!(tables.watermark(&part(lane)).await.unwrap(), complete_to);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_plain_model(ops in vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let mut tables: Arc<dyn Tables> = open(dir.path()).unwrap();
            let mut model = Model::default();
            for (nth, op) in ops.iter().enumerate() {
                if matches!(op, Op::Reopen) {
                    compare(&*tables, &model).await;
                    drop(tables);
                    tables = open(dir.path()).unwrap();
                }
                apply(&*tables, &mut model, op, nth).await;
            }
            compare(&*tables, &model).await;
        });
    }

    #[test]
    fn keys_are_unambiguous_and_sorted(left in parts(), right in parts()) {
        use super::super::codec::{Key, Parts};
        let key = |(text, time, last): &(String, i64, String)| {
            Key::new().text(text).time(*time).last(last.as_bytes()).done().unwrap()
        };
        let (a, b) = (key(&left), key(&right));
        prop_assert_eq!(a == b, left == right);
        if left.0 == right.0 {
            let (left, right) = ((left.1, left.2.as_bytes()), (right.1, right.2.as_bytes()));
            prop_assert_eq!(a.cmp(&b), left.cmp(&right));
        }
        let mut read = Parts::of(&a);
        let again = (read.text().unwrap().to_owned(), read.time().unwrap(), read.last_text().unwrap().to_owned());
        prop_assert_eq!(again, left);
    }
}

fn parts() -> impl Strategy<Value = (String, i64, String)> {
    let text = || vec(prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), Just('ü')], 0..4).prop_map(String::from_iter);
    (text(), prop_oneof![-2..2_i64, Just(i64::MIN), Just(i64::MAX)], text())
}
