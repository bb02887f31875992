//! What a letter's bytes say to this version of the program, with the registry as it is now.

use super::{
    DeadLetter, TEXT, cut,
    walk::{MOST_UNKNOWN, unknown_id},
};
use crate::{chunk::RawChunk, dedup::Seen, normalize::normalize, pipeline::GROUPS};
use arrow::{array::AsArray, datatypes::Int64Type, record_batch::RecordBatch};
use bytes::Bytes;
use std::{collections::BTreeSet, sync::Arc};
use tributary_backends::log::{LogError, Message, RecordLog, Topic};
use tributary_schemas::frame::{Attachment, BatchEvent, Frame, RecordDecoder, Reject, SchemaIds, workspace_of};

/// What a letter's bytes say.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Whose it is; any text.
    pub workspace: Option<String>,
    /// Of which batch; any text.
    pub batch_id: Option<String>,
    /// Which record of the batch, from 0.
    pub record_index: Option<u32>,
    /// Why it would become a dead letter again; nothing: it can be replayed.
    pub fault: Option<String>,
    pub(super) record: Option<Seen>,
}

impl Contents {
    fn faulty(letter: &DeadLetter, fault: String) -> Self {
        let workspace = workspace_of(&letter.payload).map(|workspace| cut(workspace, TEXT));
        Self { workspace, fault: Some(cut(&fault, TEXT)), ..Self::default() }
    }
}

/// Reads letters as the pipeline would read them.
pub(super) struct Examiner<'l> {
    log: &'l dyn RecordLog,
    ids: Arc<dyn SchemaIds>,
    records: RecordDecoder,
    /// Ids that were asked for.
    asked: BTreeSet<u32>,
}

impl<'l> Examiner<'l> {
    pub(super) fn new(log: &'l dyn RecordLog) -> Self {
        let ids = log.schema_ids();
        Self { log, records: RecordDecoder::with_ids(ids.clone()), ids, asked: BTreeSet::new() }
    }

    /// Asks the registry where need be: it may know more now than when the letter was put aside, or than this process did.
    pub(super) async fn examine(&mut self, letter: &DeadLetter) -> Result<Contents, LogError> {
        let unknown = unknown_id(&letter.payload, &*self.ids).filter(|_| self.asked.len() < MOST_UNKNOWN);
        if let Some(id) = unknown.filter(|id| self.asked.insert(*id)) {
            self.log.learn_schemas(&[id]).await?;
        }
        Ok(self.contents(letter))
    }

    fn contents(&mut self, letter: &DeadLetter) -> Contents {
        let Some(topic) = topic_of(letter) else {
            return Contents::faulty(letter, "nothing is read from a topic of this name".to_owned());
        };
        let ids = &*self.ids;
        let read = match topic {
            Topic::Records => return self.record(letter),
            Topic::Rejects => Reject::decode_as(&letter.payload, ids).map(|it| (it.workspace, it.batch_id)),
            Topic::BatchEvents => BatchEvent::decode_as(&letter.payload, ids).map(|it| (it.workspace, it.batch_id)),
            _ => Attachment::decode_as(&letter.payload, ids).map(|it| (it.workspace, it.batch_id)),
        };
        match read {
            Ok((workspace, batch)) => {
                let (workspace, batch) = (cut(&workspace, TEXT), cut(&batch, TEXT));
                Contents { workspace: Some(workspace), batch_id: Some(batch), ..Contents::default() }
            }
            Err(error) => Contents::faulty(letter, error.reason),
        }
    }

    /// Goes the way that it would go in its lane.
    fn record(&mut self, letter: &DeadLetter) -> Contents {
        let message = Message {
            offset: letter.offset,
            appended_at: 0,
            key: Bytes::copy_from_slice(&letter.key),
            value: Bytes::copy_from_slice(&letter.payload),
            trace: None,
        };
        let raw = RawChunk { bytes: letter.payload.len(), messages: vec![message], held: None };
        let mut chunk = match normalize(&mut self.records, letter.partition, 0, raw) {
            Ok(chunk) => chunk,
            Err(error) => return Contents::faulty(letter, error.to_string()),
        };
        if let Some(dead) = chunk.dead.pop() {
            return Contents::faulty(letter, dead.reason);
        }
        let Some(table) = chunk.tables.pop() else { return Contents::faulty(letter, "it holds no record".to_owned()) };
        Contents {
            batch_id: batch_id(&table.rows),
            record_index: record_index(&table.rows),
            workspace: Some(table.workspace),
            fault: None,
            record: table.seen.first().copied(),
        }
    }
}

/// The topic that a letter came from; `None` when nothing is read from it.
pub(super) fn topic_of(letter: &DeadLetter) -> Option<Topic> {
    GROUPS.into_iter().map(|(_, topic)| topic).find(|topic| topic.name() == letter.topic)
}

fn batch_id(rows: &RecordBatch) -> Option<String> {
    Some(cut(rows.column_by_name("batch_id")?.as_string_opt::<i32>()?.value(0), TEXT))
}

fn record_index(rows: &RecordBatch) -> Option<u32> {
    let index = rows.column_by_name("record_index")?.as_primitive_opt::<Int64Type>()?.value(0);
    u32::try_from(index).ok()
}
