use super::*;
use proptest::prelude::*;
use serde_json::value::RawValue;

fn texts(body: &[u8], form: Form) -> Result<Vec<String>, SplitError> {
    Ok(split(body, form, 1_000)?.iter().map(|p| String::from_utf8_lossy(p.text).into_owned()).collect())
}

#[test]
fn lines_may_be_blank_end_in_crlf_and_begin_with_a_bom() {
    let body = b"\xEF\xBB\xBF{\"a\":1}\r\n\r\n  \n{\"b\":2}";
    let pieces = split(body, Form::Ndjson, 10).expect("two lines");
    assert_eq!(pieces[0], Piece { text: b"{\"a\":1}", line: Some(1) });
    assert_eq!(pieces[1], Piece { text: b"{\"b\":2}", line: Some(4) });
    assert_eq!(pieces.len(), 2);
}

#[test]
fn json_comes_in_three_forms() {
    assert_eq!(texts(br#" {"a":[1,{"b":"}"}]} "#, Form::Json), Ok(vec![r#"{"a":[1,{"b":"}"}]}"#.into()]));
    let two = Ok(vec![r#"{"a":1}"#.to_owned(), r#"{"b":2}"#.to_owned()]);
    assert_eq!(texts(b"\xEF\xBB\xBF[{\"a\":1} ,\n{\"b\":2}]", Form::Json), two);
    assert_eq!(texts(br#"{ "records" : [{"a":1},{"b":2}] }"#, Form::Json), two);
    assert_eq!(texts(br#"{"\u0072ecords":[{"a":1},{"b":2}]}"#, Form::Json), two);
}

#[test]
fn a_broken_record_in_an_array_stays_alone() {
    let body = b"[{\"a\":1},{nonsense},\"\xFF\",{\"b\":2}]";
    let pieces = split(body, Form::Json, 10).expect("four pieces");
    let texts: Vec<_> = pieces.iter().map(|p| p.text).collect();
    assert_eq!(texts, [&b"{\"a\":1}"[..], b"{nonsense}", b"\"\xFF\"", b"{\"b\":2}"]);
}

#[test]
fn nothing_in_it_is_empty() {
    for body in ["", "  ", "[]", " [ ] ", r#"{"records":[]}"#, "\u{FEFF}", "\u{FEFF} \n"] {
        assert_eq!(texts(body.as_bytes(), Form::Json), Err(SplitError::Empty), "{body:?}");
    }
    for body in ["", "\n", "\r\n \n\t", "\u{FEFF}\n"] {
        assert_eq!(texts(body.as_bytes(), Form::Ndjson), Err(SplitError::Empty), "{body:?}");
    }
}

#[test]
fn broken_structure_is_refused_with_its_place() {
    let bad = [
        ("null", 0),
        ("42", 0),
        ("\"text\"", 0),
        ("[{}", 3),
        ("[{},", 4),
        ("[{},]", 4),
        ("[,{}]", 1),
        ("{\"a\":1", 6),
        ("{\"a\":\"x", 7),
        ("{\"a\":\"x\\", 8),
        ("{}{}", 2),
        ("{}\n{}", 3),
        ("[{}] x", 5),
        ("[{}}", 3),
        ("{\"records\":{}}", 11),
        ("{\"records\":null}", 11),
        ("{\"records\" []}", 11),
        ("{\"records\":[{}],\"more\":1}", 15),
        ("{\"records\":[{}],\"records\":[{}]}", 15),
    ];
    for (body, place) in bad {
        match texts(body.as_bytes(), Form::Json) {
            Err(SplitError::Syntax { at, .. }) => assert_eq!(at, place, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn one_record_too_many_is_refused() {
    let three = ("{}\n{}\n{}", "[{},{},{}]");
    assert_eq!(split(three.0.as_bytes(), Form::Ndjson, 2), Err(SplitError::TooMany(2)));
    assert_eq!(split(three.1.as_bytes(), Form::Json, 2), Err(SplitError::TooMany(2)));
    assert!(split(three.0.as_bytes(), Form::Ndjson, 3).is_ok());
    assert!(split(three.1.as_bytes(), Form::Json, 3).is_ok());
}

#[test]
fn ten_thousand_levels_are_no_deeper_than_one() {
    let body = format!("[{{\"data\":{}{}}}]", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(texts(body.as_bytes(), Form::Json).expect("one").len(), 1);
}

/// JSON values as text, with white space, escapes and brackets inside strings.
fn value_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i32>().prop_map(|n| n.to_string()),
        r#"[\[\]{}",:\\ a-zä]{0,8}"#.prop_map(|s| serde_json::to_string(&s).expect("string")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = "[a-z\"]{0,3}".prop_map(|k| serde_json::to_string(&k).expect("string"));
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::vec((key, inner), 0..4).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(k, v)| format!("{k} :{v}")).collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn an_array_splits_as_serde_json_splits_it(items in prop::collection::vec(value_text(), 1..8), white in "[ \n\t]{0,3}") {
        let body = format!("{white}[{white}{}{white}]{white}", items.join(&format!("{white},{white}")));
        let theirs: Vec<Box<RawValue>> = serde_json::from_str(&body).expect("valid");
        let ours = texts(body.as_bytes(), Form::Json).expect("valid");
        prop_assert_eq!(&ours, &items);
        prop_assert_eq!(ours, theirs.iter().map(|raw| raw.get().to_owned()).collect::<Vec<_>>());
    }

    #[test]
    fn lines_come_back_with_their_numbers(lines in prop::collection::vec("[ -~]{0,12}", 0..20), crlf: bool) {
        let body = lines.join(if crlf { "\r\n" } else { "\n" });
        let wanted: Vec<_> = (1u32..).zip(&lines).map(|(n, text)| (Some(n), text.trim().as_bytes()))
            .filter(|(_, text)| !text.is_empty()).collect();
        let got: Vec<_> = split(body.as_bytes(), Form::Ndjson, 1_000).unwrap_or_default().iter()
            .map(|piece| (piece.line, piece.text)).collect();
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn any_bytes_give_pieces_of_the_body_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200), max in 0usize..5) {
        for form in [Form::Json, Form::Ndjson] {
            if let Ok(pieces) = split(&body, form, max) {
                prop_assert!(!pieces.is_empty() && pieces.len() <= max);
                prop_assert!(pieces.iter().all(|piece| !piece.text.is_empty()));
            }
        }
    }

    #[test]
    fn brackets_and_quotes_in_any_order_never_panic(body in r#"[\[\]{}",:\\ r]{0,60}"#) {
        let _ = split(body.as_bytes(), Form::Json, 5);
    }
}
