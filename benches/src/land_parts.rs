//! The steps of landing, one after the other on one thread's behalf, each measured by itself.

use crate::{
    backends::{Backends, LANES, Place, WORKSPACE},
    measure::{Cost, Process, Span},
    report::Row,
};
use anyhow::Context;
use arrow::{array::UInt32Array, compute::take_record_batch, record_batch::RecordBatch};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tributary_backends::{
    log::{Change, FetchLimit, Member, Message, PartitionReader, Topic},
    tables::{IndexPart, Location, Tables},
};
use tributary_pipeline::{
    Config,
    dedup::{IdentityMap, Resolution, Seen, resolve},
    filter::SeenFilter,
    lake::{Table, TableCommit, WrittenFiles},
};
use tributary_schemas::{columns::to_table, frame::RecordDecoder, identity::Identity};

/// A table and an index part of their own.
const PARTS: &str = "parts";
/// One read of the log.
const READ: usize = 4 << 20;
/// A log that has given nothing for so long has no more.
const AT_THE_END: Duration = Duration::from_secs(2);

/// Takes the backlog in `place` through all steps, in chunks as large as the pipeline's.
pub async fn measure(place: &Place, records: u64) -> anyhow::Result<Vec<Row>> {
    let backends = place.open().await?;
    let mut steps = Steps {
        table: place.lake(backends.world.clone())?.table(PARTS).await?,
        tables: backends.tables.clone(),
        part: IndexPart { workspace: PARTS.to_owned(), lane: LANES.of(WORKSPACE).lane(&Identity([0; 16])) },
        filter: SeenFilter::with_capacity(0),
        decoder: RecordDecoder::new(),
        costs: Costs::default(),
    };
    let (_member, mut reader) = assigned(&backends, steps.part.lane).await?;
    while steps.chunk(&mut *reader).await? {}
    let Costs { fetch, decode, index, write, commit } = steps.costs;
    let named =
        [("fetch", fetch), ("decode", decode), ("lookup, upsert", index), ("Parquet", write), ("commit", commit)];
    Ok(named.map(|(name, cost)| Row::new(format!("land, part: {name}")).cost(records, cost)).into())
}

/// The reader of one lane, for a group of its own.
async fn assigned(backends: &Backends, lane: u32) -> anyhow::Result<(Box<dyn Member>, Box<dyn PartitionReader>)> {
    let mut member = backends.log.join(PARTS, Topic::Records).await?;
    loop {
        if let Change::Assigned(reader) = member.next().await?
            && reader.partition() == lane
        {
            return Ok((member, reader));
        }
    }
}

#[derive(Default)]
struct Costs {
    fetch: Cost,
    decode: Cost,
    index: Cost,
    write: Cost,
    commit: Cost,
}

struct Steps {
    table: Table,
    tables: Arc<dyn Tables>,
    part: IndexPart,
    filter: SeenFilter,
    decoder: RecordDecoder,
    costs: Costs,
}

impl Steps {
    /// One chunk from the log into the table; false when there was none.
    async fn chunk(&mut self, reader: &mut dyn PartitionReader) -> anyhow::Result<bool> {
        let span = Span::start(Process::this())?;
        let messages = fetch(reader).await?;
        self.costs.fetch += span.cost()?;
        let Some(next) = messages.last().map(|message| message.offset + 1) else { return Ok(false) };

        let span = Span::start(Process::this())?;
        let offsets: Vec<i64> = messages.iter().map(|message| message.offset).collect();
        let frames = self.decoder.decode(messages.iter().map(|message| message.value.as_ref()))?;
        let rows = to_table(&frames, &offsets)?;
        let seen = seen(&messages, &rows)?;
        self.costs.decode += span.cost()?;

        let span = Span::start(Process::this())?;
        let resolution = self.look_up(&seen).await?;
        let rows = take_record_batch(&rows, &UInt32Array::from(resolution.keep.clone()))?;
        self.costs.index += span.cost()?;

        let span = Span::start(Process::this())?;
        let files = self.table.write(self.part.lane, &rows).await?;
        self.costs.write += span.cost()?;

        let span = Span::start(Process::this())?;
        let WrittenFiles { places, files } = files;
        let version = self.table.commit(commit(files, &resolution.replaced, next)).await?;
        self.costs.commit += span.cost()?;

        let span = Span::start(Process::this())?;
        self.enter(&seen, &resolution, places, version).await?;
        self.costs.index += span.cost()?;
        Ok(true)
    }

    async fn look_up(&self, seen: &[Seen]) -> anyhow::Result<Resolution> {
        let mut wanted: Vec<_> = seen.iter().map(|record| record.identity).collect();
        wanted.retain(|identity| self.filter.may_contain(identity));
        wanted.sort_unstable();
        wanted.dedup();
        let found = self.tables.lookup(&self.part, &wanted).await?;
        let existing: IdentityMap<Location> =
            wanted.into_iter().zip(found.locations).filter_map(|(identity, found)| Some((identity, found?))).collect();
        Ok(resolve(seen, &existing))
    }

    async fn enter(
        &mut self,
        seen: &[Seen],
        resolution: &Resolution,
        places: Vec<(uuid::Uuid, u32)>,
        table_version: u64,
    ) -> anyhow::Result<()> {
        let entry = |(kept, (file, row)): (&u32, (uuid::Uuid, u32))| {
            let Seen { identity, digest, version, .. } = seen[*kept as usize];
            (identity, Location { file, row, version, digest, table_version })
        };
        let entries: Vec<_> = resolution.keep.iter().zip(places).map(entry).collect();
        entries.iter().for_each(|(identity, _)| self.filter.insert(identity));
        self.tables.upsert(&self.part, &entries).await?;
        self.tables.set_watermark(&self.part, table_version).await?;
        Ok(())
    }
}

/// As many messages as the pipeline takes for one chunk when it is behind.
async fn fetch(reader: &mut dyn PartitionReader) -> anyhow::Result<Vec<Message>> {
    let config = Config::default();
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while bytes < config.chunk_bytes && messages.len() < config.chunk_records {
        let limit = FetchLimit {
            max_bytes: READ.min(config.chunk_bytes - bytes),
            max_messages: config.chunk_records - messages.len(),
            max_wait: AT_THE_END,
        };
        let more = reader.fetch(limit).await?;
        if more.is_empty() {
            break;
        }
        bytes += more.iter().map(|message| message.key.len() + message.value.len()).sum::<usize>();
        messages.extend(more);
    }
    Ok(messages)
}

fn seen(messages: &[Message], rows: &RecordBatch) -> anyhow::Result<Vec<Seen>> {
    use arrow::{array::AsArray, datatypes::Int64Type};
    let digests = rows.column_by_name("_digest").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let digests = digests.context("rows without digests")?;
    let one = |(message, digest): (&Message, &i64)| {
        let identity = Identity(message.key.as_ref().try_into()?);
        Ok(Seen { identity, digest: *digest, version: message.offset, again: false })
    };
    messages.iter().zip(digests.values()).map(one).collect()
}

fn commit(adds: Vec<tributary_pipeline::lake::WrittenFile>, replaced: &[Location], next: i64) -> TableCommit {
    let mut deletes: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for row in replaced {
        deletes.entry(row.file).or_default().push(row.row);
    }
    TableCommit { adds, deletes, txns: BTreeMap::from([("parts".to_owned(), next)]) }
}
