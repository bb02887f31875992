//! Topic `records`: written from a [`Record`] by serde, read as columns by `arrow-avro`.

use super::{
    FrameError, SchemaIds, Stamp, Unasked, WIRE_BYTES, as_fixed,
    single::Codec,
    wire::{SINGLE_BYTES, header_of, single_object_datum, wire_id},
};
use crate::{
    columns,
    identity::{Identity, put},
    record::{Attachment, Participant, Pii, Record, shape::SCHEMA_VERSION},
};
use arrow::record_batch::RecordBatch;
use arrow_avro::{
    codec::Tz,
    reader::{Decoder, ReaderBuilder},
    schema::{AvroSchema, SchemaStore},
};
use serde::{Serialize, Serializer};
use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};
use xxhash_rust::xxh3::xxh3_64;

/// The Avro schema of topic `records` that is written now, as JSON.
pub const RECORD_SCHEMA: &str = include_str!("../../avro/record.avsc");
/// Nothing that was ever written here looks like it.
const NO_MESSAGE: &str =
    "this is no message of Tributary: it begins neither as Avro's single-object encoding nor with a schema's id";
const MICROS_PER_SECOND: i64 = 1_000_000;

static CODEC: LazyLock<Codec> = LazyLock::new(|| Codec::new(RECORD_SCHEMA));

/// Fields in the schema's order, which is the fastest to write.
#[derive(Serialize)]
struct Datum<'a> {
    workspace: &'a str,
    source: &'a str,
    batch_id: &'a str,
    record_index: u32,
    received_at: i64,
    lanes_in_batch: Option<u32>,
    #[serde(serialize_with = "as_fixed::serialize")]
    key: Identity,
    digest: i64,
    schema_version: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    event_at: i64,
    #[serde(serialize_with = "map")]
    vendor_ids: &'a [(Cow<'a, str>, Cow<'a, str>)],
    product_id: &'a str,
    project_ids: &'a [Cow<'a, str>],
    nature: &'a str,
    thread_id: Option<&'a str>,
    participants: &'a [Participant<'a>],
    attachments: &'a [Attachment<'a>],
    tags: &'a [Cow<'a, str>],
    pii: Option<&'a Pii<'a>>,
    data: &'a str,
}

