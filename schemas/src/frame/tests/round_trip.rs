//! Random values go through a frame and come back the same.

use super::*;
use crate::{
    frame,
    record::{Attachment, Nature, Participant, Pii, PiiEntity, Record, RecordType},
};
use arrow::{array::Array, datatypes::Float64Type};
use proptest::{collection::vec, option, prelude::*};
use serde_json::value::RawValue;
use std::borrow::Cow;

fn text() -> impl Strategy<Value = Cow<'static, str>> {
    prop_oneof!["[a-z]{0,4}", "\\PC{0,6}", Just("\u{0}\u{10FFFF}\"\\".to_owned())].prop_map(Cow::Owned)
}

prop_compose! {
    fn participant()(id in text(), name in option::of(text()), email in option::of(text()),
        kind in option::of(Just("bot"))) -> Participant<'static> {
        Participant { id, role: "unknown", name, email, kind }
    }
}

prop_compose! {
    fn attachment()(filename in option::of(text()), size in option::of(0..=i64::MAX), md5 in option::of(text()))
        -> Attachment<'static> {
        Attachment { kind: "file", filename: filename.clone(), size, mime_type: filename.clone(), sha1: None, md5,
            vendor_url: filename, upload_intent_id: None }
    }
}

prop_compose! {
    fn pii()(contains_email in any::<Option<bool>>(), sensitive_score in option::of(0.0..=1.0f64),
        entities in vec((text(), option::of(text()), option::of(0.0..=1.0f64)), 0..3)) -> Pii<'static> {
        let entity = |(kind, value, confidence)| PiiEntity { kind, value, confidence };
        Pii { contains_email, contains_phone: contains_email.map(|yes| !yes), sensitive_score,
            detected_entities: entities.into_iter().map(entity).collect(), redaction_status: Some("encrypted") }
    }
}

prop_compose! {
    fn some_record()(event_at in -62_135_596_800i64..=253_402_300_799, ids in vec((text(), text()), 1..4),
        product_id in text(), project_ids in vec(text(), 1..3), thread_id in option::of(text()),
        participants in vec(participant(), 0..3), attachments in vec(attachment(), 0..3), tags in vec(text(), 0..3),
        pii in option::of(pii())) -> Record<'static> {
        let data: &'static RawValue = serde_json::from_str(r#"{ "a" : 1.0, "a" : "\ud800" }"#).unwrap();
        Record { kind: RecordType::Document, event_at, vendor_ids: ids, product_id, project_ids,
            nature: Nature::Context, thread_id, participants, attachments, tags, pii, data }
    }
}

fn encode(record: &Record<'_>, source: &str) -> Vec<u8> {
    let stamp = Stamp {
        workspace: "w",
        source,
        batch_id: "b",
        record_index: u32::MAX,
        received_at: -1,
        identity: Identity::of(record),
        lanes_in_batch: None,
    };
    let mut out = Vec::new();
    encode_record(&stamp, record, &mut out);
    out
}

/// The strings of a column, for all rows.
fn strings(column: &dyn Array) -> Vec<Option<&str>> {
    column.as_string::<i32>().iter().collect()
}

