use super::*;
use crate::record::parse;
use proptest::{collection::btree_map, prelude::*};
use std::collections::BTreeMap;

fn json(kind: &str, at: &str, ids: &[(String, String)]) -> String {
    let ids: Vec<_> = ids.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value))).collect();
    format!(
        r#"{{"_type":"{kind}","_schema_version":"1.0.0","_event_at":"{at}","_vendor_ids":{{{}}},"_product_id":"p",
            "_project_id":"q","data":{{}}}}"#,
        ids.join(",")
    )
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn identity(kind: &str, at: &str, ids: &[(String, String)]) -> Identity {
    Identity::of(&parse(json(kind, at, ids).as_bytes()).unwrap())
}

fn hex(identity: Identity) -> String {
    identity.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ids(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// What is in the lake was found by these; they must never change.
#[test]
fn golden_identities() {
    let mut found = String::new();
    for (kind, at, pairs) in [
        ("email", "2024-01-02T03:04:05Z", vec![("id", "1")]),
        ("Email_Thread", "2024-01-02T03:04:05.500Z", vec![("z", "26"), ("a", "1")]),
        ("message", "0001-01-01T00:00:00Z", vec![("", "")]),
        ("spreadsheet", "9999-12-31T23:59:59Z", vec![("ключ", "значение"), ("😀", "\u{0}")]),
        ("call_transcription", "1969-12-31T23:59:59Z", vec![("a", "bc"), ("ab", "c")]),
    ] {
        found += &format!("{} {kind} {at}\n", hex(identity(kind, at, &ids(&pairs))));
    }
    assert_eq!(found, include_str!("../../testdata/identities.txt"));
}

/// A record's lane holds its order; these must never change either.
#[test]
fn golden_lanes() {
    let lane = |partitions, spread, workspace: &str, first: u8| {
        Lanes { partitions, spread }.of(workspace).lane(&Identity([first; 16]))
    };
    let found: Vec<_> = ["default", "acme", "", "umlaut-ä"]
        .into_iter()
        .map(|workspace| [lane(4, 1, workspace, 7), lane(64, 4, workspace, 7), lane(64, 4, workspace, 8)])
        .collect();
    assert_eq!(found, GOLDEN_LANES);
}

/// Whoever asks for all lanes of a workspace must miss none.
#[test]
fn all_lanes_of_a_workspace() {
    for (partitions, spread) in [(1, 1), (4, 1), (4, 4), (64, 3)] {
        let lanes = Lanes { partitions, spread }.of("acme");
        let mut seen: Vec<u32> = (0..=255).map(|first| lanes.lane(&Identity([first; 16]))).collect();
        let mut all: Vec<u32> = lanes.all().collect();
        seen.sort_unstable();
        all.sort_unstable();
        seen.dedup();
        assert_eq!(seen, all);
    }
}

const GOLDEN_LANES: [[u32; 3]; 4] = [[3, 58, 55], [3, 62, 59], [3, 50, 47], [3, 62, 59]];

/// The bytes that are hashed, spelt out once, apart from the code that makes them.
#[test]
fn the_hash_input_is_as_documented() {
    let mut input = Vec::new();
    input.extend(5u64.to_le_bytes());
    input.extend(b"email");
    input.extend(2u64.to_le_bytes());
    for (key, value) in [("a", "1"), ("bb", "22")] {
        input.extend((key.len() as u64).to_le_bytes());
        input.extend(key.as_bytes());
        input.extend((value.len() as u64).to_le_bytes());
        input.extend(value.as_bytes());
    }
    input.extend(0i64.to_le_bytes());
    let hash = blake3::hash(&input);
    assert_eq!(identity("EMAIL", "1970-01-01T00:00:00Z", &ids(&[("bb", "22"), ("a", "1")])).0, hash.as_bytes()[..16]);
}

type Ids = BTreeMap<String, String>;

fn some_ids() -> impl Strategy<Value = Ids> {
    btree_map("[ab]{0,2}", "[ab]{0,2}", 1..4)
}

proptest! {
    #[test]
    fn order_letter_case_and_fraction_digits_never_change_it(
        (ordered, shuffled) in some_ids().prop_flat_map(|ids| {
            let ids: Vec<_> = ids.into_iter().collect();
            (Just(ids.clone()), Just(ids).prop_shuffle())
        }),
        second in 0u8..59, fraction in 0u16..500,
    ) {
        let base = identity("message", &format!("2024-01-01T00:00:{second:02}Z"), &ordered);
        let down = format!("2024-01-01T00:00:{second:02}.{fraction:03}Z");
        prop_assert_eq!(identity("MeSSage", &down, &shuffled), base);
        let next = format!("2024-01-01T00:00:{:02}Z", second + 1);
        let up = format!("2024-01-01T00:00:{second:02}.{:03}Z", fraction + 500);
        prop_assert_eq!(identity("message", &up, &shuffled), identity("message", &next, &ordered));
    }

    #[test]
    fn different_values_differ(
        a in (0usize..2, 0u8..3, some_ids()), b in (0usize..2, 0u8..3, some_ids()),
    ) {
        let of = |(kind, second, ids): &(usize, u8, Ids)| {
            let ids: Vec<_> = ids.clone().into_iter().collect();
            identity(["email", "message"][*kind], &format!("2024-01-01T00:00:{second:02}Z"), &ids)
        };
        prop_assert_eq!(of(&a) == of(&b), a == b);
    }

    #[test]
    fn a_lane_is_always_in_range_and_a_workspace_keeps_to_its_spread(
        partitions in prop_oneof![0u32..9, Just(u32::MAX)], spread in prop_oneof![0u32..9, Just(u32::MAX)],
        workspace in "[a-z]{0,8}", identities in proptest::collection::vec(any::<[u8; 16]>(), 1..50),
    ) {
        let lanes = Lanes { partitions, spread };
        let used: std::collections::BTreeSet<_> =
            identities.iter().map(|identity| lanes.of(&workspace).lane(&Identity(*identity))).collect();
        prop_assert!(used.iter().all(|lane| *lane < partitions.max(1)));
        prop_assert!(used.len() <= spread.max(1) as usize);
    }
}

#[test]
fn batches_keep_their_partitions() {
    let of = |key: &str| partition_of(key.as_bytes(), 1_000);
    assert_eq!(["", "b", "01980000-0000-7000-8000-000000000000"].map(of), [857, 253, 149]);
    assert_eq!(partition_of(b"b", 0), 0);
}

#[test]
fn all_lanes_of_the_spread_are_used() {
    let lanes = Lanes { partitions: 8, spread: 3 };
    let used: std::collections::BTreeSet<_> =
        (0..=255).map(|byte| lanes.of("default").lane(&Identity([byte; 16]))).collect();
    assert_eq!(used.len(), 3);
}