fn map<S: Serializer>(entries: &[(Cow<'_, str>, Cow<'_, str>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
}

/// Appends one frame of topic `records` to `out`. The frame also carries `digest`, a 64-bit content hash of
/// everything that a sender may change under one identity, so that an identical payload is recognised.
pub fn encode_record(stamp: &Stamp<'_>, record: &Record<'_>, out: &mut Vec<u8>) {
    let datum = Datum {
        workspace: stamp.workspace,
        source: stamp.source,
        batch_id: stamp.batch_id,
        record_index: stamp.record_index,
        received_at: stamp.received_at,
        lanes_in_batch: stamp.lanes_in_batch,
        key: stamp.identity,
        digest: digest(stamp.source, record, out),
        schema_version: SCHEMA_VERSION,
        kind: record.kind.as_str(),
        event_at: record.event_at.saturating_mul(MICROS_PER_SECOND),
        vendor_ids: &record.vendor_ids,
        product_id: &record.product_id,
        project_ids: &record.project_ids,
        nature: record.nature.as_str(),
        thread_id: record.thread_id.as_deref(),
        participants: &record.participants,
        attachments: &record.attachments,
        tags: &record.tags,
        pii: record.pii.as_ref(),
        data: record.data.get(),
    };
    CODEC.encode(&datum, out);
}

/// XXH3 (64 bits, no seed) of source and content, each part preceded by its length or, where it may be missing, by a
/// byte that says whether it is there. Never to be changed: records in the lake carry it. The end of `scratch` is used
/// to put the parts together and left as it was.
///
/// Not cryptographic, as the identity is: whoever could make two contents collide under one identity may write to that
/// identity anyway.
fn digest(source: &str, record: &Record<'_>, scratch: &mut Vec<u8>) -> i64 {
    let start = scratch.len();
    put_content(scratch, source, record);
    let hash = xxh3_64(&scratch[start..]);
    scratch.truncate(start);
    hash.cast_signed()
}

fn put_content(input: &mut Vec<u8>, source: &str, record: &Record<'_>) {
    put(input, source);
    put(input, SCHEMA_VERSION);
    put(input, &record.product_id);
    put_all(input, &record.project_ids);
    put(input, record.nature.as_str());
    put_option(input, record.thread_id.as_deref());
    put_count(input, record.participants.len());
    for participant in &record.participants {
        put(input, &participant.id);
        put(input, participant.role);
        put_option(input, participant.name.as_deref());
        put_option(input, participant.email.as_deref());
        put_option(input, participant.kind);
    }
    put_count(input, record.attachments.len());
    for attachment in &record.attachments {
        put_attachment(input, attachment);
    }
    put_all(input, &record.tags);
    input.push(u8::from(record.pii.is_some()));
    if let Some(pii) = &record.pii {
        put_pii(input, pii);
    }
    // Last, so that its length need not be there.
    input.extend_from_slice(record.data.get().as_bytes());
}

fn put_attachment(input: &mut Vec<u8>, attachment: &Attachment<'_>) {
    put(input, attachment.kind);
    put_number(input, attachment.size.map(i64::to_le_bytes));
    for text in [
        &attachment.filename,
        &attachment.mime_type,
        &attachment.sha1,
        &attachment.md5,
        &attachment.vendor_url,
        &attachment.upload_intent_id,
    ] {
        put_option(input, text.as_deref());
    }
}

fn put_pii(input: &mut Vec<u8>, pii: &Pii<'_>) {
    for flag in [pii.contains_email, pii.contains_phone] {
        input.push(flag.map_or(2, u8::from));
    }
    put_number(input, pii.sensitive_score.map(f64::to_le_bytes));
    put_count(input, pii.detected_entities.len());
    for entity in &pii.detected_entities {
        put(input, &entity.kind);
        put_option(input, entity.value.as_deref());
        put_number(input, entity.confidence.map(f64::to_le_bytes));
    }
    put_option(input, pii.redaction_status);
}

fn put_count(input: &mut Vec<u8>, count: usize) {
    input.extend_from_slice(&(count as u64).to_le_bytes());
}

fn put_all(input: &mut Vec<u8>, texts: &[Cow<'_, str>]) {
    put_count(input, texts.len());
    for text in texts {
        put(input, text);
    }
}

fn put_option(input: &mut Vec<u8>, text: Option<&str>) {
    input.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put(input, text);
    }
}

fn put_number(input: &mut Vec<u8>, number: Option<[u8; 8]>) {
    input.push(u8::from(number.is_some()));
    input.extend_from_slice(&number.unwrap_or_default());
}

/// Decodes frames of topic `records`, of either encoding, into columns ([`crate::columns::frame_schema`]).
#[derive(Debug)]
pub struct RecordDecoder {
    decoder: Decoder,
    headers: Headers,
}

impl Default for RecordDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordDecoder {
    /// A decoder for the released version of the schema, where there is no registry.
    pub fn new() -> Self {
        Self::with_ids(Arc::new(Unasked))
    }

    /// The same; `ids` says what the ids of the Confluent wire format mean.
    pub fn with_ids(ids: Arc<dyn SchemaIds>) -> Self {
        Self { decoder: decoder(), headers: Headers { ids, last: None } }
    }

    /// The columns that it gives.
    pub(crate) fn schema(&self) -> arrow::datatypes::SchemaRef {
        self.decoder.schema()
    }

    /// Frames → one batch of rows in the same order. Strings of one column may take up to 2 GiB together.
    ///
    /// # Errors
    /// The first frame that cannot be decoded; the decoder can be used again afterwards.
    pub fn decode<'f>(&mut self, frames: impl IntoIterator<Item = &'f [u8]>) -> Result<RecordBatch, FrameError> {
        let frames: Vec<_> = frames.into_iter().collect();
        let decoded = self.rows(&frames).and_then(|()| self.flush(&frames));
        if let Err(error) = &decoded {
            self.empty(frames.get(error.index).copied());
        }
        decoded
    }

    /// After an error. A frame whose header was refused has left nothing; of any other the columns may hold half a row, and
    /// a new decoder costs as much as hundreds of rows.
    fn empty(&mut self, bad: Option<&[u8]>) {
        let refused = bad.is_some_and(|frame| !self.headers.are_of(frame));
        if !refused || self.decoder.flush().is_err() {
            self.decoder = decoder();
        }
    }

    fn rows(&mut self, frames: &[&[u8]]) -> Result<(), FrameError> {
        for (index, frame) in frames.iter().enumerate() {
            row(&mut self.decoder, &mut self.headers, frame).map_err(|reason| FrameError { index, reason })?;
        }
        Ok(())
    }

    fn flush(&mut self, frames: &[&[u8]]) -> Result<RecordBatch, FrameError> {
        match self.decoder.flush() {
            Ok(Some(batch)) => Ok(batch),
            Ok(None) => Ok(RecordBatch::new_empty(columns::frame_schema())),
            // Text is checked only now, for all rows together: find the row.
            Err(error) => {
                let found = first_bad(frames, &mut self.headers);
                Err(found.unwrap_or(FrameError { index: 0, reason: error.to_string() }))
            }
        }
    }
}

/// What the decoder is shown in place of the headers of the Confluent wire format.
#[derive(Debug)]
struct Headers {
    ids: Arc<dyn SchemaIds>,
    /// Almost always the next frame has the same id.
    last: Option<(u32, [u8; SINGLE_BYTES])>,
}

impl Headers {
    /// Whether a frame has the header of a record.
    fn are_of(&mut self, frame: &[u8]) -> bool {
        let ours = CODEC.header();
        wire_id(frame).map_or_else(|| frame.starts_with(&ours), |id| self.of(id).is_ok_and(|header| header == ours))
    }

    fn of(&mut self, id: u32) -> Result<[u8; SINGLE_BYTES], String> {
        match self.last {
            Some((last, header)) if last == id => Ok(header),
            _ => {
                let header = header_of(id, CODEC.header(), &*self.ids)?;
                self.last = Some((id, header));
                Ok(header)
            }
        }
    }
}

#[expect(clippy::expect_used, reason = "the schema is part of the program; the tests build this decoder")]
fn decoder() -> Decoder {
    static SCHEMAS: LazyLock<SchemaStore> = LazyLock::new(|| {
        let mut schemas = SchemaStore::new();
        schemas.register(AvroSchema::new(RECORD_SCHEMA.to_owned())).expect("a valid schema");
        schemas
    });
    ReaderBuilder::new()
        .with_writer_schema_store(SCHEMAS.clone())
        .with_batch_size(usize::MAX)
        .with_tz(Tz::Utc)
        .build_decoder()
        .expect("a decoder of the schema")
}

/// Decodes exactly one row.
fn row(decoder: &mut Decoder, headers: &mut Headers, frame: &[u8]) -> Result<(), String> {
    let before = decoder.capacity();
    let rest = match wire_id(frame) {
        Some(id) => {
            decoder.decode(&headers.of(id)?).map_err(|error| error.to_string())?;
            &frame[WIRE_BYTES..]
        }
        None if single_object_datum(frame).is_none() => return Err(NO_MESSAGE.to_owned()),
        None => frame,
    };
    let used = decoder.decode(rest).map_err(|error| error.to_string())?;
    match (used == rest.len(), before - decoder.capacity()) {
        (true, 1) => Ok(()),
        (_, 0) => Err("it ends too early".to_owned()),
        _ => Err("bytes are left over".to_owned()),
    }
}

fn first_bad(frames: &[&[u8]], headers: &mut Headers) -> Option<FrameError> {
    frames.iter().enumerate().find_map(|(index, frame)| {
        let mut alone = decoder();
        let decoded = row(&mut alone, headers, frame).and_then(|()| alone.flush().map_err(|error| error.to_string()));
        decoded.err().map(|reason| FrameError { index, reason })
    })
}
