//! A world small enough to be compared with a plain model: records in a log, lanes that land them, a table.

use super::{
    memory_log::{MemoryLog, Stored},
    mortal::{Fate, MortalTables},
};
use crate::{
    check,
    config::Config,
    context::{BUDGET_UNIT, Context, Health, READINGS},
    dedup::Outcomes,
    index,
    lake::{self, Lake},
    lane::Lane,
    metrics::Metrics,
    trouble::{Patience, Trouble},
    txn_names::TxnNames,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tributary_backends::{
    log::{Message, Topic},
    said::Said,
    tables::{self, Tables},
    world::SystemWorld,
};
use tributary_schemas::{
    batch::Fact,
    frame::{Attachment, BatchEvent, Frame, Stamp, encode_record},
    identity::{Identity, Lanes},
    record,
};

/// One record of the world: who, and which version of its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rec {
    pub(crate) workspace: u8,
    pub(crate) who: u8,
    pub(crate) content: u8,
}

pub(crate) struct SmallWorld {
    _dir: TempDir,
    pub(crate) tables: Arc<dyn Tables>,
    pub(crate) lake: Lake,
    pub(crate) stored: Arc<Stored>,
    pub(crate) lanes: Lanes,
    batches: BTreeSet<String>,
    /// What its records say of attachments, in no order.
    attachments: BTreeSet<Attached>,
    /// What was sent, by lane: (workspace, identity, content) in offset order; `None` for what is no record.
    sent: BTreeMap<u32, Vec<Option<Sent>>>,
}

type Sent = (String, Identity, u8);

/// An attachment: workspace, batch, record, place, key of the record, size.
type Attached = (String, String, u32, u32, Identity, Option<i64>);

/// What the model says of one workspace: rows (identity → offset of the last change), and the lanes' totals.
type Model = BTreeMap<String, (BTreeMap<Identity, i64>, Outcomes)>;

