//! Where a measurement's backends are: embedded in a directory of its own, or under a name of its own on the servers that
//! were named. The flags and variables are those of `tributary`.

use crate::Input;
use anyhow::Context;
use clap::Args;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::process::Command;
use tributary_backends::{
    log::{self, RecordLog},
    tables::{self, Tables},
    world::{SystemWorld, World},
};
use tributary_pipeline::lake::Lake;
use tributary_schemas::identity::Lanes;
use url::Url;

/// As `tributary up` has them by default.
pub const LANES: Lanes = Lanes { partitions: 4, spread: 1 };
/// The workspace that everything goes to.
pub const WORKSPACE: &str = "default";

/// Servers in place of what is embedded.
#[derive(Debug, Clone, Default, Args)]
pub struct Servers {
    /// The log on Kafka: HOST:PORT,… [default: embedded]
    #[arg(long, env = "TRIBUTARY_KAFKA", value_name = "BROKERS")]
    kafka: Option<String>,
    /// A property of librdkafka, such as `compression.type=zstd`
    #[arg(
        long = "kafka-property",
        env = "TRIBUTARY_KAFKA_PROPERTY",
        value_name = "NAME=VALUE",
        value_delimiter = '\n'
    )]
    kafka_properties: Vec<String>,
    /// The tables in ScyllaDB or Cassandra: HOST:PORT,… [default: embedded]
    #[arg(long, env = "TRIBUTARY_SCYLLA", value_name = "NODES", value_delimiter = ',')]
    scylla: Vec<String>,
    /// The Delta tables below this URL [default: a directory]
    #[arg(long, env = "TRIBUTARY_LAKE", value_name = "URL")]
    lake: Option<String>,
}

impl Servers {
    /// Whether log, tables and lake are all on servers, as several processes need them.
    pub fn shared(&self) -> bool {
        self.kafka.is_some() && !self.scylla.is_empty() && self.lake.is_some()
    }

    /// Whether the log is on Kafka.
    pub fn has_kafka(&self) -> bool {
        self.kafka.is_some()
    }
}

/// The backends of one measurement.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Directory of what is embedded; its name is that of topics, keyspace and tables on the servers
    #[arg(long)]
    pub dir: PathBuf,
    #[command(flatten)]
    pub servers: Servers,
}

impl Place {
    fn name(&self) -> anyhow::Result<&str> {
        self.dir.file_name().and_then(|name| name.to_str()).context("a directory without a name")
    }

    /// Gives another process of this program the same place.
    pub fn pass_on(&self, command: &mut Command) {
        command.arg("--dir").arg(&self.dir);
        let Servers { kafka, kafka_properties, scylla, lake } = &self.servers;
        set(command, "TRIBUTARY_KAFKA", kafka.as_deref());
        set(command, "TRIBUTARY_KAFKA_PROPERTY", Some(kafka_properties.join("\n").as_str()));
        set(command, "TRIBUTARY_SCYLLA", Some(scylla.join(",").as_str()));
        set(command, "TRIBUTARY_LAKE", lake.as_deref());
    }

    /// Gives it to a process of `tributary`.
    pub fn settle(&self, command: &mut Command) -> anyhow::Result<()> {
        self.pass_servers(command)?;
        command.arg("--data").arg(&self.dir);
        Ok(())
    }

    fn pass_servers(&self, command: &mut Command) -> anyhow::Result<()> {
        let Servers { kafka, kafka_properties, scylla, .. } = &self.servers;
        set(command, "TRIBUTARY_KAFKA", kafka.as_deref());
        set(command, "TRIBUTARY_KAFKA_PROPERTY", Some(kafka_properties.join("\n").as_str()));
        set(command, "TRIBUTARY_KAFKA_PREFIX", kafka.is_some().then_some(self.prefix()?.as_str()));
        set(command, "TRIBUTARY_SCYLLA", Some(scylla.join(",").as_str()));
        set(command, "TRIBUTARY_SCYLLA_KEYSPACE", (!scylla.is_empty()).then_some(self.name()?));
        set(command, "TRIBUTARY_LAKE", self.lake_url()?.as_ref().map(Url::as_str));
        Ok(())
    }

    fn prefix(&self) -> anyhow::Result<String> {
        Ok(format!("{}.", self.name()?))
    }

    /// On a server; `None` when the lake is in the directory.
    fn lake_url(&self) -> anyhow::Result<Option<Url>> {
        let Some(lake) = &self.servers.lake else { return Ok(None) };
        Ok(Some(Url::parse(lake)?.join(&format!("{}/", self.name()?))?))
    }

