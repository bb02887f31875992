//! Messages → columns, grouped by workspace. Pure; runs off the async workers.

mod attachments;

use crate::{
    chunk::{NormalizedChunk, RawChunk, TableChunk},
    dead_letters::again,
    dedup::Seen,
    lake::is_workspace_name,
    take::take_rows,
};
use arrow::{
    array::{Array, AsArray, Int64Array, UInt32Array},
    compute::concat_batches,
    datatypes::Int64Type,
    error::ArrowError,
    record_batch::RecordBatch,
};
pub(crate) use attachments::Attachments;
use std::collections::HashMap;
use tributary_backends::log::{Message, Topic};
use tributary_schemas::{
    batch::Fact,
    columns::{frame_schema, to_table},
    frame::{DeadLetter, RecordDecoder},
    identity::Identity,
};

/// Takes a chunk's frames apart. `now` stamps its dead letters (microseconds since the Unix epoch).
///
/// # Errors
/// Columns that are not those of the frames' schema: a fault of this program, not of a record.
pub(crate) fn normalize(
    decoder: &mut RecordDecoder,
    lane: u32,
    now: i64,
    raw: RawChunk,
) -> Result<NormalizedChunk, ArrowError> {
    let next = raw.next().unwrap_or_default();
    let letter = |message: &Message, stage: &str, reason: String| DeadLetter {
        topic: Topic::Records.name().to_owned(),
        partition: lane,
        offset: message.offset,
        stage: stage.to_owned(),
        reason,
        at: now,
        key: message.key.to_vec(),
        payload: message.value.to_vec(),
    };
    let (frames, decoded, broken) = decode(decoder, &raw.messages)?;
    let mut dead: Vec<_> = broken.into_iter().map(|(message, reason)| letter(message, "decode", reason)).collect();
    let mut dead_without_table = dead.len() as u64;

    let offsets: Vec<i64> = decoded.iter().map(|message| message.offset).collect();
    let keys: Vec<_> = decoded.iter().map(|message| again::split(&message.key)).collect();
    let version =
        |(offset, (_, said)): (&i64, &(_, Option<i64>))| said.map_or(*offset, |said| again::version_of(said, *offset));
    let versions: Vec<i64> = offsets.iter().zip(&keys).map(version).collect();
    let rows = to_table(&frames, &versions)?;
    let seen = seen(&rows, &versions, keys.iter().map(|(_, said)| said.is_some()))?;
    let mut groups = Groups::default();
    let workspaces = text(&frames, "workspace")?;
    for ((row, message), (key, _)) in (0u32..).zip(&decoded).zip(&keys) {
        let workspace = workspaces.value(row as usize);
        if !is_workspace_name(workspace) {
            dead.push(letter(message, "normalize", format!("{workspace:?} cannot be a workspace")));
            dead_without_table += 1;
        } else if *key != seen.get(row as usize).map_or(&[][..], |seen| &seen.identity.0) {
            let reason = "the message's key is not the identity of its record".to_owned();
            dead.push(letter(message, "normalize", reason));
            groups.of(workspace).dead.push(message.offset);
        } else {
            groups.of(workspace).rows.push(row);
        }
    }
    let table = |group: Group| {
        let facts = facts(lane, &frames, &group)?;
        let Group { workspace, rows: picked, dead } = group;
        let owned = picked.iter().filter_map(|row| Some((*row, seen.get(*row as usize)?.identity)));
        let attachments = Attachments::of(&frames, owned)?;
        let whole = picked.len() == rows.num_rows();
        let pick = |n: &u32| *n as usize;
        Ok(TableChunk {
            workspace,
            next,
            // Almost always a chunk is of one workspace: nothing to copy then.
            rows: if whole { rows.clone() } else { take_rows(&rows, &UInt32Array::from(picked.clone()))? },
            offsets: picked.iter().filter_map(|n| offsets.get(pick(n))).copied().collect(),
            seen: picked.iter().filter_map(|n| seen.get(pick(n))).copied().collect(),
            dead,
            attachments,
            facts,
        })
    };
    let tables = groups.parts.into_iter().map(table).collect::<Result<_, ArrowError>>()?;
    Ok(NormalizedChunk { next, tables, dead, dead_without_table, held: raw.held })
}

