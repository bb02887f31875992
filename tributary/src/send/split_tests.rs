use super::*;
use proptest::prelude::*;
use std::io::BufReader;

fn split_with(
    text: &[u8],
    form: Option<Form>,
    limit: usize,
    buffer: usize,
) -> Result<Vec<(String, Place)>, SplitError> {
    let reader = Box::new(BufReader::with_capacity(buffer, Cursor::new(text.to_vec())));
    let mut splitter = Splitter::open(reader, form, limit)?;
    let (mut out, mut found) = (Vec::new(), Vec::new());
    while let Some(place) = splitter.next(&mut out)? {
        found.push((String::from_utf8_lossy(&out).into_owned(), place));
    }
    Ok(found)
}

fn texts(text: &str) -> Vec<String> {
    let found: Vec<_> = [1, 7, 4096].map(|buffer| split_with(text.as_bytes(), None, 1_000, buffer).unwrap()).into();
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "the buffer's size must not matter");
    found[0].iter().map(|(text, _)| text.clone()).collect()
}

#[test]
fn lines() {
    assert_eq!(texts("{\"a\":1}\r\n\n  \n{\"b\":2}"), ["{\"a\":1}", "{\"b\":2}"]);
    assert_eq!(texts("\u{feff}\n{\"a\":1}\n"), ["{\"a\":1}"]);
    assert_eq!(texts(""), Vec::<String>::new());
    assert_eq!(texts(" \n\n"), Vec::<String>::new());
}

#[test]
fn a_broken_line_costs_only_itself() {
    assert_eq!(texts("{\"a\":1}\n{\"b\":\n{\"c\":3}\n"), ["{\"a\":1}", "{\"b\":", "{\"c\":3}"]);
    assert_eq!(texts("nonsense\n{\"c\":3}\n"), ["nonsense", "{\"c\":3}"]);
}

#[test]
fn lines_are_numbered_as_an_editor_numbers_them() {
    let found = split_with(b"\n{\"a\":1}\n\n{\"b\":2}\n", None, 100, 64).unwrap();
    assert_eq!(found.iter().map(|(_, place)| place.at).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn documents() {
    assert_eq!(texts("[{\"a\":[1]},\n {\"b\":\"]},{\\\"\"} ]"), ["{\"a\":[1]}", "{\"b\":\"]},{\\\"\"}"]);
    assert_eq!(texts("{ \"records\" :\n[{\"a\":1},{\"b\":[2]}]\n}"), ["{\"a\":1}", "{\"b\":[2]}"]);
    assert_eq!(texts("{\"records\":[]}"), Vec::<String>::new());
    assert_eq!(texts("{\n \"a\": [1,\n 2]\n}\n{\n \"b\": 2 }"), ["{\n \"a\": [1,\n 2]\n}", "{\n \"b\": 2 }"]);
    assert_eq!(texts("[1, true,\"x\" , null]"), ["1", "true", "\"x\"", "null"]);
    assert_eq!(texts("[]\n[{\"a\":1}]"), ["{\"a\":1}"]);
    assert_eq!(texts("{\"records\":{\"a\":1}}"), ["{\"records\":{\"a\":1}}"], "not the wrapper: the server says why");
}

#[test]
fn documents_that_end_too_early_say_where() {
    for (text, reason) in [
        ("[{\"a\":1},{\"b\":", "record 2: the input ends in the middle of a record"),
        ("[{\"a\":1}", "record 1: the array is not closed"),
        ("[{\"a\":1} {\"b\":2}]", "record 1: expected `,` or `]` after a record"),
        ("[,]", "record 0: expected a record, got `,`"),
        ("{\"records\":[{\"a\":1}], \"more\":1}", "record 1: `{\"records\":[…]}` has no other member"),
        ("{\"records\":[{\"a\":1}]", "record 1: `{\"records\":[…]}` is not closed"),
    ] {
        let error = split_with(text.as_bytes(), None, 100, 5).unwrap_err();
        assert_eq!(error.to_string(), reason, "{text}");
    }
}

#[test]
fn a_record_past_the_limit_is_cut_and_the_next_one_is_whole() {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
    for text in [format!("{long}\n{{\"b\":2}}\n"), format!("[{long},{{\"b\":2}}]")] {
        for limit in [20, long.len() - 1] {
            let form = if text.starts_with('[') { Form::Documents } else { Form::Lines };
            let found = split_with(text.as_bytes(), Some(form), limit, 16).unwrap();
            assert_eq!(found.len(), 2, "{text} at {limit}");
            assert!(found[0].1.cut && !found[1].1.cut);
            assert!(found[0].0.len() <= limit + 2, "bounded memory");
            assert_eq!(found[1].0, "{\"b\":2}");
        }
        let form = if text.starts_with('[') { Form::Documents } else { Form::Lines };
        assert_eq!(split_with(text.as_bytes(), Some(form), long.len(), 16).unwrap()[0].0, long, "exactly at the limit");
    }
}

/// JSON values whose strings hold every character that could mislead the scanner.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        "[\\[\\]{}\",:\\\\ \n\ta-cé]{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[\\[\\]{}\",:\\\\a-c]{0,4}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = serde_json::Value> {
    value().prop_map(|value| serde_json::json!({ "_type": "message", "data": value }))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn every_layout_gives_the_same_records(
        records in prop::collection::vec(object(), 1..6),
        layout in 0..5usize,
        buffer in 1..40usize,
    ) {
        let compact: Vec<String> = records.iter().map(ToString::to_string).collect();
        let pretty: Vec<String> = records.iter().map(|record| format!("{record:#}")).collect();
        let text = match layout {
            0 => compact.join("\n"),
            1 => format!("[{}]", compact.join(",")),
            2 => serde_json::to_string_pretty(&records).unwrap(),
            3 => format!("{:#}", serde_json::json!({ "records": records })),
            _ => pretty.join("\n"),
        };
        let found = split_with(text.as_bytes(), None, 1 << 20, buffer).unwrap();
        let found: Vec<serde_json::Value> =
            found.iter().map(|(text, _)| serde_json::from_str(text).unwrap()).collect();
        prop_assert_eq!(found, records);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), buffer in 1..40usize) {
        let _ = split_with(&bytes, Some(Form::Documents), 50, buffer);
        let _ = split_with(&bytes, Some(Form::Lines), 50, buffer);
        let _ = split_with(&bytes, None, 50, buffer);
    }
}