    /// Opens log and tables.
    pub async fn open(&self) -> anyhow::Result<Backends> {
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let tables = self.open_tables().await?;
        let log = self.open_log(LANES, world.clone()).await?;
        Ok(Backends { log, tables, world })
    }

    /// Opens the tables.
    pub async fn open_tables(&self) -> anyhow::Result<Arc<dyn Tables>> {
        match self.servers.scylla.is_empty() {
            true => Ok(tables::embedded::open(&self.dir.join("tables"))?),
            false => self.open_scylla().await,
        }
    }

    /// Opens the log.
    pub async fn open_log(&self, lanes: Lanes, world: Arc<dyn World>) -> anyhow::Result<Arc<dyn RecordLog>> {
        match &self.servers.kafka {
            Some(brokers) => self.open_kafka(brokers, lanes).await,
            None => {
                let options = log::embedded::Options { lanes, ..Default::default() };
                Ok(log::embedded::open(&self.dir.join("log"), options, world)?)
            }
        }
    }

    /// Opens the lake.
    pub fn lake(&self, world: Arc<dyn World>) -> anyhow::Result<Lake> {
        if let Some(url) = self.lake_url()? {
            return Ok(Lake::open(&url, world)?);
        }
        let dir = std::path::absolute(self.dir.join("lake"))?;
        let url = Url::from_directory_path(&dir).map_err(|()| anyhow::anyhow!("{} is no directory", dir.display()))?;
        Ok(Lake::open(&url, world)?)
    }

    #[cfg(feature = "cluster")]
    async fn open_kafka(&self, brokers: &str, lanes: Lanes) -> anyhow::Result<Arc<dyn RecordLog>> {
        use tributary_backends::log::kafka::{Options, Properties, open};
        let properties = self.servers.kafka_properties.iter().map(String::as_str).filter(|line| !line.is_empty());
        let properties = Properties::parse(properties).map_err(anyhow::Error::msg)?;
        let prefix = self.prefix()?;
        Ok(open(Options { brokers: brokers.to_owned(), prefix, lanes, properties, ..Options::default() }).await?)
    }

    #[cfg(feature = "cluster")]
    async fn open_scylla(&self) -> anyhow::Result<Arc<dyn Tables>> {
        use tributary_backends::tables::cql::{Options, open};
        let (nodes, keyspace) = (self.servers.scylla.clone(), self.name()?.to_owned());
        Ok(open(Options { nodes, keyspace, ..Options::default() }).await?)
    }

    #[cfg(not(feature = "cluster"))]
    #[expect(clippy::unused_async, reason = "the signature of the one that can")]
    async fn open_kafka(&self, _brokers: &str, _lanes: Lanes) -> anyhow::Result<Arc<dyn RecordLog>> {
        anyhow::bail!("build with --features cluster for --kafka")
    }

    #[cfg(not(feature = "cluster"))]
    #[expect(clippy::unused_async, reason = "the signature of the one that can")]
    async fn open_scylla(&self) -> anyhow::Result<Arc<dyn Tables>> {
        anyhow::bail!("build with --features cluster for --scylla")
    }
}

/// A variable for a process, which must not find that of this one instead.
fn set(command: &mut Command, name: &str, value: Option<&str>) {
    match value {
        Some(value) if !value.is_empty() => command.env(name, value),
        _ => command.env_remove(name),
    };
}

/// The log and the tables, open.
#[derive(Debug, Clone)]
pub struct Backends {
    pub log: Arc<dyn RecordLog>,
    pub tables: Arc<dyn Tables>,
    pub world: Arc<dyn World>,
}

/// A place whose directory goes away with it; what is on servers stays there.
#[derive(Debug)]
pub struct Scratch {
    pub place: Place,
    _dir: TempDir,
}

impl Scratch {
    /// The directory, which is on the disk to be measured.
    pub fn path(&self) -> &Path {
        &self.place.dir
    }
}

/// A new place.
pub fn scratch(input: &Input) -> anyhow::Result<Scratch> {
    // A name that topics, keyspaces and objects can have.
    let name = format!("bench_{}", SystemWorld.uuid_v7().simple());
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(&name).rand_bytes(0);
    let made = match &input.scratch {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    };
    let dir = made.context("no scratch directory")?;
    Ok(Scratch { place: Place { dir: dir.path().to_owned(), servers: input.servers.clone() }, _dir: dir })
}
