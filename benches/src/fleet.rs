//! `serve` and several `pipeline` as real processes on the servers, under a steady load, and what their lanes do.

use crate::{
    Binary, Input,
    backends::{Place, Scratch, scratch},
    gaps::Look,
    load::{Load, LoadArgs},
    report::progress,
    up::{Assignment, Up},
};
use anyhow::{Context, ensure};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};
use tributary_backends::{
    log::{RecordLog, Topic},
    tables::Permission,
    world::{SystemWorld, World},
};
use tributary_ingest_api::keys;
use tributary_schemas::identity::{Identity, Lanes};

/// How often the lanes are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Between two words about a long wait.
const SAID_EVERY: Duration = Duration::from_secs(15);
const BODY_RECORDS: u64 = 50;
const CONNECTIONS: usize = 16;

/// Everything that runs; ended when dropped.
#[derive(Debug)]
pub struct Fleet {
    binary: Binary,
    scratch: Scratch,
    /// An API key of a workspace in each lane.
    keys: Vec<String>,
    serve: Up,
    /// Processes with the lanes, with what each was given.
    pub pipelines: Vec<Up>,
    begun: Instant,
    looks: Arc<Mutex<Vec<Look>>>,
    watch: JoinHandle<anyhow::Result<()>>,
    load: Option<JoinHandle<()>>,
}

impl Fleet {
    /// One `serve` and so many `pipeline`.
    pub async fn start(input: &Input, binary: &Binary, lanes: u32, pipelines: usize) -> anyhow::Result<Self> {
        ensure!(input.servers.shared(), "several processes need --kafka, --scylla and --lake");
        let (scratch, lanes) = (scratch(input)?, Lanes { partitions: lanes, spread: 1 });
        let flag = lanes.partitions.to_string();
        let serve = Up::start_as("serve", binary, &scratch.place, &["--lanes", &flag]).await?;
        let (begun, looks) = (Instant::now(), Arc::default());
        let log = scratch.place.open_log(lanes, Arc::new(SystemWorld)).await?;
        let watch = tokio::spawn(watch(log, begun, Arc::clone(&looks)));
        let keys = keys_of_all_lanes(&scratch.place, lanes).await?;
        let binary = binary.clone();
        let mut fleet = Self { binary, scratch, keys, serve, pipelines: Vec::new(), begun, looks, watch, load: None };
        for _ in 0..pipelines {
            fleet.join().await?;
        }
        Ok(fleet)
    }

    /// One more `pipeline`.
    pub async fn join(&mut self) -> anyhow::Result<()> {
        self.pipelines.push(Up::start_as("pipeline", &self.binary, &self.scratch.place, &[]).await?);
        Ok(())
    }

    /// So many records, as fast as they are taken, for the same workspaces as below, until all have landed.
    pub async fn fill(&self, input: &Input, records: u64) -> anyhow::Result<()> {
        let args = LoadArgs::to(input, self.serve.url()?, self.keys.clone(), records);
        Load::start(&args).await?.run().await?;
        let mut said = self.now();
        loop {
            let looks = self.looks().await?;
            let lag = looks.last().map_or(i64::MAX, Look::lag);
            if lag == 0 {
                return Ok(());
            }
            if self.now() > said + SAID_EVERY {
                said = self.now();
                progress(&format!("{lag} records are still to land"));
            }
            tokio::time::sleep(LOOK * 10).await;
        }
    }

    /// So many records per second, from number `first` on, for a workspace in each lane in turns, until the fleet is dropped.
    pub async fn send(&mut self, input: &Input, first: u64, rate: u64) -> anyhow::Result<()> {
        let args = LoadArgs::to(input, self.serve.url()?, self.keys.clone(), u64::MAX / 2);
        let (rate, body_records, connections) = (Some(rate), BODY_RECORDS, CONNECTIONS);
        let load = Load::start(&LoadArgs { first, rate, body_records, connections, ..args }).await?;
        self.load = Some(tokio::spawn(async { drop(load.run().await) }));
        Ok(())
    }

    /// Since the watch began.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How far the lanes were seen to be.
    pub async fn looks(&self) -> anyhow::Result<Vec<Look>> {
        ensure!(!self.watch.is_finished(), "the lanes cannot be watched any more");
        Ok(self.looks.lock().await.clone())
    }

    /// Lanes that were given to any process after `since`.
    pub fn moved(&self, since: Duration) -> Vec<u32> {
        let since = self.begun + since;
        let assigned = self.pipelines.iter().flat_map(Up::assignments);
        let mut moved: Vec<u32> =
            assigned.filter(|Assignment { at, .. }| *at >= since).map(|assigned| assigned.lane).collect();
        moved.sort_unstable();
        moved.dedup();
        moved
    }

    /// The API's process.
    pub fn serve(&self) -> &Up {
        &self.serve
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.watch.abort();
        if let Some(load) = &self.load {
            load.abort();
        }
    }
}

async fn watch(log: Arc<dyn RecordLog>, begun: Instant, looks: Arc<Mutex<Vec<Look>>>) -> anyhow::Result<()> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let lanes = log.progress("lanes", Topic::Records).await?;
        looks.lock().await.push(Look { at: begun.elapsed(), lanes });
    }
}

/// A key for a workspace of each lane.
async fn keys_of_all_lanes(place: &Place, lanes: Lanes) -> anyhow::Result<Vec<String>> {
    let (tables, world) = (place.open_tables().await?, SystemWorld);
    let mut secrets = Vec::new();
    for lane in 0..lanes.partitions {
        let name = |n: &u32| lanes.of(&format!("w{n}")).lane(&Identity([0; 16])) == lane;
        let workspace = (0..100_000u32).find(name).context("no workspace has this lane")?;
        let key = keys::NewKey {
            workspace: format!("w{workspace}"),
            label: "bench".to_owned(),
            source: "bench".to_owned(),
            permissions: vec![Permission::Write],
            rate_limit: Some(0),
        };
        let (key, secret) = keys::mint(&world as &dyn World, key);
        tables.create_key(key, 10).await?;
        secrets.push(secret);
    }
    Ok(secrets)
}
