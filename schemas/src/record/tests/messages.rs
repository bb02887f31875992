//! What a sender is told.

use super::{super::*, FULL};
use crate::limits::MAX_RECORD_ERRORS;

fn errors(json: &str) -> Vec<String> {
    parse(json.as_bytes()).unwrap_err().into_iter().map(|error| error.message).collect()
}

/// The messages when `from` is replaced by `to` in a good record.
fn replaced(from: &str, to: &str) -> Vec<String> {
    assert!(FULL.contains(from), "{from}");
    errors(&FULL.replacen(from, to, 1))
}

#[test]
fn one_wrong_value_each() {
    let type_names = "email_thread, email, meeting_notes, call, call_transcription, conversation, message, document, \
                      spreadsheet (in any letter case)";
    for (from, to, message) in [
        (r#""Call""#, r#""chat""#, format!(r#"/_type: expected one of {type_names}, got "chat""#)),
        (r#""Call""#, "7", format!("/_type: expected one of {type_names}, got 7")),
        (r#""1.0.0""#, r#""2""#, r#"/_schema_version: expected "1.0.0", got "2""#.to_owned()),
        (
            "2024-05-06T07:08:09.5Z",
            "2023-02-29T07:08:09Z",
            "/_event_at: expected a UTC date and time YYYY-MM-DDTHH:MM:SS[.f]Z with one to three fraction digits of the \
             years 0001 to 9999, got \"2023-02-29T07:08:09Z\": there is no such day"
                .to_owned(),
        ),
        (
            r#"{"z":"26","a":"1"}"#,
            "{}",
            "/_vendor_ids: expected an object with at least one entry, all of them strings, got none".to_owned(),
        ),
        (r#""z":"26""#, r#""z":26"#, "/_vendor_ids/z: expected a string, got 26".to_owned()),
        (r#""z":"26""#, r#""a":"26""#, "/_vendor_ids/a: expected the field once, got it again".to_owned()),
        (
            r#"["p1","p2"]"#,
            "[]",
            "/_project_ids: expected an array of at least 1 entry of strings of at most 128 characters, got 0 entries"
                .to_owned(),
        ),
        (
            r#""t""#,
            "null",
            "/_thread_id: expected a string of at most 512 characters, got null (leave it out instead)".to_owned(),
        ),
        (
            r#""n@example.org""#,
            r#""nobody""#,
            r#"/_participants/0/email: expected an e-mail address of at most 320 characters, got "nobody""#.to_owned(),
        ),
        (
            "9223372036854775807",
            "9223372036854775808",
            "/_attachments/0/size: expected an integer from 0 to 9223372036854775807, got 9223372036854775808".to_owned(),
        ),
        (r#""sensitive_score":0.5"#, r#""sensitive_score":1.5"#, "/_pii/sensitive_score: expected a number from 0 to 1, got 1.5".to_owned()),
        (r#""confidence":1"#, r#""confidence":"1""#, r#"/_pii/detected_entities/0/confidence: expected a number from 0 to 1, got "1""#.to_owned()),
        (r#""data":{"#, r#""data":[],"_more":{"#, String::new()),
    ] {
        let messages = replaced(from, to);
        if !message.is_empty() {
            assert_eq!(messages, [message], "{to}");
        }
    }
}

#[test]
fn every_error_comes_in_the_order_of_the_text() {
    let messages = errors(
        r#"{"data":[],"~/odd":1,"_tags":["ok",5,null],"_type":"email","_type":"call","_project_id":"a",
           "_project_ids":["b"],"_participants":[{"role":"boss"},7],"_event_at":"x"}"#,
    );
    let pointers: Vec<_> = messages.iter().map(|message| message.split(": ").next().unwrap()).collect();
    assert_eq!(
        pointers,
        [
            "/data",
            "/~0~1odd",
            "/_tags/1",
            "/_tags/2",
            "/_type",
            "/_project_ids",
            "/_participants/0/role",
            "/_participants/0/id",
            "/_participants/1",
            "/_event_at",
            "/_schema_version",
            "/_vendor_ids",
            "/_product_id",
        ]
    );
    assert!(messages[1].contains("got an unknown field"), "{}", messages[1]);
    assert!(messages[5].ends_with("expected either _project_id or _project_ids, got both"), "{}", messages[5]);
    assert!(messages[12].ends_with("got nothing"), "{}", messages[12]);
}

#[test]
fn a_record_without_project() {
    let messages = replaced(r#""_project_ids":["p1","p2"],"#, "");
    assert_eq!(messages.len(), 1);
    assert!(messages[0].starts_with("/_project_ids: ") && messages[0].ends_with("got nothing"), "{messages:?}");
}

#[test]
fn what_is_no_record_at_all() {
    for (json, message) in [
        ("null", "expected a JSON object, got null"),
        ("[]", "expected a JSON object, got an array"),
        ("\"x\"", "expected a JSON object, got \"x\""),
        ("", "expected a JSON object, got invalid JSON: EOF while parsing a value at line 1 column 0"),
        ("{} x", "expected a JSON object, got invalid JSON: trailing characters at line 1 column 4"),
        ("\u{feff}{}", "expected a JSON object, got a byte order mark at byte 0"),
    ] {
        assert_eq!(errors(json), [message]);
    }
    let invalid = parse(b"{\"_type\":\"\xFF\"}").unwrap_err();
    assert_eq!(invalid[0].message, "expected UTF-8, got the byte 0xFF at byte 10");
    assert_eq!(invalid[0].code, ErrorCode::InvalidJson);
    let nul = parse(b"{\"_type\":\"a\0\"}").unwrap_err();
    assert_eq!(nul[0].code, ErrorCode::InvalidJson);
    assert!(nul[0].message.contains("line 1 column 11"), "{}", nul[0].message);
}

#[test]
fn a_lone_surrogate_is_named() {
    let messages = replaced(r#""t""#, r#""\ud800""#);
    assert!(messages[0].ends_with("got a string with an unpaired surrogate escape"), "{messages:?}");
    let messages = replaced(r#""z":"26""#, r#""\ud800":"26""#);
    assert_eq!(messages, [r"/_vendor_ids/\ud800: expected a field name, got one with an unpaired surrogate escape"]);
}

#[test]
fn long_values_and_names_are_cut_between_characters() {
    let long = "ä".repeat(1_000_000);
    let messages = replaced(r#""redacted""#, &format!("{long:?}"));
    assert!(messages[0].ends_with("ä…\"") && messages[0].chars().count() < 300, "{}", messages[0].len());
    let messages = replaced(r#""_nature""#, &format!("{long:?}"));
    assert!(messages[0].starts_with("/ä") && messages[0].chars().count() < 500, "{}", messages[0].len());
}

#[test]
fn more_errors_than_are_listed_are_summed_up() {
    let wrong = vec!["0"; MAX_RECORD_ERRORS + 5].join(",");
    let messages = replaced(r#"["x","x"]"#, &format!("[{wrong}]"));
    assert_eq!(messages.len(), MAX_RECORD_ERRORS + 1);
    assert_eq!(messages[MAX_RECORD_ERRORS], "expected a valid record, got 6 errors more than are listed");
    let errors = parse(FULL.replacen(r#"["x","x"]"#, &format!("[{wrong}]"), 1).as_bytes()).expect_err("wrong");
    assert_eq!(errors.iter().map(|error| error.count).sum::<u32>() as usize, MAX_RECORD_ERRORS + 6);
}
