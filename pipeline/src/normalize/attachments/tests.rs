use super::super::normalize;
use crate::chunk::{NormalizedChunk, RawChunk};
use bytes::Bytes;
use tributary_backends::log::Message;
use tributary_schemas::{
    frame::{Attachment, Frame, RecordDecoder, Stamp, encode_record},
    identity::Identity,
    record,
};

/// Everything that an attachment can have, with its type and size to be filled in.
const WHOLE: &str = r#"{"type":"TYPE","filename":"ü.ogg","size":SIZE,"mime_type":"audio/ogg","sha1":"s","md5":"m",
    "vendor_url":"https://example.org/f","upload_intent_id":"u"}"#;

fn whole(kind: &str, size: u64) -> String {
    WHOLE.replace("TYPE", kind).replace("SIZE", &size.to_string())
}

/// A message of `records`: the `index`-th of batch `b`, in a workspace, with these attachments.
fn message(index: u32, workspace: &str, attachments: &[String]) -> (Message, Identity) {
    let list = match attachments {
        [] => String::new(),
        some => format!(r#","_attachments":[{}]"#, some.join(",")),
    };
    let text = format!(
        r#"{{"_type":"email","_schema_version":"1.0.0","_event_at":"2024-01-01T00:00:00Z",
        "_vendor_ids":{{"id":"{index}"}},"_product_id":"p","_project_id":"q","data":{{}}{list}}}"#
    );
    let record = record::parse(text.as_bytes()).unwrap();
    let identity = Identity::of(&record);
    let stamp = Stamp {
        workspace,
        source: "s",
        batch_id: "b",
        record_index: index,
        received_at: 0,
        identity,
        lanes_in_batch: None,
    };
    let mut value = Vec::new();
    encode_record(&stamp, &record, &mut value);
    let key = Bytes::copy_from_slice(&identity.0);
    (Message { offset: index.into(), appended_at: 0, key, value: value.into(), trace: None }, identity)
}

fn chunk(messages: Vec<Message>) -> NormalizedChunk {
    normalize(&mut RecordDecoder::new(), 0, 0, RawChunk { messages, ..RawChunk::default() }).unwrap()
}

/// All slices of a chunk's messages, table after table.
fn slices(chunk: &mut NormalizedChunk) -> Vec<Vec<(Bytes, Bytes)>> {
    let mut slices = Vec::new();
    for mut attachments in chunk.tables.iter_mut().filter_map(|table| table.attachments.take()) {
        let next = || Some(attachments.next_messages()).filter(|messages| !messages.is_empty());
        slices.extend(std::iter::from_fn(next));
    }
    slices
}

/// Who they are of: workspace, record and place.
fn places(slices: Vec<Vec<(Bytes, Bytes)>>) -> Vec<(String, u32, u32)> {
    let read = |(_, value): (Bytes, Bytes)| Attachment::decode(&value).unwrap();
    slices.into_iter().flatten().map(read).map(|of| (of.workspace, of.record_index, of.n)).collect()
}

#[test]
fn each_attachment_becomes_a_message_with_all_that_was_said_of_it() {
    let bare = r#"{"type":"file"}"#.to_owned();
    let (first, _) = message(0, "w", &[]);
    let (second, key) = message(1, "w", &[whole("audio", 7), bare]);
    let slices = slices(&mut chunk(vec![first, second]));
    let messages = slices.concat();
    assert!(messages.iter().all(|(key, _)| key.as_ref() == b"b"), "keyed by batch");
    let said: Vec<_> = messages.iter().map(|(_, value)| Attachment::decode(value).unwrap()).collect();
    let text = |text: &str| Some(text.to_owned());
    let audio = Attachment {
        workspace: "w".into(),
        batch_id: "b".into(),
        record_index: 1,
        n: 0,
        key,
        kind: "audio".into(),
        filename: text("ü.ogg"),
        size: Some(7),
        mime_type: text("audio/ogg"),
        sha1: text("s"),
        md5: text("m"),
        vendor_url: text("https://example.org/f"),
        upload_intent_id: text("u"),
    };
    let file = Attachment {
        n: 1,
        kind: "file".into(),
        filename: None,
        size: None,
        mime_type: None,
        sha1: None,
        md5: None,
        vendor_url: None,
        upload_intent_id: None,
        ..audio.clone()
    };
    assert_eq!(said, [audio, file]);
}

#[test]
fn a_chunk_without_any_holds_nothing() {
    let chunk = chunk(vec![message(0, "w", &[]).0, message(1, "v", &[]).0]);
    assert_eq!(chunk.tables.len(), 2);
    assert!(chunk.tables.iter().all(|table| table.attachments.is_none()));
}

/// What goes to `dead-letters` is no record of the batch; its neighbours are said all the same.
#[test]
fn dead_letters_say_nothing() {
    let one = || [whole("file", 1)];
    let garbage =
        Message { offset: 1, appended_at: 0, key: Bytes::new(), value: Bytes::from_static(b"no record"), trace: None };
    let (mut foreign, _) = message(2, "w", &one());
    foreign.key = Bytes::from_static(b"another identity");
    let sound = |index, workspace| message(index, workspace, &one()).0;
    let messages = vec![sound(0, "w"), garbage, foreign, sound(3, "v"), sound(4, "../w"), sound(5, "w")];
    let mut chunk = chunk(messages);
    assert_eq!(chunk.dead.len(), 3);
    let wanted = [("w", 0), ("w", 5), ("v", 3)].map(|(workspace, index)| (workspace.to_owned(), index, 0));
    assert_eq!(places(slices(&mut chunk)), wanted);
}

#[test]
fn many_are_made_in_slices_and_the_same_ones_again() {
    let some: Vec<_> = (0..10).map(|size| whole("file", size)).collect();
    let messages: Vec<_> = (0..60).map(|index| message(index, "w", &some[..index as usize % 11]).0).collect();
    let made = slices(&mut chunk(messages.clone()));
    let bytes = |slice: &[(Bytes, Bytes)]| slice.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    let (last, full) = made.split_last().unwrap();
    assert!(full.iter().all(|slice| bytes(slice) >= super::SLICE_BYTES));
    let largest = bytes(last).max(full.iter().map(|slice| bytes(slice)).max().unwrap());
    assert!(largest < super::SLICE_BYTES + 10 * 100, "at most one record too much: {largest}");
    assert_eq!(slices(&mut chunk(messages)), made, "a replay says the same");
    let wanted = (0..60).flat_map(|index| (0..index % 11).map(move |n| ("w".to_owned(), index, n)));
    assert_eq!(places(made), wanted.collect::<Vec<_>>());
}
