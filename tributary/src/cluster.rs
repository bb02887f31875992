//! The servers of a cluster: their flags, and how they are opened.
//!
//! A binary that was built without the feature `cluster` knows the flags too, and says what it lacks.

use crate::cli;
#[cfg(feature = "cluster")]
use crate::patience::waited_for;
use clap::{Args, builder::BoolishValueParser};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tributary_backends::{log::RecordLog, tables::Tables, world::World};
use tributary_schemas::identity::Lanes;

/// Where the log is, when it is on Kafka.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Log on Kafka")]
pub struct KafkaArgs {
    /// Keep the log on Kafka: the brokers to ask first, HOST:PORT,… [default: the embedded log in --data]
    #[arg(long, env = "TRIBUTARY_KAFKA", value_name = "BROKERS")]
    pub kafka: Option<String>,
    /// A property of librdkafka, such as `security.protocol=SASL_SSL` (again for more; one to a line in the environment)
    #[arg(
        long = "kafka-property",
        env = "TRIBUTARY_KAFKA_PROPERTY",
        value_name = "NAME=VALUE",
        value_delimiter = '\n',
        hide_env_values = true
    )]
    pub kafka_properties: Vec<String>,
    /// What the names of topics and consumer groups begin with
    #[arg(long, env = "TRIBUTARY_KAFKA_PREFIX", value_name = "PREFIX", default_value = "")]
    pub kafka_prefix: String,
    /// Copies of each partition [default: the cluster's]
    #[arg(long, env = "TRIBUTARY_KAFKA_REPLICATION", value_name = "N")]
    pub kafka_replication: Option<u16>,
    /// Copies that must have a record before it is acknowledged [default: the cluster's]
    #[arg(long, env = "TRIBUTARY_KAFKA_MIN_INSYNC_REPLICAS", value_name = "N")]
    pub kafka_min_insync_replicas: Option<u16>,
    /// How long Kafka keeps records, landed or not: longer than the pipeline may ever stand still
    #[arg(
        long,
        env = "TRIBUTARY_KAFKA_RETENTION",
        value_name = "TIME",
        default_value = "168h",
        value_parser = cli::duration
    )]
    pub kafka_retention: Duration,
    /// How long Kafka keeps dead letters, also those that nobody has dealt with [default: for ever]
    #[arg(long, env = "TRIBUTARY_KAFKA_DEAD_LETTER_RETENTION", value_name = "TIME", value_parser = cli::duration)]
    pub kafka_dead_letter_retention: Option<Duration>,
    /// After this long without a sign of life a process loses its lanes to others: shorter recovers from a crash sooner
    #[arg(
        long,
        env = "TRIBUTARY_KAFKA_SESSION_TIMEOUT",
        value_name = "TIME",
        default_value = "6s",
        value_parser = cli::duration
    )]
    pub kafka_session_timeout: Duration,
    /// Keep the topics' schemas in this registry, http(s)://[USER:PASSWORD@]HOST:PORT, and write in the Confluent wire
    /// format [default: Avro single-object encoding, which needs no registry]
    #[arg(long, env = "TRIBUTARY_SCHEMA_REGISTRY", value_name = "URL", requires = "kafka", hide_env_values = true)]
    pub schema_registry: Option<String>,
}

/// Where the tables are, when they are in ScyllaDB.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Tables in ScyllaDB")]
pub struct ScyllaArgs {
    /// Keep the tables in ScyllaDB or Cassandra: the nodes to ask first, HOST:PORT,… [default: embedded tables in --data]
    #[arg(long, env = "TRIBUTARY_SCYLLA", value_name = "NODES", value_delimiter = ',')]
    pub scylla: Vec<String>,
    /// Who logs in, where the cluster wants to know
    #[arg(long, env = "TRIBUTARY_SCYLLA_USER", value_name = "NAME", requires = "scylla_password")]
    pub scylla_user: Option<String>,
    /// That user's password (better in the environment than in the list of processes)
    #[arg(long, env = "TRIBUTARY_SCYLLA_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub scylla_password: Option<String>,
    /// Encrypt, and trust whom the system trusts (or SSL_CERT_FILE)
    #[arg(long, env = "TRIBUTARY_SCYLLA_TLS", value_parser = BoolishValueParser::new())]
    pub scylla_tls: bool,
    /// Encrypt, and trust only the authorities in this PEM file; a node's certificate must name its IP address
    #[arg(long, env = "TRIBUTARY_SCYLLA_CA", value_name = "FILE")]
    pub scylla_ca: Option<PathBuf>,
    /// Encrypt, and show this certificate (PEM) where the cluster wants to see one
    #[arg(long, env = "TRIBUTARY_SCYLLA_CERT", value_name = "FILE", requires = "scylla_cert_key")]
    pub scylla_cert: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, env = "TRIBUTARY_SCYLLA_CERT_KEY", value_name = "FILE", requires = "scylla_cert")]
    pub scylla_cert_key: Option<PathBuf>,
    /// Keyspace of the tables; the key index is in another one, NAME_index [default: tributary]
    #[arg(long, env = "TRIBUTARY_SCYLLA_KEYSPACE", value_name = "NAME")]
    pub scylla_keyspace: Option<String>,
    /// Copies of each row, for a keyspace that is made now [default: 3, or as many as there are nodes]
    #[arg(long, env = "TRIBUTARY_SCYLLA_REPLICATION", value_name = "N")]
    pub scylla_replication: Option<u32>,
    /// The data center to work with, where there are several
    #[arg(long, env = "TRIBUTARY_SCYLLA_DATACENTER", value_name = "NAME")]
    pub scylla_datacenter: Option<String>,
}

