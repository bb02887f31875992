use super::*;
use proptest::prelude::*;

mod agreement;
mod hostile;
mod messages;

/// A record with every field.
pub(crate) const FULL: &str = r#"{"_type":"Call","_schema_version":"1.0.0","_event_at":"2024-05-06T07:08:09.5Z",
"_vendor_ids":{"z":"26","a":"1"},"_product_id":"prod","_project_ids":["p1","p2"],"_nature":"guidance",
"_thread_id":"t","_participants":[{"id":"i","role":"internal","name":"N","email":"n@example.org","type":"bot"}],
"_attachments":[{"type":"audio","filename":"f","size":9223372036854775807,"mime_type":"audio/ogg","sha1":"s",
"md5":"m","vendor_url":"https://example.org/f","upload_intent_id":"u"}],"_tags":["x","x"],"_pii":{
"contains_email":true,"contains_phone":false,"sensitive_score":0.5,"detected_entities":[{"type":"e","value":"v",
"confidence":1}],"redaction_status":"redacted"},"data":{"b":1.0,"a":1e400,"a":"\ud800"}}"#;

#[test]
fn every_field_is_read_and_normalised() {
    let record = parse(FULL.as_bytes()).unwrap();
    assert_eq!(record.kind, RecordType::Call);
    assert_eq!(record.event_at, 1_714_979_290, "the half second rounds up");
    assert_eq!(record.vendor_ids, [("a".into(), "1".into()), ("z".into(), "26".into())]);
    assert_eq!(record.product_id, "prod");
    assert_eq!(record.project_ids, ["p1", "p2"]);
    assert_eq!(record.nature, Nature::Guidance);
    assert_eq!(record.thread_id.as_deref(), Some("t"));
    let participant = &record.participants[0];
    assert_eq!((&*participant.id, participant.role, participant.kind), ("i", "internal", Some("bot")));
    assert_eq!((participant.name.as_deref(), participant.email.as_deref()), (Some("N"), Some("n@example.org")));
    let attachment = &record.attachments[0];
    assert_eq!((attachment.kind, attachment.size), ("audio", Some(i64::MAX)));
    assert_eq!((attachment.sha1.as_deref(), attachment.md5.as_deref()), (Some("s"), Some("m")));
    assert_eq!(attachment.vendor_url.as_deref(), Some("https://example.org/f"));
    assert_eq!(record.tags, ["x", "x"]);
    let pii = record.pii.as_ref().unwrap();
    assert_eq!((pii.contains_email, pii.contains_phone, pii.sensitive_score), (Some(true), Some(false), Some(0.5)));
    assert_eq!((&*pii.detected_entities[0].kind, pii.detected_entities[0].confidence), ("e", Some(1.0)));
    assert_eq!(pii.redaction_status, Some("redacted"));
    assert_eq!(record.data.get(), r#"{"b":1.0,"a":1e400,"a":"\ud800"}"#);
}

#[test]
fn what_is_left_out_gets_its_default() {
    let minimal = r#"{"_type":"EMAIL_thread","_schema_version":"1.0.0","_event_at":"0001-01-01T00:00:00Z",
        "_vendor_ids":{"":""},"_product_id":"","_project_id":"","data":{}}"#;
    let record = parse(minimal.as_bytes()).unwrap();
    assert_eq!(record.kind.as_str(), "email_thread");
    assert_eq!(record.project_ids, [""]);
    assert_eq!((record.nature, record.thread_id.is_none()), (Nature::Evidence, true));
    assert!(record.participants.is_empty() && record.attachments.is_empty() && record.tags.is_empty());
    assert!(record.pii.is_none());
}

#[test]
fn the_real_sample_has_no_errors() {
    let sample = include_str!("../../../testdata/sample.ndjson");
    let mut count = 0;
    for line in sample.lines() {
        let record = parse(line.as_bytes()).unwrap();
        let data = line.find(r#""data":"#).unwrap() + 7;
        assert_eq!(record.data.get(), &line[data..line.len() - 1]);
        count += 1;
    }
    assert_eq!(count, 40);
}

#[test]
fn names_and_their_order_agree() {
    for (kind, name) in RecordType::ALL.into_iter().zip(shape::TYPES) {
        assert_eq!(kind.as_str(), *name);
        assert_eq!(RecordType::from_name(&name.to_uppercase()), Some(kind));
    }
    for nature in [Nature::Evidence, Nature::Guidance, Nature::Context] {
        assert_eq!(Nature::from_name(nature.as_str()), nature);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&bytes).is_err_and(|errors| !errors.is_empty()));
    }

    #[test]
    fn a_changed_byte_is_answered(at in 0..FULL.len(), byte: u8) {
        let mut bytes = FULL.as_bytes().to_vec();
        bytes[at] = byte;
        if let Err(errors) = parse(&bytes) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(error.message.starts_with(&error.pointer), "{error:?}");
                prop_assert!(error.message.chars().count() <= crate::limits::MAX_MESSAGE_CHARS);
            }
        }
    }
}
