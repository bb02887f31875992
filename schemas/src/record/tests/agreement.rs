//! The fast and the thorough reader agree on every record.

use super::super::{fast, thorough};
use super::FULL;
use proptest::{prelude::*, sample::Index};

/// JSON as written, with the structure that mutations need.
#[derive(Debug, Clone)]
enum Json {
    Raw(String),
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
}

impl Json {
    fn of(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Object(members) => {
                Self::Object(members.iter().map(|(name, value)| (format!("{name:?}"), Self::of(value))).collect())
            }
            serde_json::Value::Array(entries) => Self::Array(entries.iter().map(Self::of).collect()),
            scalar => Self::Raw(scalar.to_string()),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Raw(text) => out.push_str(text),
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    out.push_str(name);
                    out.push_str(" : ");
                    value.write(out);
                }
                out.push('}');
            }
            Self::Array(entries) => {
                out.push('[');
                for (index, entry) in entries.iter().enumerate() {
                    out.push_str(if index > 0 { " ," } else { "" });
                    entry.write(out);
                }
                out.push(']');
            }
        }
    }

    fn nodes(&self) -> usize {
        1 + match self {
            Self::Raw(_) => 0,
            Self::Object(members) => members.iter().map(|(_, value)| value.nodes()).sum(),
            Self::Array(entries) => entries.iter().map(Self::nodes).sum(),
        }
    }

    /// The node of this number in the order of the text.
    fn node(&mut self, number: &mut usize) -> Option<&mut Self> {
        if *number == 0 {
            return Some(self);
        }
        *number -= 1;
        match self {
            Self::Raw(_) => None,
            Self::Object(members) => members.iter_mut().find_map(|(_, value)| value.node(number)),
            Self::Array(entries) => entries.iter_mut().find_map(|entry| entry.node(number)),
        }
    }

    fn change(&mut self, change: &Change) {
        match (change, self) {
            (Change::Replace(with), node) => *node = Self::Raw(with.clone()),
            (Change::Remove(at), Self::Object(members)) if !members.is_empty() => {
                members.remove(at.index(members.len()));
            }
            (Change::Repeat(at, times), Self::Array(entries)) if !entries.is_empty() => {
                let entry = entries[at.index(entries.len())].clone();
                entries.extend(std::iter::repeat_n(entry, *times));
            }
            (Change::Repeat(at, _), Self::Object(members)) if !members.is_empty() => {
                members.push(members[at.index(members.len())].clone());
            }
            (Change::Add(name, value), Self::Object(members)) => {
                members.push((name.clone(), Self::Raw(value.clone())));
            }
            _ => {}
        }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Replace(String),
    Remove(Index),
    Repeat(Index, usize),
    Add(String, String),
}

fn value() -> impl Strategy<Value = String> {
    let fixed = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "1",
        "1.0",
        "0.5",
        "-0.1",
        "1e400",
        "1e-400",
        "9223372036854775807",
        "9223372036854775808",
        "[]",
        "{}",
        "[null]",
        "[\"x\"]",
        "[0]",
        "{\"id\":\"x\"}",
        "\"\"",
        "\"\\ud800\"",
        "\"\\udc00x\"",
        "\"\\ud83d\\ude00\"",
        "\"\\u0000\"",
        "\"email\"",
        "\"EmAiL\"",
        "\"unknown\"",
        "\"context\"",
        "\"1.0.0\"",
        "\"1.0\"",
        "\"a@b.example\"",
        "\"a@\"",
        "\"urn:x\"",
        "\"/relative\"",
        "\"9999-12-31T23:59:59.5Z\"",
        "\"9999-12-31T23:59:59.4Z\"",
        "\"2023-02-29T00:00:00Z\"",
        "\"\\u0032024-01-01T00:00:00Z\"",
        "{\"x\":\"y\"}",
        "{\"x\":1}",
        "{\"x\":\"y\",\"\\u0078\":\"z\"}",
        "{\"\\ud800\":\"y\"}",
    ];
    let long =
        (prop_oneof![Just(64usize), Just(128), Just(256), Just(320), Just(512), Just(1024), Just(2048)], 0usize..3)
            .prop_map(|(limit, over)| format!("\"{}\"", "ä".repeat(limit + over - 1)));
    prop_oneof![4 => proptest::sample::select(fixed.to_vec()).prop_map(str::to_owned), 1 => long]
}

fn change() -> impl Strategy<Value = Change> {
    let name = proptest::sample::select(vec![
        "\"_project_id\"",
        "\"_project_ids\"",
        "\"_type\"",
        "\"\\u005ftype\"",
        "\"type\"",
        "\"id\"",
        "\"new\"",
        "\"\"",
        "\"_Type\"",
        "\"\\ud800\"",
        "\"x~/y\"",
        "\"size\"",
        "\"confidence\"",
        "\"data\"",
    ]);
    prop_oneof![
        4 => value().prop_map(Change::Replace),
        1 => any::<Index>().prop_map(Change::Remove),
        1 => (any::<Index>(), prop_oneof![Just(1usize), 8..12usize, 198..201usize, Just(5_000)])
            .prop_map(|(at, times)| Change::Repeat(at, times)),
        1 => (name, value()).prop_map(|(name, value)| Change::Add(name.to_owned(), value)),
    ]
}

/// A derived struct also reads an array of its fields' values; the contract does not.
#[test]
fn an_array_of_values_is_no_object() {
    let object = r#"[{"id":"i","role":"internal","name":"N","email":"n@example.org","type":"bot"}]"#;
    assert!(FULL.contains(object));
    let array = FULL.replace(object, r#"[["i","internal","N","n@example.org","bot"]]"#);
    assert!(fast::read(&array).is_err());
    let positional = r#"["call","1.0.0","2024-05-06T07:08:09Z",{"a":"1"},"p","q"]"#;
    assert!(fast::read(positional).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn both_readers_agree(changes in proptest::collection::vec((any::<Index>(), change()), 0..4)) {
        let data_free = FULL.replace(r#""b":1.0,"a":1e400,"a":"\ud800""#, "");
        let mut json = Json::of(&serde_json::from_str(&data_free).unwrap());
        for (at, change) in &changes {
            let mut number = at.index(json.nodes());
            json.node(&mut number).unwrap().change(change);
        }
        let mut text = String::new();
        json.write(&mut text);
        let found = thorough::errors(&text, "NOTHING FOUND");
        let nothing = found.iter().any(|error| error.message.contains("NOTHING FOUND"));
        prop_assert_eq!(fast::read(&text).is_ok(), nothing, "{} {:?}", &text[..text.len().min(2_000)], found);
    }
}
