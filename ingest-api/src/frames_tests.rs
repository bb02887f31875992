use super::*;
use crate::{batch::check, config::Limits, split::Form};
use std::collections::BTreeMap;
use tributary_schemas::frame::RecordDecoder;

const STAMP: BatchStamp<'static> = BatchStamp { workspace: "w", source: "s", batch_id: "b-1", received_at: 1_000_000 };

fn body(records: usize, bad: usize) -> String {
    let good = (0..records).map(|n| {
        format!(
            r#"{{"_type":"message","_schema_version":"1.0.0","_event_at":"2024-05-01T10:00:00Z","_vendor_ids":{{"id":"{n}"}},"_product_id":"p","_project_id":"p","data":{{"n":{n}}}}}"#
        )
    });
    good.chain((0..bad).map(|_| "{\"bad\": \u{e4}}".to_owned())).collect::<Vec<_>>().join("\n")
}

fn messages_of(body: &str, lanes: &Lanes) -> Vec<Append> {
    let mut messages = Messages::new(STAMP, lanes, body.len());
    let each = |index, record| messages.add(index, record);
    let checked = check(body.as_bytes(), Form::Ndjson, &Limits::default(), each).expect("batch");
    messages.finish(&checked.rejected, 3)
}

#[test]
fn the_last_record_of_each_lane_says_how_many_lanes_there_are() {
    let lanes = Lanes { partitions: 8, spread: 4 };
    let messages = messages_of(&body(200, 0), &lanes);
    let mut of_lane: BTreeMap<u32, Vec<&Append>> = BTreeMap::new();
    for message in &messages {
        of_lane.entry(message.partition).or_default().push(message);
    }
    assert_eq!(of_lane.len(), 4, "200 records reach every lane of the workspace");
    for (lane, messages) in of_lane {
        let rows = RecordDecoder::new().decode(messages.iter().map(|m| &m.value[..])).expect("frames");
        let column = rows.column_by_name("lanes_in_batch").expect("column");
        for place in 0..messages.len() {
            assert_eq!(column.is_valid(place), place + 1 == messages.len(), "lane {lane}, record {place}");
        }
    }
}

#[test]
fn a_record_goes_where_its_identity_says() {
    let lanes = Lanes { partitions: 8, spread: 4 };
    for message in messages_of(&body(50, 0), &lanes) {
        let identity = Identity(message.key[..].try_into().expect("16 bytes"));
        assert_eq!(message.partition, lanes.of("w").lane(&identity));
        assert_eq!(message.topic, Topic::Records);
    }
}

#[test]
fn rejects_carry_their_text_and_errors() {
    let messages = messages_of(&body(1, 2), &Lanes { partitions: 1, spread: 1 });
    let rejects: Vec<Reject> = messages
        .iter()
        .filter(|m| m.topic == Topic::Rejects)
        .map(|m| Reject::decode(&m.value).expect("frame"))
        .collect();
    assert_eq!(rejects.len(), 2);
    assert_eq!((rejects[0].record_index, rejects[0].line), (1, Some(2)));
    assert_eq!(rejects[1].payload, "{\"bad\": \u{e4}}");
    assert!(!rejects[1].payload_cut && !rejects[1].errors.is_empty());
    let partitions: std::collections::BTreeSet<_> = messages[1..].iter().map(|m| m.partition).collect();
    assert_eq!(partitions.len(), 1, "a batch's rejects stay together");
}

#[test]
fn a_long_payload_is_cut() {
    let body = format!("{}\n{}", body(1, 0), "x".repeat(MAX_REJECT_PAYLOAD + 10));
    let messages = messages_of(&body, &Lanes { partitions: 1, spread: 1 });
    let reject = Reject::decode(&messages[1].value).expect("frame");
    assert_eq!((reject.payload.len(), reject.payload_cut), (MAX_REJECT_PAYLOAD, true));
}
