//! The documented envelope and the validator agree.

use super::*;
use crate::record::{parse, tests::FULL};
use serde_json::{Value, json};
use utoipa::PartialSchema;

fn documented() -> Value {
    let schema = serde_json::to_value(Envelope::schema()).unwrap();
    let one_of = schema["allOf"][1]["oneOf"].as_array().unwrap();
    let needed: Vec<_> = one_of.iter().map(|choice| choice["required"].clone()).collect();
    assert_eq!(needed, [json!(["_project_id"]), json!(["_project_ids"])]);
    schema["allOf"][0].clone()
}

/// A good record with every documented field of the kind that excludes no other.
fn record() -> Value {
    let data = &FULL[FULL.find(r#""data":"#).unwrap()..];
    serde_json::from_str(&FULL.replace(data, r#""data":{}}"#)).unwrap()
}

/// Pointers of the errors of a record.
fn errors(record: &Value) -> Vec<String> {
    let text = record.to_string();
    parse(text.as_bytes()).err().unwrap_or_default().into_iter().map(|error| error.pointer).collect()
}

/// Asserts that the record, with `value` at `pointer`, has no errors, or exactly one there.
fn set(pointer: &str, value: Value, good: bool) {
    let mut record = record();
    *record.pointer_mut(pointer).unwrap() = value;
    let shown = record.pointer(pointer).unwrap().to_string();
    let shown = shown.get(..80).unwrap_or(&shown).to_owned();
    let expected = if good { vec![] } else { vec![pointer.to_owned()] };
    assert_eq!(errors(&record), expected, "{shown}");
}

fn check_object(schema: &Value, pointer: &str) {
    assert_eq!(schema["additionalProperties"], json!(false), "{pointer}");
    let mut other = record();
    other.pointer_mut(pointer).unwrap()["zzz"] = json!(1);
    assert_eq!(errors(&other), [format!("{pointer}/zzz")]);
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().unwrap();
    for (name, property) in properties {
        assert!(property["description"].is_string(), "{pointer}/{name}");
        // Excluded by `_project_ids`; it has the same limit.
        if name == "_project_id" {
            continue;
        }
        let place = format!("{pointer}/{name}");
        let mut without = record();
        without.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(name).expect(&place);
        let needed = required.contains(&name.as_str()) || name == "_project_ids";
        assert_eq!(errors(&without), if needed { vec![place.clone()] } else { vec![] }, "{place}");
        set(&place, Value::Null, false);
        check_value(property, &place);
    }
}

fn check_value(schema: &Value, place: &str) {
    match schema["type"].as_str().unwrap() {
        "string" => check_string(schema, place),
        "array" => check_array(schema, place),
        "object" if schema["properties"].is_object() => check_object(schema, place),
        "object" => set(place, json!([]), false),
        "boolean" => [json!(true), json!(false)].into_iter().for_each(|value| set(place, value, true)),
        "integer" => {
            assert_eq!(schema["maximum"], json!(i64::MAX));
            set(place, schema["minimum"].clone(), true);
            set(place, schema["maximum"].clone(), true);
            set(place, json!(-1), false);
            set(place, json!(i64::MAX as u64 + 1), false);
        }
        "number" => {
            set(place, schema["minimum"].clone(), true);
            set(place, schema["maximum"].clone(), true);
            set(place, json!(-0.01), false);
            set(place, json!(1.01), false);
        }
        other => panic!("{other} at {place}"),
    }
}

fn check_string(schema: &Value, place: &str) {
    set(place, json!(7), false);
    if let Some(names) = schema["enum"].as_array() {
        names.iter().for_each(|name| set(place, name.clone(), true));
        set(place, json!("other"), false);
    } else if let Some(max) = schema["maxLength"].as_u64() {
        let start = match schema["format"].as_str() {
            Some("uri") => "x:",
            Some("idn-email") => "a@b.",
            _ => "",
        };
        let of = |length: u64| {
            let rest = usize::try_from(length).unwrap() - start.len();
            // Labels of a domain have at most 63 letters.
            let text: String = (0..rest).map(|at| if at % 50 == 1 && start == "a@b." { '.' } else { 'b' }).collect();
            json!(format!(
                "{start}{}",
                text.trim_end_matches('.').to_owned() + &"b".repeat(usize::from(text.ends_with('.')))
            ))
        };
        set(place, of(max), true);
        set(place, of(max + 1), false);
    } else {
        assert!(schema["pattern"].is_string(), "{place}");
        for name in schema["examples"].as_array().into_iter().flatten() {
            set(place, name.clone(), true);
            set(place, json!(name.as_str().unwrap().to_uppercase()), true);
        }
        set(place, json!("other"), false);
    }
}

fn check_array(schema: &Value, place: &str) {
    let entry = record().pointer(&format!("{place}/0")).unwrap().clone();
    let of = |count: u64| Value::Array(vec![entry.clone(); usize::try_from(count).unwrap()]);
    if let Some(max) = schema["maxItems"].as_u64() {
        set(place, of(max), true);
        set(place, of(max + 1), false);
    }
    let least = schema["minItems"].as_u64().unwrap_or(0);
    set(place, of(least), true);
    if least > 0 {
        set(place, of(least - 1), false);
    }
    check_value(&schema["items"], &format!("{place}/0"));
}

#[test]
fn the_documented_envelope_is_what_is_validated() {
    check_object(&documented(), "");
}

#[test]
fn answers_carry_exactly_the_documented_names() {
    let view = BatchView {
        batch_id: "b".into(),
        status: BatchStatus::Landing,
        created_at: 1,
        accepted_count: 2,
        rejected_count: 0,
        total_error_count: 0,
        errors: None,
        source: Some("s".into()),
        kind: Some("email".into()),
        attachment_download_total: None,
        attachment_download_complete: None,
        attachment_download_failed: None,
        attachment_download_status: None,
    };
    let page = BatchPage { batches: vec![view], next_cursor: None };
    assert_eq!(
        serde_json::to_value(&page).unwrap(),
        json!({"batches": [{"batchId": "b", "status": "LANDING", "createdAt": 1, "acceptedCount": 2,
            "rejectedCount": 0, "totalErrorCount": 0, "source": "s", "type": "email"}], "nextCursor": null})
    );
    let schema = serde_json::to_value(BatchPage::schema()).unwrap();
    assert_eq!(schema["required"], json!(["batches", "nextCursor"]));
    assert_eq!(schema["properties"]["nextCursor"]["type"], json!(["string", "null"]), "{schema}");
    let error = ApiError { error: "E".into(), message: "m".into(), retry_after: None, details: None };
    assert_eq!(serde_json::to_value(&error).unwrap(), json!({"error": "E", "message": "m"}));
}
