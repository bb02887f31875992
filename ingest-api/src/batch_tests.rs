use super::*;

fn record(kind: &str, product: &str, more: &str) -> String {
    format!(
        r#"{{"_type":"{kind}","_schema_version":"1.0.0","_event_at":"2024-05-01T10:00:00Z","_vendor_ids":{{"id":"1"}},"_product_id":"{product}","_project_id":"p","data":{{}}{more}}}"#
    )
}

fn checked(body: &str) -> Result<Checked<'_>, Failure> {
    check(body.as_bytes(), Form::Ndjson, &Limits::default(), |_, _| {}).map_err(|refused| refused.failure)
}

fn code(body: &str) -> &'static str {
    checked(body).map(|_| "accepted").unwrap_or_else(|failure| failure.code)
}

#[test]
fn good_and_bad_records_are_told_apart_and_keep_their_places() {
    let good = record("message", "p", "");
    let body = format!("{good}\n\nnot json\n{good}\n{{}}");
    let mut good = Vec::new();
    let each = |index, _| good.push(index);
    let batch = check(body.as_bytes(), Form::Ndjson, &Limits::default(), each).expect("some are good");
    assert_eq!((batch.accepted, good), (2, vec![0, 2]));
    let places: Vec<_> = batch.rejected.iter().map(|rejected| (rejected.index, rejected.piece.line)).collect();
    assert_eq!(places, [(1, Some(3)), (3, Some(5))]);
    assert_eq!((batch.errors[0].index, batch.errors[0].code.as_str()), (1, "INVALID_JSON"));
    assert!(batch.errors[0].message.ends_with(" (line 3)"), "{}", batch.errors[0].message);
    assert_eq!(batch.total_errors as usize, batch.rejected.iter().map(|r| r.errors.len()).sum::<usize>());
}

#[test]
fn twenty_errors_are_shown_and_all_are_counted() {
    let body = format!("{}\n{}", record("message", "p", ""), "{}\n".repeat(100));
    let batch = checked(&body).expect("one is good");
    assert_eq!(batch.errors.len(), 20);
    assert!(batch.total_errors > 100);
    assert_eq!(batch.rejected.len(), 100);
}

#[test]
fn good_records_must_agree_on_type_and_product() {
    let one = record("message", "p", "");
    assert_eq!(code(&format!("{one}\n{}", record("MESSAGE", "p", ""))), "accepted");
    assert_eq!(code(&format!("{one}\n{}", record("email", "p", ""))), "MIXED_TYPES");
    assert_eq!(code(&format!("{one}\n{}", record("message", "q", ""))), "MIXED_PRODUCTS");
}

#[test]
fn a_rejected_record_does_not_count_for_the_rules() {
    let bad = record("email", "q", r#","_unknown":1"#);
    assert_eq!(code(&format!("{}\n{bad}", record("message", "p", ""))), "accepted");
}

#[test]
fn a_batch_of_bad_records_is_refused_with_its_errors() {
    let refused = check(b"{}\nnull\n", Form::Ndjson, &Limits::default(), |_, _| {}).expect_err("all bad");
    assert_eq!((refused.failure.code, refused.records), ("ALL_RECORDS_REJECTED", 2));
    let details = refused.failure.details.expect("details");
    assert!(details["errors"].as_array().is_some_and(|errors| !errors.is_empty()));
    assert!(details["totalErrorCount"].as_u64().is_some_and(|n| n > 1));
}

#[test]
fn attachments_are_counted_over_the_batch() {
    let attachments = format!(r#","_attachments":[{}]"#, [r#"{"type":"file"}"#; 10].join(","));
    let with_ten = format!("{}\n", record("message", "p", &attachments));
    assert_eq!(checked(&with_ten.repeat(100)).expect("1,000").attachments, 1_000);
    let one_more =
        format!("{}{}", with_ten.repeat(100), record("message", "p", r#","_attachments":[{"type":"file"}]"#));
    assert_eq!(code(&one_more), "TOO_MANY_ATTACHMENTS");
}

#[test]
fn bodies_that_hold_no_batch() {
    assert_eq!(code(""), "EMPTY_BATCH");
    assert_eq!(code(&"{}\n".repeat(1_001)), "TOO_MANY_RECORDS");
    let json = |body: &str| {
        check(body.as_bytes(), Form::Json, &Limits::default(), |_, _| {}).map(|_| ()).map_err(|r| r.failure.code)
    };
    assert_eq!(json("null"), Err("INVALID_JSON"));
    assert_eq!(json("[]"), Err("EMPTY_BATCH"));
    assert_eq!(json("[null]"), Err("ALL_RECORDS_REJECTED"));
}

#[test]
fn a_shown_message_is_bounded_with_its_line() {
    let error = FieldError {
        code: tributary_schemas::record::ErrorCode::ValidationError,
        pointer: String::new(),
        message: "ä".repeat(3_000),
        count: 1,
    };
    let message = shown(0, Some(17), &error).message;
    assert_eq!(message.chars().count(), MAX_MESSAGE_CHARS);
    assert!(message.ends_with(" (line 17)"));
}

/// A record can hold a million errors; what is kept of them must not.
#[test]
fn the_errors_of_one_record_are_bounded() {
    let participants = format!(r#","_participants":[{}]"#, vec!["{}"; 1_000_000].join(","));
    let body = format!("{}\n{}", record("message", "p", ""), record("message", "p", &participants));
    let batch = checked(&body).expect("one is good");
    assert!(batch.rejected[0].errors.len() <= MAX_KEPT_ERRORS);
    assert_eq!(batch.errors.len(), MAX_SHOWN_ERRORS);
    assert!(batch.total_errors >= 5_000, "those that are not listed are counted, too: {}", batch.total_errors);
}

#[test]
fn the_errors_of_a_batch_are_bounded_and_each_bad_record_keeps_one() {
    let unknown: String = (0..200).map(|n| format!(r#","u{n}":0"#)).collect();
    let bad = record("message", "p", &unknown) + "\n";
    let body = record("message", "p", "") + "\n" + &bad.repeat(999);
    let batch = checked(&body).expect("one is good");
    assert_eq!(batch.total_errors, 999 * 200);
    let kept = batch.rejected.iter().map(|rejected| rejected.errors.len()).sum::<usize>();
    assert!(kept <= MAX_BATCH_KEPT_ERRORS + 999, "{kept}");
    assert_eq!(batch.rejected[0].errors.len(), MAX_KEPT_ERRORS);
    assert!(batch.rejected.iter().all(|rejected| !rejected.errors.is_empty()));
}
