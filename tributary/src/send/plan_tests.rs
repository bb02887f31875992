use super::*;
use crate::send::window::Window;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn identity(n: u8) -> Identity {
    Identity([n; 16])
}

/// A record of the tests: who it is (none: invalid), its product, its version, attachments, several lines or one.
#[derive(Debug, Clone)]
struct Small {
    who: Option<u8>,
    product: Option<u8>,
    attachments: usize,
    multiline: bool,
    padding: usize,
}

fn small() -> impl Strategy<Value = Small> {
    (
        prop::option::weighted(0.9, 0..12u8),
        prop::option::weighted(0.9, 0..3u8),
        0..3usize,
        prop::bool::weighted(0.2),
        0..30usize,
    )
        .prop_map(|(who, product, attachments, multiline, padding)| Small {
            who: product.and(who),
            product,
            attachments,
            multiline,
            padding,
        })
}

impl Small {
    fn text(&self, version: usize) -> String {
        let line = if self.multiline { "\n" } else { "" };
        format!("{version},{:?}{line},{:?},{}", self.who, self.product, "x".repeat(self.padding))
    }

    fn route(&self) -> Route {
        Route {
            kind: self.product.map(|_| "message".to_owned()),
            product: self.product.map(|product| product.to_string()),
            identity: self.who.map(identity),
            attachments: self.attachments,
        }
    }
}

const LIMITS: Limits = Limits { records: 4, bytes: 120, attachments: 5, open_bytes: 200 };

fn plan(records: &[Small]) -> Vec<Batch> {
    let mut planner = Planner::new(LIMITS);
    let mut batches = Vec::new();
    for (version, record) in records.iter().enumerate() {
        let origin = Origin { input: 0, at: version as u64 };
        planner.add(record.text(version).as_bytes(), record.route(), origin);
        batches.extend(std::iter::from_fn(|| planner.take()));
        assert!(planner.open_bytes <= LIMITS.open_bytes);
    }
    planner.flush();
    batches.extend(std::iter::from_fn(|| planner.take()));
    assert!(planner.holders.is_empty() && planner.open.is_empty() && planner.open_bytes == 0);
    batches
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn every_record_is_in_one_batch_within_the_limits(records in prop::collection::vec(small(), 0..60)) {
        let batches = plan(&records);
        prop_assert_eq!(&batches, &plan(&records), "the plan depends on nothing but the records");
        let mut seen = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            prop_assert_eq!(batch.number, number as u64);
            let members: Vec<&Small> = batch.slots.iter().map(|slot| &records[slot.origin.at as usize]).collect();
            prop_assert!(members.len() <= LIMITS.records);
            prop_assert!(batch.text.len() + 2 <= LIMITS.bytes);
            prop_assert!(members.iter().map(|record| record.attachments).sum::<usize>() <= LIMITS.attachments);
            let products: std::collections::BTreeSet<u8> = members.iter().filter_map(|record| record.product).collect();
            prop_assert!(products.len() <= 1, "one product per batch");
            for slot in &batch.slots {
                let record = &records[slot.origin.at as usize];
                let text = record.text(slot.origin.at as usize);
                prop_assert_eq!(batch.record(slot), text.as_bytes());
                prop_assert_eq!(batch.multiline, record.multiline);
                seen.push(slot.origin.at);
            }
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..records.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn however_answers_come_versions_stay_in_order(
        records in prop::collection::vec(small(), 0..60),
        parallel in 1..6usize,
        choices in prop::collection::vec(any::<prop::sample::Index>(), 200),
    ) {
        let mut batches = plan(&records).into_iter();
        let mut window = Window::default();
        let mut on_the_way: Vec<Batch> = Vec::new();
        let mut table: BTreeMap<u8, u64> = BTreeMap::new();
        let mut acknowledged = 0;
        let mut choices = choices.into_iter().cycle();
        loop {
            while window.len() < parallel * 2 {
                let Some(batch) = batches.next() else { break };
                window.push(batch);
            }
            while on_the_way.len() < parallel {
                let Some(batch) = window.start() else { break };
                on_the_way.push(batch);
            }
            if on_the_way.is_empty() {
                break;
            }
            let done = on_the_way.swap_remove(choices.next().unwrap().index(on_the_way.len()));
            for slot in &done.slots {
                if let Some(who) = records[slot.origin.at as usize].who {
                    let before = table.insert(who, slot.origin.at);
                    prop_assert!(before.is_none_or(|before| before < slot.origin.at), "an older version came later");
                }
            }
            window.acknowledged(done.number);
            acknowledged += done.slots.len();
        }
        prop_assert_eq!(window.len(), 0, "nothing waits for ever");
        prop_assert_eq!(acknowledged, records.len());
    }
}

#[test]
fn batches_without_a_common_identity_go_together() {
    let mut window = Window::default();
    for (number, who) in [(0, 1), (1, 2), (2, 1), (3, 1)] {
        window.push(Batch { number, identities: vec![identity(who)], ..Batch::default() });
    }
    let started: Vec<u64> = std::iter::from_fn(|| window.start()).map(|batch| batch.number).collect();
    assert_eq!(started, [0, 1]);
    window.acknowledged(0);
    assert_eq!(window.start().map(|batch| batch.number), Some(2));
    assert_eq!(window.start(), None);
}

#[test]
fn a_record_that_does_not_tell_its_type_rides_along() {
    let mut planner = Planner::new(Limits::default());
    let route = |kind: Option<&str>, product: Option<&str>| Route {
        kind: kind.map(Into::into),
        product: product.map(Into::into),
        identity: None,
        attachments: 0,
    };
    let at = |at| Origin { input: 0, at };
    planner.add(b"1", route(Some("message"), Some("p")), at(1));
    planner.add(b"2", route(None, None), at(2));
    planner.add(b"3", route(Some("call"), None), at(3));
    planner.add(b"4", route(Some("message"), None), at(4));
    planner.flush();
    let batches: Vec<Vec<u64>> = std::iter::from_fn(|| planner.take())
        .map(|batch| batch.slots.iter().map(|slot| slot.origin.at).collect())
        .collect();
    assert_eq!(batches, [vec![1, 2], vec![3], vec![4]]);
}

#[test]
fn unsendable_records_go_with_the_next_batch_or_alone() {
    let mut planner = Planner::new(Limits { bytes: 10, ..Limits::default() });
    let origin = Origin { input: 0, at: 1 };
    let route = Route { kind: None, product: None, identity: None, attachments: 0 };
    planner.add(b"123456789", route.clone(), origin);
    planner.add(b"12345678", route, origin);
    planner.flush();
    let batch = planner.take().unwrap();
    assert_eq!((batch.slots.len(), batch.unsendable.len()), (1, 1));
    planner.refuse(Unsendable::too_large(origin, 10));
    planner.flush();
    let alone = planner.take().unwrap();
    assert_eq!((alone.slots.len(), alone.unsendable.len(), alone.number), (0, 1, 1));
}
