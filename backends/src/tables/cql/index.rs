//! The key index.
//!
//! **Layout.** The entries of a part are spread over 2^bits partitions by the first bits of the identity, so that the
//! partitions in order are the entries in order. A chunk's keys are read with `IN` and written with one unlogged batch
//! for each partition. An entry is one cell, which no two writes can mix.
//!
//! **Last write wins** by table version: that is the entry's time stamp. Hence a write that comes late, or again, changes
//! nothing. Of two writes of the same table version the greater bytes stay; a commit writes the same each time.
//!
//! **Generations.** A row that was dropped leaves a tombstone with the time of the drop, under which the table versions of
//! a rebuilt index would vanish. So a part's entries belong to a generation, a random id, and `clear` begins another
//! before it drops the partitions of the last one. What a process that does not know this yet goes on writing goes to
//! where nobody looks, and a watermark says of which generation it is, so its own cannot speak for the new one.
//!
//! **A look-up** reads generation and watermark first, then the keys, and then the generation again. The same: the
//! watermark was there before the keys were read, and they were not dropped meanwhile, for what is dropped is no longer
//! the part's generation by then. Another one: all of it once more. So what was found in a generation that somebody is
//! still filling never goes for complete, whenever that ends. The same holds for a scan.
//!
//! **Growth.** A new part has [`BITS`]; `clear`, which comes before each rebuilding, estimates the number of entries and
//! gives the next generation as many partitions as that takes.

use super::{
    cluster::{Cluster, all, unreadable},
    failure::Failure,
    layout::{self, Generation, Part},
    turns::Turns,
};
use crate::tables::{Found, IndexPart, Location, keep_winners};
use futures::{StreamExt, TryStreamExt, stream};
use scylla::{
    response::query_result::QueryResult,
    statement::{Statement, prepared::PreparedStatement},
};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{Mutex, PoisonError},
};
use tributary_schemas::identity::Identity;

/// Keys of one `IN`; ScyllaDB takes no more.
const READ: usize = 100;
/// Entries of one batch: 20 KB.
const WRITE: usize = 150;
/// Requests of one call under way at once.
const WIDTH: usize = 32;
/// Partitions whose first page is fetched ahead in a scan.
const AHEAD: usize = 8;
/// Rows of one page of a scan.
const PAGE: i32 = 8_192;
/// Of these many entries the distance between the keys is measured to estimate how many there are.
const SAMPLE: i32 = 1_024;

type Entry = (Identity, Location);

#[derive(Debug)]
pub(super) struct Index {
    part: PreparedStatement,
    part_serial: PreparedStatement,
    begin: PreparedStatement,
    replace: PreparedStatement,
    forget: PreparedStatement,
    watermark: PreparedStatement,
    read: PreparedStatement,
    write: PreparedStatement,
    scan: PreparedStatement,
    sample: PreparedStatement,
    drop: PreparedStatement,
    /// The generation of each part that this process last saw.
    known: Mutex<HashMap<IndexPart, Generation>>,
    turns: Turns,
}

impl Index {
    pub(super) async fn prepare(cluster: &Cluster, keyspace: &str) -> Result<Self, Failure> {
        let prepare = |cql: String| cluster.prepare(cql);
        let (parts, of) = (format!("{keyspace}.parts"), "WHERE workspace = ? AND lane = ?");
        let part = format!("SELECT generation, bits, dropped, watermark FROM {parts} {of}");
        let (entries, bucket) = (format!("{keyspace}.locations"), "WHERE generation = ? AND bucket = ?");
        let scan = format!("SELECT key, location FROM {entries} {bucket}");
        let replace = "generation = ?, bits = ?, dropped = dropped + ?";
        Ok(Self {
            part: prepare(part.clone()).await?,
            part_serial: cluster.prepare_serial(&part).await?,
            begin: prepare(format!("UPDATE {parts} SET generation = ?, bits = ? {of} IF generation = null")).await?,
            replace: prepare(format!("UPDATE {parts} SET {replace} {of} IF generation = ?")).await?,
            forget: prepare(format!("UPDATE {parts} SET dropped = dropped - ? {of} IF EXISTS")).await?,
            watermark: prepare(format!("UPDATE {parts} SET watermark = ? {of}")).await?,
            read: prepare(format!("SELECT key, location FROM {entries} {bucket} AND key IN ?")).await?,
            write: prepare(format!(
                "INSERT INTO {entries} (generation, bucket, key, location) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
            ))
            .await?,
            scan: cluster.prepare(Statement::new(scan).with_page_size(PAGE)).await?,
            sample: prepare(format!("SELECT key FROM {entries} {bucket} LIMIT {SAMPLE}")).await?,
            drop: prepare(format!("DELETE FROM {entries} {bucket}")).await?,
            known: Mutex::default(),
            turns: Turns::new(),
        })
    }