proptest! {
    #[test]
    fn records(records in vec(some_record(), 1..6)) {
        let frames: Vec<_> = records.iter().map(|record| encode(record, "s")).collect();
        let decoded = RecordDecoder::new().decode(frames.iter().map(Vec::as_slice)).unwrap();
        let table = columns::to_table(&decoded, &vec![0; records.len()]).unwrap();
        let column = |name: &str| table.column_by_name(name).unwrap();
        for (row, record) in records.iter().enumerate() {
            prop_assert_eq!(strings(column("thread_id"))[row], record.thread_id.as_deref());
            prop_assert_eq!(strings(column("product_id"))[row], Some(&*record.product_id));
            prop_assert_eq!(strings(column("data"))[row], Some(record.data.get()));
            let at = column("event_at").as_primitive::<TimestampMicrosecondType>().value(row);
            prop_assert_eq!(at, record.event_at * 1_000_000);
            let ids = column("vendor_ids").as_map().value(row);
            let ids: Vec<_> = strings(ids.column(0)).into_iter().zip(strings(ids.column(1))).collect();
            let expected: Vec<_> = record.vendor_ids.iter().map(|(key, value)| (Some(&**key), Some(&**value))).collect();
            prop_assert_eq!(ids, expected);
            let tags = column("tags").as_list::<i32>().value(row);
            prop_assert_eq!(strings(&tags), record.tags.iter().map(|tag| Some(&**tag)).collect::<Vec<_>>());
            check_nested(&table, row, record)?;
        }
    }

    #[test]
    fn cut_frames_are_errors(record in some_record(), cut in any::<proptest::sample::Index>()) {
        let frame = encode(&record, "s");
        let cut = &frame[..cut.index(frame.len())];
        prop_assert!(RecordDecoder::new().decode([frame.as_slice(), cut]).is_err_and(|error| error.index == 1));
    }

    #[test]
    fn a_decoder_is_as_new_after_an_error(record in some_record(), at in any::<proptest::sample::Index>(), byte: u8,
        before in 0usize..3) {
        let good = encode(&record, "s");
        let mut bad = good[..at.index(good.len())].to_vec();
        let mut decoder = RecordDecoder::new();
        for _ in 0..2 {
            let frames = std::iter::repeat_n(&good[..], before).chain([&bad[..]]);
            prop_assert!(decoder.decode(frames).is_err_and(|error| error.index == before));
            prop_assert_eq!(decoder.decode([&good[..]]).unwrap(), RecordDecoder::new().decode([&good[..]]).unwrap());
            // The second time with a header that nobody knows.
            bad.insert(0, byte | 1);
        }
    }

    #[test]
    fn changed_frames_are_answered(record in some_record(), at in any::<proptest::sample::Index>(), byte: u8) {
        let mut frame = encode(&record, "s");
        let at = at.index(frame.len());
        frame[at] = byte;
        if let Ok(batch) = RecordDecoder::new().decode([frame.as_slice()]) {
            prop_assert_eq!(columns::to_table(&batch, &[0]).unwrap().num_rows(), 1);
        }
    }

    #[test]
    fn the_digest_is_of_the_content(a in some_record(), b in some_record(), same_source: bool) {
        let digest = |record: &Record<'_>, source: &str| {
            let frame = encode(record, source);
            let batch = RecordDecoder::new().decode([frame.as_slice()]).unwrap();
            batch.column_by_name("digest").unwrap().as_primitive::<Int64Type>().value(0)
        };
        let content = |record: &Record<'_>| {
            format!("{:?}", (&record.product_id, &record.project_ids, &record.thread_id, &record.participants,
                &record.attachments, &record.tags, &record.pii))
        };
        let source = if same_source { "s" } else { "other" };
        prop_assert_eq!(digest(&a, "s") == digest(&b, source), same_source && content(&a) == content(&b));
        prop_assert_eq!(digest(&a, "s"), digest(&a, "s"));
    }

    #[test]
    fn letters(key in vec(any::<u8>(), 0..20), payload in vec(any::<u8>(), 0..200), offset: i64, reason in "\\PC{0,9}") {
        let letter = DeadLetter { topic: "t".into(), partition: u32::MAX, offset, stage: "s".into(), reason, at: offset,
            key, payload };
        let mut out = Vec::new();
        letter.encode(&mut out);
        prop_assert_eq!(DeadLetter::decode(&out).unwrap(), letter);
        prop_assert!(DeadLetter::decode(&out[..out.len() - 1]).is_err());
        out.push(0);
        prop_assert!(DeadLetter::decode(&out).is_err());
    }

    #[test]
    fn attachments(of in attachment(), key: [u8; 16], record_index: u32, n: u32) {
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        let sent = frame::Attachment {
            workspace: "w".into(),
            batch_id: "b".into(),
            record_index,
            n,
            key: Identity(key),
            kind: of.kind.into(),
            filename: owned(of.filename),
            size: of.size,
            mime_type: owned(of.mime_type),
            sha1: owned(of.sha1),
            md5: owned(of.md5),
            vendor_url: owned(of.vendor_url),
            upload_intent_id: owned(of.upload_intent_id),
        };
        let mut out = Vec::new();
        sent.encode(&mut out);
        prop_assert_eq!(frame::Attachment::decode(&out).unwrap(), sent);
        prop_assert!(frame::Attachment::decode(&out[..out.len() - 1]).is_err());
        out.push(0);
        prop_assert!(frame::Attachment::decode(&out).is_err());
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..60), known in 0..3) {
        let mut frame = Vec::new();
        match known {
            0 => {}
            1 => reject().encode(&mut frame),
            _ => super::attachment().encode(&mut frame),
        }
        frame.truncate(10);
        frame.extend(bytes);
        let _ = (Reject::decode(&frame), BatchEvent::decode(&frame), DeadLetter::decode(&frame));
        let _ = frame::Attachment::decode(&frame);
    }
}

fn check_nested(
    table: &arrow::record_batch::RecordBatch,
    row: usize,
    record: &Record<'_>,
) -> Result<(), TestCaseError> {
    let column = |name: &str| table.column_by_name(name).unwrap();
    let list = column("participants").as_list::<i32>().value(row);
    let emails: Vec<_> = record.participants.iter().map(|participant| participant.email.as_deref()).collect();
    prop_assert_eq!(strings(list.as_struct().column_by_name("email").unwrap()), emails);
    let list = column("attachments").as_list::<i32>().value(row);
    let sizes = list.as_struct().column_by_name("size").unwrap().as_primitive::<Int64Type>();
    let expected: Vec<_> = record.attachments.iter().map(|attachment| attachment.size).collect();
    prop_assert_eq!(sizes.iter().collect::<Vec<_>>(), expected);
    let column = column("pii");
    prop_assert_eq!(column.is_valid(row), record.pii.is_some());
    if let Some(pii) = &record.pii {
        let found = column.as_struct();
        let flags = found.column_by_name("contains_email").unwrap().as_boolean();
        prop_assert_eq!(flags.is_valid(row).then(|| flags.value(row)), pii.contains_email);
        let list = found.column_by_name("detected_entities").unwrap().as_list::<i32>().value(row);
        let sure = list.as_struct().column_by_name("confidence").unwrap().as_primitive::<Float64Type>();
        let expected: Vec<_> = pii.detected_entities.iter().map(|entity| entity.confidence).collect();
        prop_assert_eq!(sure.iter().collect::<Vec<_>>(), expected);
    }
    Ok(())
}
