//! How each of librdkafka's clients is set up.

use super::{options::Options, reports::Reports};
use crate::log::{LogError, Topic};
use rdkafka::{
    ClientConfig,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::ConsumerContext,
    error::KafkaError,
};
use std::time::Duration;

/// How often at most a member tells its group's coordinator that it lives. It learns of a rebalance with the answer, once
/// when lanes are asked back and once more when they are given out, and the lanes stand still that long.
const HEARTBEAT: Duration = Duration::from_millis(400);
/// The same where no lanes wait for it: each wakes three threads, which is most of what an idle process does.
const SLOW_HEARTBEAT: Duration = Duration::from_millis(1_200);

/// How long a broker keeps a question for the small topics' messages where there are none; for records it is the default, half
/// a second. A partition that is added, or has room again, is asked for behind it. From a second on librdkafka takes the broker
/// for busy.
const FETCH_WAIT: Duration = Duration::from_millis(900);

/// Bytes that an onlooker asks of a partition at a time; a larger batch comes whole.
const ONLOOKER_FETCH: &str = "65536";

/// A client without a group: administration, watermarks.
pub(super) fn plain<T: FromClientConfigAndContext<Reports>>(
    options: &Options,
    reports: &Reports,
) -> Result<T, LogError> {
    create(&common(options), reports.for_another())
}

/// Appends.
pub(super) fn producer<C, T>(options: &Options, context: C) -> Result<T, LogError>
where
    C: rdkafka::ClientContext,
    T: FromClientConfigAndContext<C>,
{
    let mut config = common(options);
    config
        .set("linger.ms", millis(options.linger))
        .set("compression.type", options.compression.name())
        .set("message.timeout.ms", millis(options.append_timeout))
        // The queue is bounded by `Options::queue_bytes` before librdkafka sees a message; these are never reached.
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", "2097151");
    properties(&mut config, options);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("delivery.report.only.error", "false")
        .set("message.max.bytes", options.max_message_bytes.to_string());
    create(&config, context)
}

/// Coordinates one member with its group, or reads partitions of `topic` for it, or looks committed offsets up.
pub(super) fn consumer<C, T>(options: &Options, group: &str, topic: Topic, context: C) -> Result<T, LogError>
where
    C: ConsumerContext,
    T: FromClientConfigAndContext<C>,
{
    let mut config = common(options);
    let heartbeat = if topic == Topic::Records { HEARTBEAT } else { SLOW_HEARTBEAT };
    let interval = options.session_timeout.max(options.release_grace) + Duration::from_secs(10);
    config
        .set("heartbeat.interval.ms", millis(heartbeat.min(options.session_timeout / 3)))
        // Bytes alone bound what is fetched ahead, and fetching goes on at once when there is room again.
        .set("queued.max.messages.kbytes", (options.prefetch(topic) / 1_024).max(1).to_string())
        .set("queued.min.messages", "10000000")
        .set("fetch.queue.backoff.ms", "10");
    if topic != Topic::Records {
        config.set("fetch.wait.max.ms", millis(FETCH_WAIT));
    }
    properties(&mut config, options);
    config
        .set("group.id", options.group(group))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", millis(options.session_timeout))
        // A member's thread always polls; this is how long the group waits for one that is about to let go.
        .set("max.poll.interval.ms", millis(interval))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("message.max.bytes", options.max_message_bytes.to_string());
    create(&config, context)
}

/// Looks at messages, a few of each partition, in no group.
pub(super) fn onlooker<C, T>(options: &Options, context: C) -> Result<T, LogError>
where
    C: ConsumerContext,
    T: FromClientConfigAndContext<C>,
{
    let mut config = common(options);
    config
        // One that is needed for the interface; it never joins and never commits.
        .set("group.id", options.group("onlooker"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("fetch.message.max.bytes", ONLOOKER_FETCH)
        .set("queued.min.messages", "1")
        .set("queued.max.messages.kbytes", "4096")
        // By default a queue that is not empty is not filled for a second.
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "20")
        .set("message.max.bytes", options.max_message_bytes.to_string());
    create(&config, context)
}

fn common(options: &Options) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set_log_level(RDKafkaLogLevel::Warning)
        .set("client.id", "tributary")
        .set("bootstrap.servers", &options.brokers)
        .set("socket.keepalive.enable", "true")
        // A broker that hangs is given up after this; the default is six times as long.
        .set("socket.timeout.ms", "10000")
        // A broker that restarts is found again within this; the default is five times as long.
        .set("reconnect.backoff.max.ms", "2000");
    properties(&mut config, options);
    config
}

/// Sets what the operator chose, over our defaults and under what the promises rest on.
fn properties(config: &mut ClientConfig, options: &Options) {
    for (name, value) in options.properties.iter() {
        config.set(name, value);
    }
}

fn create<C: rdkafka::ClientContext, T: FromClientConfigAndContext<C>>(
    config: &ClientConfig,
    context: C,
) -> Result<T, LogError> {
    config.create_with_context(context).map_err(|error| match error {
        KafkaError::ClientConfig(_, reason, name, _) => {
            LogError::Halted(format!("the Kafka property {name}: {reason}"))
        }
        error => LogError::Halted(format!("cannot set up a Kafka client: {error}")),
    })
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