type Decoded<'m> = (RecordBatch, Vec<&'m Message>, Vec<(&'m Message, String)>);

/// Decodes all frames that can be decoded. Each one that cannot splits the run that it stands in, so that no frame
/// is decoded more than twice.
fn decode<'m>(decoder: &mut RecordDecoder, messages: &'m [Message]) -> Result<Decoded<'m>, ArrowError> {
    let (mut runs, mut decoded, mut broken) = (Vec::new(), Vec::with_capacity(messages.len()), Vec::new());
    let mut rest = messages;
    while !rest.is_empty() {
        let error = match decoder.decode(rest.iter().map(|message| message.value.as_ref())) {
            Ok(run) => {
                runs.push(run);
                decoded.extend(rest);
                break;
            }
            Err(error) => error,
        };
        let index = error.index.min(rest.len() - 1);
        let (sound, bad) = rest.split_at(index);
        if !sound.is_empty() {
            let run = decoder.decode(sound.iter().map(|message| message.value.as_ref()));
            runs.push(run.map_err(|error| ArrowError::AvroError(format!("decoded before, and not now: {error}")))?);
            decoded.extend(sound);
        }
        broken.extend(bad.first().map(|message| (message, error.reason)));
        rest = bad.get(1..).unwrap_or_default();
    }
    let frames = match runs.len() {
        1 => runs.remove(0),
        _ => concat_batches(&frame_schema(), &runs)?,
    };
    Ok((frames, decoded, broken))
}

/// What a chunk holds for one workspace.
#[derive(Default)]
struct Group {
    workspace: String,
    /// Places of its rows in the chunk.
    rows: Vec<u32>,
    /// Offsets of its dead letters.
    dead: Vec<i64>,
}

/// Groups in order of first appearance.
#[derive(Default)]
struct Groups {
    places: HashMap<String, usize>,
    parts: Vec<Group>,
}

impl Groups {
    fn of(&mut self, workspace: &str) -> &mut Group {
        let place = match self.places.get(workspace) {
            Some(place) => *place,
            None => {
                self.places.insert(workspace.to_owned(), self.parts.len());
                self.parts.push(Group { workspace: workspace.to_owned(), ..Group::default() });
                self.parts.len() - 1
            }
        };
        &mut self.parts[place]
    }
}

/// What may be said about a workspace's batches once its part of the chunk is committed: the last record that a batch
/// sent to this lane is in.
fn facts(lane: u32, frames: &RecordBatch, group: &Group) -> Result<Vec<(String, Fact)>, ArrowError> {
    let lanes_in_batch: &Int64Array = frames
        .column_by_name("lanes_in_batch")
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| missing("lanes_in_batch"))?;
    let batches = text(frames, "batch_id")?;
    let last = group.rows.iter().map(|row| *row as usize).filter(|row| lanes_in_batch.is_valid(*row));
    let fact = |row| {
        let lanes_in_batch = u32::try_from(lanes_in_batch.value(row)).unwrap_or(u32::MAX);
        (batches.value(row).to_owned(), Fact::Landed { lane, lanes_in_batch })
    };
    Ok(last.map(fact).collect())
}

fn seen(rows: &RecordBatch, versions: &[i64], again: impl Iterator<Item = bool>) -> Result<Vec<Seen>, ArrowError> {
    let keys = rows.column_by_name("key").and_then(|column| column.as_binary_opt::<i32>());
    let keys = keys.ok_or_else(|| missing("key"))?;
    let digests = rows.column_by_name("_digest").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let digests = digests.ok_or_else(|| missing("_digest"))?;
    let contents = keys.iter().zip(digests.values());
    let order = versions.iter().zip(again);
    let seen = contents.zip(order).map(|((key, digest), (version, again))| {
        let key = key.and_then(|key| key.try_into().ok()).ok_or_else(|| missing("key"))?;
        Ok(Seen { identity: Identity(key), digest: *digest, version: *version, again })
    });
    seen.collect()
}

fn text<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b arrow::array::StringArray, ArrowError> {
    batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("the frames have no column {name} of the type that it should have"))
}