    /// Where `keys` are, and up to which table version that is all there is.
    pub(super) async fn lookup(
        &self,
        cluster: &Cluster,
        part: &IndexPart,
        keys: &[Identity],
    ) -> Result<Found, Failure> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|&at| keys[at]);
        let mut before = self.read_part(cluster, part).await?;
        loop {
            let locations = match before.generation {
                Some(generation) => self.find(cluster, generation, keys, &order).await?,
                None => vec![None; keys.len()],
            };
            let after = self.read_part(cluster, part).await?;
            if after.generation == before.generation {
                return Ok(Found { locations, complete_to: before.watermark });
            }
            before = after;
        }
    }

    async fn find(
        &self,
        cluster: &Cluster,
        generation: Generation,
        keys: &[Identity],
        order: &[usize],
    ) -> Result<Vec<Option<Location>>, Failure> {
        let reads = slices(order, READ, |&at| generation.bucket(&keys[at])).map(|slice| async move {
            let (bucket, asked) = (generation.bucket(&keys[order[slice.start]]), &order[slice.clone()]);
            let asked: Vec<[u8; 16]> = asked.iter().map(|&at| keys[at].0).collect();
            let rows = entries(cluster.run(&self.read, (generation.id, bucket, asked)).await?)?;
            Ok::<_, Failure>((slice, rows))
        });
        let mut found = vec![None; keys.len()];
        let mut rows = std::pin::pin!(stream::iter(reads).buffer_unordered(WIDTH));
        while let Some((slice, rows)) = rows.try_next().await? {
            // They come back in the order of the keys.
            for &at in &order[slice] {
                found[at] = rows.binary_search_by_key(&keys[at], |row| row.0).ok().map(|row| rows[row].1);
            }
        }
        Ok(found)
    }

    /// Writes entries; one with a higher table version that is already there stays.
    pub(super) async fn upsert(&self, cluster: &Cluster, part: &IndexPart, given: &[Entry]) -> Result<(), Failure> {
        let mut given = given.to_vec();
        keep_winners(&mut given);
        if given.is_empty() {
            return Ok(());
        }
        let generation = self.generation(cluster, part).await?;
        let writes = slices(&given, WRITE, |(identity, _)| generation.bucket(identity)).map(|slice| {
            let rows: Vec<_> = given[slice].iter().map(|entry| generation.row(entry)).collect();
            async move { cluster.write_together(&self.write, &rows).await }
        });
        all(WIDTH, writes).await.map(drop)
    }

    pub(super) async fn watermark(&self, cluster: &Cluster, part: &IndexPart) -> Result<Option<u64>, Failure> {
        Ok(self.read_part(cluster, part).await?.watermark)
    }

    /// For the generation that this process has written to, if that is another than there is, it says nothing.
    pub(super) async fn set_watermark(
        &self,
        cluster: &Cluster,
        part: &IndexPart,
        table_version: u64,
    ) -> Result<(), Failure> {
        let generation = self.generation(cluster, part).await?;
        let watermark = layout::encode_watermark(generation.id, table_version);
        cluster.write(&self.watermark, (watermark, &part.workspace, i64::from(part.lane))).await
    }

    /// Gives all entries in key order, page by page. The first pages of a few partitions are fetched ahead. May go on beside
    /// writes of this process, which it leaves alone.
    pub(super) async fn scan(
        &self,
        cluster: &Cluster,
        part: &IndexPart,
        each: &mut (dyn for<'a> FnMut(&'a [Entry]) + Send),
    ) -> Result<Option<u64>, Failure> {
        let before = Self::peek(&self.part, cluster, part).await?;
        let Some(generation) = before.generation else { return Ok(None) };
        let first = (0..generation.buckets()).map(|bucket| cluster.page(&self.scan, (generation.id, bucket), None));
        let mut first = std::pin::pin!(stream::iter(first).buffered(AHEAD));
        for bucket in 0..generation.buckets() {
            let Some((mut page, mut next)) = first.try_next().await? else { break };
            loop {
                let rows = entries(page)?;
                if !rows.is_empty() {
                    each(&rows);
                }
                let Some(state) = next else { break };
                (page, next) = cluster.page(&self.scan, (generation.id, bucket), Some(state)).await?;
            }
        }
        let after = Self::peek(&self.part, cluster, part).await?;
        Ok(before.watermark.filter(|_| after.generation == before.generation))
    }

    /// Begins another generation and drops the last one, and what an earlier call did not come to drop.
    ///
    /// Each try has an id of its own. One that was taken before may have been replaced by another process meanwhile, which
    /// drops it then: what is written to it later would lie under those tombstones.
    pub(super) async fn clear(&self, cluster: &Cluster, part: &IndexPart) -> Result<(), Failure> {
        let (workspace, lane) = (&part.workspace, i64::from(part.lane));
        let turn = self.turns.of(workspace, &lane.to_string()).await;
        let mut tried = HashSet::new();
        let dropped = loop {
            let now = self.read_serial(cluster, part).await?;
            let Some(generation) = now.generation else { return Ok(()) };
            if tried.contains(&generation.id) || now.dropped.keys().any(|id| tried.contains(id)) {
                break now.dropped;
            }
            let fresh = cluster.world.uuid_v7();
            tried.insert(fresh);
            let bits = self.bits_needed(cluster, generation).await?;
            let old = HashMap::from([(generation.id, generation.bits)]);
            cluster.applies(&self.replace, (fresh, bits, old, workspace, lane, generation.id)).await?;
        };
        drop(turn);
        for (id, bits) in dropped {
            let generation = Generation { id, bits };
            all(WIDTH, (0..generation.buckets()).map(|bucket| cluster.write(&self.drop, (id, bucket)))).await?;
            cluster.applies(&self.forget, (HashSet::from([id]), workspace, lane)).await?;
        }
        Ok(())
    }

    /// How many bits of partitions the entries of this generation would take.
    async fn bits_needed(&self, cluster: &Cluster, generation: Generation) -> Result<i32, Failure> {
        let keys: Vec<(Vec<u8>,)> = cluster.rows(&self.sample, (generation.id, 0)).await?;
        Ok(match keys.last() {
            Some((last,)) if keys.len() == SAMPLE as usize => layout::bits_for(keys.len(), &layout::read_key(last)?),
            _ => layout::BITS,
        })
    }

    /// The generation that this process writes to; begins the first.
    async fn generation(&self, cluster: &Cluster, part: &IndexPart) -> Result<Generation, Failure> {
        if let Some(known) = self.known(part) {
            return Ok(known);
        }
        let (workspace, lane) = (&part.workspace, i64::from(part.lane));
        let _turn = self.turns.of(workspace, &lane.to_string()).await;
        loop {
            if let Some(there) = self.read_serial(cluster, part).await?.generation {
                return Ok(there);
            }
            // Whether it was this write or another's, the next reading tells.
            cluster.applies(&self.begin, (cluster.world.uuid_v7(), layout::BITS, workspace, lane)).await?;
        }
    }

    fn known(&self, part: &IndexPart) -> Option<Generation> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(part).copied()
    }

    async fn read_part(&self, cluster: &Cluster, part: &IndexPart) -> Result<Part, Failure> {
        self.read_by(&self.part, cluster, part).await
    }

    async fn read_serial(&self, cluster: &Cluster, part: &IndexPart) -> Result<Part, Failure> {
        self.read_by(&self.part_serial, cluster, part).await
    }

    async fn read_by(
        &self,
        statement: &PreparedStatement,
        cluster: &Cluster,
        part: &IndexPart,
    ) -> Result<Part, Failure> {
        let read = Self::peek(statement, cluster, part).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match read.generation {
            Some(generation) => known.insert(part.clone(), generation),
            None => known.remove(part),
        };
        Ok(read)
    }

    /// A look after which this process writes to the generation that it wrote to before.
    async fn peek(statement: &PreparedStatement, cluster: &Cluster, part: &IndexPart) -> Result<Part, Failure> {
        let rows = cluster.rows(statement, (&part.workspace, i64::from(part.lane))).await?;
        rows.into_iter().next().map_or_else(|| Ok(Part::default()), Part::read)
    }
}

/// Cuts what is sorted by bucket into slices of one bucket and `most` items.
fn slices<T>(sorted: &[T], most: usize, bucket: impl Fn(&T) -> i32) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = bucket(sorted.get(start)?);
        let rest = &sorted[start..(start + most).min(sorted.len())];
        let length = rest.iter().position(|item| bucket(item) != first).unwrap_or(rest.len());
        start += length;
        Some(start - length..start)
    })
}

fn entries(result: QueryResult) -> Result<Vec<Entry>, Failure> {
    let result = result.into_rows_result().map_err(unreadable)?;
    let rows = result.rows::<(&[u8], &[u8])>().map_err(unreadable)?;
    rows.map(|row| row.map_err(unreadable).and_then(|(key, location)| layout::read_entry(key, location))).collect()
}