impl SmallWorld {
    pub(crate) fn new(lanes: Lanes) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tables = tables::embedded::open(&dir.path().join("tables")).unwrap();
        let lake = lake::tests::fresh_lake(&dir.path().join("lake"), Arc::new(SystemWorld));
        Self {
            _dir: dir,
            tables,
            lake,
            stored: Arc::default(),
            lanes,
            batches: BTreeSet::new(),
            attachments: BTreeSet::new(),
            sent: BTreeMap::new(),
        }
    }

    /// Sends a batch as the API would. Two of three records have attachments, whose sizes are the content.
    pub(crate) fn send(&mut self, batch_id: &str, records: &[Rec]) {
        let text = |rec: &Rec| {
            format!(
                r#"{{"_type":"email","_schema_version":"1.0.0","_event_at":"2024-01-{:02}T00:00:00Z",
                "_vendor_ids":{{"id":"{}"}},"_product_id":"p","_project_id":"q","data":{{"v":{}}}{}}}"#,
                rec.who % 3 + 1,
                rec.who,
                rec.content,
                attachments(*rec)
            )
        };
        for workspace in BTreeSet::from_iter(records.iter().map(|rec| rec.workspace)) {
            let batch_id = format!("{batch_id}-{workspace}");
            let workspace_name = format!("w{workspace}");
            let texts: Vec<_> =
                records.iter().filter(|rec| rec.workspace == workspace).map(|rec| (text(rec), rec.content)).collect();
            let parsed: Vec<_> = texts.iter().map(|(text, _)| record::parse(text.as_bytes()).unwrap()).collect();
            let lane_of = |record: &record::Record<'_>| self.lanes.of(&workspace_name).lane(&Identity::of(record));
            let lanes: Vec<_> = parsed.iter().map(lane_of).collect();
            let touched = BTreeSet::from_iter(&lanes).len() as u32;
            for (index, record) in parsed.iter().enumerate() {
                let (lane, identity) = (lanes[index], Identity::of(record));
                let last = !lanes[index + 1..].contains(&lane);
                let stamp = Stamp {
                    workspace: &workspace_name,
                    source: "s",
                    batch_id: &batch_id,
                    record_index: index as u32,
                    received_at: 0,
                    identity,
                    lanes_in_batch: last.then_some(touched),
                };
                let mut frame = Vec::new();
                encode_record(&stamp, record, &mut frame);
                self.stored.put(Topic::Records, lane, Bytes::copy_from_slice(&identity.0), frame.into());
                let attached = (0u32..).zip(&record.attachments).map(|(n, attachment)| {
                    (workspace_name.clone(), batch_id.clone(), index as u32, n, identity, attachment.size)
                });
                self.attachments.extend(attached);
                let sent = Some((workspace_name.clone(), identity, texts[index].1));
                self.sent.entry(lane).or_default().push(sent);
            }
            self.batches.insert(batch_id);
        }
    }

    /// Puts something into a lane that is no record.
    pub(crate) fn send_garbage(&mut self, lane: u32, bytes: &'static [u8]) {
        self.stored.put(Topic::Records, lane, Bytes::from_static(b"key"), Bytes::from_static(bytes));
        self.sent.entry(lane).or_default().push(None);
    }

    /// A process under a fate.
    pub(crate) fn process(&self, config: Config, fate: &Fate) -> Arc<Context> {
        let log = MemoryLog { stored: self.stored.clone(), lanes: self.lanes.partitions, fate: fate.clone() };
        Arc::new(Context {
            log: Arc::new(log),
            tables: Arc::new(MortalTables { tables: self.tables.clone(), fate: fate.clone() }),
            lake: self.lake.clone(),
            world: Arc::new(SystemWorld),
            metrics: Metrics::new(&mut prometheus_client::registry::Registry::default()),
            patience: Patience::new(&config, &SystemWorld),
            said: Said::default(),
            health: Health::default(),
            holdings: crate::holdings::Holdings::default(),
            readings: Semaphore::new(READINGS),
            budget: Arc::new(Semaphore::new(config.memory_bytes.div_ceil(BUDGET_UNIT))),
            config,
        })
    }

    /// Runs every lane of a process, one after the other, until all is done or the process dies.
    pub(crate) async fn run(&self, process: &Arc<Context>, fate: &Fate) -> Result<(), Trouble> {
        for lane in 0..self.lanes.partitions {
            self.run_lane(process, fate, lane).await?;
        }
        Ok(())
    }

    /// Runs one of them.
    pub(crate) async fn run_lane(&self, process: &Arc<Context>, fate: &Fate, lane: u32) -> Result<(), Trouble> {
        let log = MemoryLog { stored: self.stored.clone(), lanes: self.lanes.partitions, fate: fate.clone() };
        let until_drained = async {
            let stop = CancellationToken::new();
            let running =
                Lane::new(process.clone(), lane).run(Box::new(log.reader(Topic::Records, lane)), stop.clone());
            tokio::pin!(running);
            tokio::select! {
                biased;
                died = &mut running => return died,
                () = self.stored.drained(Topic::Records, lane) => stop.cancel(),
            }
            running.await
        };
        tokio::time::timeout(Duration::from_secs(60), until_drained).await.expect("it ends")
    }

    fn model(&self) -> Model {
        let mut model = Model::new();
        let mut contents = BTreeMap::new();
        for sent in self.sent.values() {
            for (offset, sent) in (0i64..).zip(sent) {
                let Some((workspace, identity, content)) = sent else { continue };
                let (rows, totals) = model.entry(workspace.clone()).or_default();
                match contents.insert((workspace, identity), content) {
                    None => totals.landed += 1,
                    Some(before) if before == content => {
                        totals.unchanged += 1;
                        continue;
                    }
                    Some(_) => totals.overwritten += 1,
                }
                rows.insert(*identity, offset);
            }
        }
        model
    }

    /// Table, counters, index, facts and attachments are what they would be had every record come once, one by one.
    pub(crate) async fn assert_exact(&self) {
        self.assert_rows().await;
        assert_eq!(self.landed_batches(), self.batches);
        assert_eq!(self.said_attachments(), self.attachments);
    }

    /// The same without facts and attachments.
    pub(crate) async fn assert_rows(&self) {
        let model = self.model();
        assert_eq!(self.lake.workspaces().await.unwrap().len(), model.len());
        for (workspace, (rows, totals)) in model {
            let table = self.lake.existing(&workspace).await.unwrap().unwrap();
            let (mut found, mut outcomes, mut count) = (BTreeMap::new(), Outcomes::default(), 0);
            for lane in index::lanes(&table) {
                outcomes += TxnNames::of(lane, "").outcomes(&table);
                let mut add = |keys: &[crate::lake::KeyRow]| {
                    count += keys.len();
                    found.extend(keys.iter().map(|key| (key.identity, key.location.version)));
                };
                table.keys_since(lane, None, &mut add).await.unwrap();
            }
            assert_eq!((found, outcomes), (rows, totals), "{workspace}");
            assert_eq!(count, usize::try_from(totals.landed).unwrap(), "one row for each identity");
        }
        let report = check::run(&self.lake, &*self.tables, None).await.unwrap();
        assert!(report.is_sound(), "{report:#?}");
    }

    /// The attachments in the topic, where they may stand more than once.
    fn said_attachments(&self) -> BTreeSet<Attached> {
        let read = |message: Message| {
            let said = Attachment::decode(&message.value).unwrap();
            assert_eq!(message.key.as_ref(), said.batch_id.as_bytes());
            (said.workspace, said.batch_id, said.record_index, said.n, said.key, said.size)
        };
        self.stored.all(Topic::Attachments, 0).into_iter().map(read).collect()
    }

    /// Batches of which every lane has said that it landed.
    pub(crate) fn landed_batches(&self) -> BTreeSet<String> {
        let mut lanes: BTreeMap<String, (BTreeSet<u32>, u32)> = BTreeMap::new();
        for message in self.stored.all(Topic::BatchEvents, 0) {
            let event = BatchEvent::decode(&message.value).unwrap();
            if let Fact::Landed { lane, lanes_in_batch } = event.fact {
                let said = lanes.entry(event.batch_id).or_default();
                said.0.insert(lane);
                said.1 = lanes_in_batch;
            }
        }
        lanes.retain(|_, (said, of)| said.len() == *of as usize);
        lanes.into_keys().collect()
    }
}

fn attachments(rec: Rec) -> String {
    match vec![format!(r#"{{"type":"file","size":{}}}"#, rec.content); usize::from(rec.who % 3)].join(",") {
        none if none.is_empty() => none,
        some => format!(r#","_attachments":[{some}]"#),
    }
}

/// Chunks of this many records, as fast as they come, with short waits.
pub(crate) fn quick(chunk_records: usize) -> Config {
    Config {
        chunk_records,
        commit_interval: Duration::ZERO,
        retry_first: Duration::from_millis(1),
        retry_longest: Duration::from_millis(2),
        ..Config::default()
    }
}