/// Opens the log on Kafka.
///
/// # Errors
/// Kafka does not answer or does not let us in, or its topics are not what they should be.
#[cfg(feature = "cluster")]
pub async fn open_kafka(args: &KafkaArgs, brokers: &str, lanes: Lanes) -> anyhow::Result<Arc<dyn RecordLog>> {
    use anyhow::Context;
    use tributary_backends::log::kafka;

    let options = kafka_options(args, brokers, lanes)?;
    let opened = waited_for(format_args!("Kafka at {brokers}"), kafka::open(options)).await;
    opened.with_context(|| format!("cannot open the log on Kafka at {brokers}"))
}

/// Opens the log on Kafka as it is, to look at it.
///
/// # Errors
/// Kafka does not answer in time or does not let us in, or there is no log.
#[cfg(feature = "cluster")]
pub async fn observe_kafka(args: &KafkaArgs, brokers: &str, within: Duration) -> anyhow::Result<Arc<dyn RecordLog>> {
    use anyhow::Context;
    use tributary_backends::log::kafka::{self, Options};

    let options = kafka_options(args, brokers, Lanes { partitions: 1, spread: 1 })?;
    let observed = kafka::observe(Options { start_timeout: within, ..options }).await;
    observed.with_context(|| format!("cannot look at the log on Kafka at {brokers}"))
}

#[cfg(feature = "cluster")]
fn kafka_options(
    args: &KafkaArgs,
    brokers: &str,
    lanes: Lanes,
) -> anyhow::Result<tributary_backends::log::kafka::Options> {
    use tributary_backends::log::kafka::{Options, Properties};

    let registry = args.schema_registry.as_deref().map(str::parse).transpose();
    let properties = args.kafka_properties.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    Ok(Options {
        brokers: brokers.to_owned(),
        prefix: args.kafka_prefix.clone(),
        lanes,
        replication: args.kafka_replication,
        min_insync_replicas: args.kafka_min_insync_replicas,
        retention_age: args.kafka_retention,
        dead_letter_retention_age: args.kafka_dead_letter_retention,
        session_timeout: args.kafka_session_timeout,
        properties: Properties::parse(properties).map_err(|error| anyhow::anyhow!("--kafka-property: {error}"))?,
        schema_registry: registry.map_err(|error: String| anyhow::anyhow!("--schema-registry: {error}"))?,
        ..Options::default()
    })
}

/// Says how to build a binary that can.
///
/// # Errors
/// Always.
#[cfg(not(feature = "cluster"))]
#[expect(clippy::unused_async, reason = "the signature of the one that can")]
pub async fn open_kafka(_args: &KafkaArgs, _brokers: &str, _lanes: Lanes) -> anyhow::Result<Arc<dyn RecordLog>> {
    anyhow::bail!("--kafka: {NOT_BUILT_IN}")
}

/// Says how to build a binary that can.
///
/// # Errors
/// Always.
#[cfg(not(feature = "cluster"))]
#[expect(clippy::unused_async, reason = "the signature of the one that can")]
pub async fn observe_kafka(_args: &KafkaArgs, _brokers: &str, _within: Duration) -> anyhow::Result<Arc<dyn RecordLog>> {
    anyhow::bail!("--kafka: {NOT_BUILT_IN}")
}

/// Opens the tables in ScyllaDB.
///
/// # Errors
/// The cluster does not answer or does not let us in, or its tables are those of a newer version.
#[cfg(feature = "cluster")]
pub async fn open_scylla(args: &ScyllaArgs, world: Arc<dyn World>) -> anyhow::Result<Arc<dyn Tables>> {
    use anyhow::Context;
    use tributary_backends::tables::cql::{self, Options, Tls};

    let args = args.clone();
    let identity = args.scylla_cert.zip(args.scylla_cert_key);
    let encrypted = args.scylla_tls || args.scylla_ca.is_some() || identity.is_some();
    let tls = encrypted.then_some(Tls { authority: args.scylla_ca, identity });
    let nodes = args.scylla.join(",");
    let usual = Options::default();
    let options = Options {
        nodes: args.scylla,
        keyspace: args.scylla_keyspace.unwrap_or(usual.keyspace),
        user: args.scylla_user,
        password: args.scylla_password,
        tls,
        replication: args.scylla_replication,
        datacenter: args.scylla_datacenter,
        world,
        ..Options::default()
    };
    let opened = waited_for(format_args!("ScyllaDB at {nodes}"), cql::open(options)).await;
    opened.with_context(|| format!("cannot open the tables in ScyllaDB at {nodes}"))
}

/// Says how to build a binary that can.
///
/// # Errors
/// Always.
#[cfg(not(feature = "cluster"))]
#[expect(clippy::unused_async, reason = "the signature of the one that can")]
pub async fn open_scylla(_args: &ScyllaArgs, _world: Arc<dyn World>) -> anyhow::Result<Arc<dyn Tables>> {
    anyhow::bail!("--scylla: {NOT_BUILT_IN}")
}

/// How to come by a binary that can.
#[cfg(not(feature = "cluster"))]
const NOT_BUILT_IN: &str = "this binary was built without the clients of Kafka and ScyllaDB, which take minutes to \
                            build; `cargo build --release --features cluster` makes one that has them";
