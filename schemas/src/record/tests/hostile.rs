//! Input made to hurt: `data` is never looked into, and nothing recurses.

use super::{super::*, FULL};

fn with_data(data: &str) -> String {
    let at = FULL.find(r#""data":"#).unwrap() + 7;
    format!("{}{data}}}", &FULL[..at])
}

#[test]
fn data_is_kept_byte_for_byte() {
    let nested = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(4_000_000));
    for data in [
        r#"{"n":1.0,"m":1e400,"k":123456789012345678901234567890,"z":-0}"#,
        r#"{"a":1,"a":2,"":{"a":null}}"#,
        "{ \"a\"\t:\r\n [ 1 , 2 ] }",
        r#"{"s":"\ud800 \u00e9 \/ é 😀 \u0000"}"#,
        "{}",
        &nested,
        &long,
    ] {
        let json = with_data(data);
        let record = parse(json.as_bytes()).unwrap();
        assert_eq!(record.data.get(), data);
    }
}

#[test]
fn data_must_be_an_object() {
    for data in ["[]", "null", "1", "\"x\"", "true"] {
        let errors = parse(with_data(data).as_bytes()).unwrap_err();
        assert_eq!((errors.len(), errors[0].pointer.as_str()), (1, "/data"), "{data}");
    }
}

#[test]
fn nesting_elsewhere_is_an_error_and_no_overflow() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(1_000_000), close.repeat(1_000_000));
    for (from, to) in [
        (r#""redacted""#, deep("[", "]")),
        (r#"["x","x"]"#, deep("[", "]")),
        (r#""_nature":"guidance""#, format!("\"new\":{}", deep("[", "]"))),
        (r#"{"z":"26","a":"1"}"#, format!("{}1{}", "{\"a\":".repeat(500_000), "}".repeat(500_000))),
    ] {
        let errors = parse(FULL.replacen(from, &to, 1).as_bytes()).unwrap_err();
        assert_eq!((errors.len(), errors[0].code), (1, ErrorCode::ValidationError), "{from}");
    }
    for broken in ["[".repeat(5_000_000), "{\"a\":".repeat(1_000_000)] {
        assert_eq!(parse(broken.as_bytes()).unwrap_err()[0].code, ErrorCode::InvalidJson);
    }
    let whole = deep("[", "]");
    assert_eq!(parse(whole.as_bytes()).unwrap_err()[0].message, "expected a JSON object, got an array");
}

#[test]
fn the_largest_arrays_are_taken_and_one_more_is_not() {
    let participants = |count: usize| format!("[{}]", vec![r#"{"id":"a","role":"unknown"}"#; count].join(","));
    let old = &FULL[FULL.find("[{\"id\"").unwrap()..FULL.find(",\n\"_attachments\"").unwrap()];
    assert_eq!(parse(FULL.replacen(old, &participants(5_000), 1).as_bytes()).unwrap().participants.len(), 5_000);
    let errors = parse(FULL.replacen(old, &participants(5_001), 1).as_bytes()).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].message.ends_with("got 5001 entries"), "{}", errors[0].message);
}
