//! Topics are made at the first start, and checked at every start.

use super::{Kafka, PAUSE, blocking, clients, errors, options::Options, reports::Reports, topic_id};
use crate::log::{LogError, Topic};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::Consumer,
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long one question to the brokers may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who stamps messages: the broker that appends them, so that no clock but the brokers' moves retention and lag.
const STAMPED_BY: &str = "LogAppendTime";

/// How a topic is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    /// Of the cluster.
    brokers: usize,
    partitions: usize,
    /// Of the partition with the fewest.
    replication: usize,
    /// Partitions that nobody leads at the moment.
    leaderless: usize,
    settings: HashMap<String, String>,
}

/// Makes the topics that are missing, and refuses those that contradict `options`. The id of `records`, which names
/// the log.
pub(super) async fn prepare(kafka: &Arc<Kafka>) -> Result<String, LogError> {
    let options = &kafka.options;
    let deadline = Instant::now() + options.start_timeout;
    let there = look(kafka, deadline).await?;
    let admin = clients::plain::<AdminClient<Reports>>(options, &kafka.reports)?;
    create(&admin, options, &there).await?;
    let mut there = led(kafka, deadline).await?;
    read_settings(&admin, options, &mut there).await?;
    let wrong: Vec<String> =
        Topic::ALL.into_iter().flat_map(|topic| contradictions(options, topic, &there[&topic])).collect();
    if !wrong.is_empty() {
        return Err(LogError::Halted(format!("the topics are not as configured:\n  {}", wrong.join("\n  "))));
    }
    if let Some(topics) = alone(&there) {
        tracing::warn!(topics, "what is acknowledged may be on one broker alone, although there are others");
    }
    id(kafka).await
}

/// Looks at a log that should be there: the id of `records`, and its number of partitions.
pub(super) async fn inspect(kafka: &Arc<Kafka>) -> Result<(String, u32), LogError> {
    let there = look(kafka, Instant::now() + kafka.options.start_timeout).await?;
    let records = there.get(&Topic::Records).and_then(|found| u32::try_from(found.partitions).ok());
    let missing = || {
        let (name, brokers) = (kafka.options.topic(Topic::Records), &kafka.options.brokers);
        LogError::Halted(format!("there is no topic {name} on {brokers}: nothing has been started there yet"))
    };
    let partitions = records.ok_or_else(missing)?;
    Ok((id(kafka).await?, partitions))
}

/// The id of `records`.
pub(super) async fn id(kafka: &Arc<Kafka>) -> Result<String, LogError> {
    let kafka = kafka.clone();
    blocking(move || topic_id::of(&kafka.plain, &kafka.options.topic(Topic::Records), PATIENCE)).await
}

/// The topics that are there, once a broker answers.
async fn look(kafka: &Arc<Kafka>, deadline: Instant) -> Result<HashMap<Topic, Found>, LogError> {
    loop {
        let asked = kafka.clone();
        let patience = deadline.saturating_duration_since(Instant::now()).clamp(PAUSE, PATIENCE);
        let error = match blocking(move || Ok(found(&asked, patience))).await? {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let brokers = &kafka.options.brokers;
        match kafka.reports.last() {
            Some((reason, true)) => {
                return Err(LogError::Halted(format!("Kafka at {brokers} does not let us in: {reason}")));
            }
            last if Instant::now() >= deadline => {
                let reason = last.map_or_else(|| error.to_string(), |(reason, _)| reason);
                return Err(LogError::Unavailable(format!("no broker of {brokers} answers: {reason}")));
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What the brokers say of our topics; those that are not there are left out.
fn found(kafka: &Kafka, patience: Duration) -> Result<HashMap<Topic, Found>, KafkaError> {
    let mut all = HashMap::new();
    for topic in Topic::ALL {
        let metadata = kafka.plain.fetch_metadata(Some(&kafka.options.topic(topic)), patience)?;
        let Some(described) = metadata.topics().iter().find(|one| one.error().is_none()) else { continue };
        let partitions = described.partitions();
        let found = Found {
            brokers: metadata.brokers().len(),
            partitions: partitions.len(),
            replication: partitions.iter().map(|one| one.replicas().len()).min().unwrap_or(0),
            leaderless: partitions.iter().filter(|one| one.leader() < 0).count(),
            settings: HashMap::new(),
        };
        if found.partitions > 0 {
            all.insert(topic, found);
        }
    }
    Ok(all)
}

async fn create(
    admin: &AdminClient<Reports>,
    options: &Options,
    there: &HashMap<Topic, Found>,
) -> Result<(), LogError> {
    let missing = Topic::ALL.into_iter().filter(|topic| !there.contains_key(topic));
    let described = |topic| (options.topic(topic), options.partitions(topic), settings(options, topic));
    let missing: Vec<_> = missing.map(described).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let copies = options.replication.map_or(-1, i32::from);
    let new = missing.iter().map(|(name, partitions, settings)| NewTopic {
        name,
        num_partitions: i32::try_from(*partitions).unwrap_or(i32::MAX),
        replication: TopicReplication::Fixed(copies),
        config: settings.iter().map(|(name, value)| (*name, value.as_str())).collect(),
    });
    let new: Vec<_> = new.collect();
    let patience = AdminOptions::new().request_timeout(Some(PATIENCE * 2)).operation_timeout(Some(PATIENCE));
    let made =
        admin.create_topics(&new, &patience).await.map_err(|error| errors::unavailable("make topics", &error))?;
    for outcome in made {
        match outcome {
            Ok(topic) => tracing::info!(topic, "made a topic"),
            // Another process starts at the same time; what it made is checked like any other.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            // Not our business alone: it may be there by the time it is looked for, or else that says so.
            Err((_, RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::RequestTimedOut)) => {}
            Err((topic, code)) => return Err(not_made(&topic, code, options)),
        }
    }
    Ok(())
}

fn not_made(topic: &str, code: RDKafkaErrorCode, options: &Options) -> LogError {
    use RDKafkaErrorCode as Code;
    let hint = match code {
        Code::InvalidReplicationFactor => match options.replication {
            Some(copies) => format!(": are there {copies} brokers?"),
            None => ": are there as many brokers as the cluster's default.replication.factor says?".to_owned(),
        },
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            ": give the user Create on the cluster, or make the topics for it".to_owned()
        }
        _ => String::new(),
    };
    let reason = format!("cannot make topic {topic}: {code}{hint}");
    match code {
        Code::NotController | Code::BrokerNotAvailable | Code::ThrottlingQuotaExceeded => LogError::Unavailable(reason),
        _ => LogError::Halted(reason),
    }
}

/// The topics, once all are there and each partition has a leader.
async fn led(kafka: &Arc<Kafka>, deadline: Instant) -> Result<HashMap<Topic, Found>, LogError> {
    loop {
        let there = look(kafka, deadline).await?;
        let missing: Vec<_> = Topic::ALL
            .into_iter()
            .filter(|topic| there.get(topic).is_none_or(|found| found.leaderless > 0))
            .map(|topic| kafka.options.topic(topic))
            .collect();
        if missing.is_empty() {
            return Ok(there);
        }
        if Instant::now() >= deadline {
            let reason = format!("partitions of {} have no leader: are enough brokers up?", missing.join(", "));
            return Err(LogError::Unavailable(reason));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read_settings(
    admin: &AdminClient<Reports>,
    options: &Options,
    there: &mut HashMap<Topic, Found>,
) -> Result<(), LogError> {
    let names = Topic::ALL.map(|topic| options.topic(topic));
    let asked = names.each_ref().map(|name| ResourceSpecifier::Topic(name));
    let patience = AdminOptions::new().request_timeout(Some(PATIENCE * 2));
    let failed = |error: KafkaError| errors::unavailable("read the settings of the topics", &error);
    let answers = admin.describe_configs(&asked, &patience).await.map_err(failed)?;
    for (topic, answer) in Topic::ALL.into_iter().zip(answers) {
        let answer = answer.map_err(|code| failed(KafkaError::AdminOp(code)))?;
        let settings = answer.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
        there.entry(topic).or_default().settings = settings.collect();
    }
    Ok(())
}

/// With which settings a topic is made.
fn settings(options: &Options, topic: Topic) -> Vec<(&'static str, String)> {
    let or_for_ever = |bound: Option<u128>| bound.map_or_else(|| "-1".to_owned(), |bound| bound.to_string());
    let (age, bytes) = match topic {
        // Nobody may have dealt with them yet, and they are few.
        Topic::DeadLetters => (options.dead_letter_retention_age, None),
        _ => (Some(options.retention_age), options.retention_bytes),
    };
    let mut settings = vec![
        ("cleanup.policy", "delete".to_owned()),
        ("max.message.bytes", options.max_message_bytes.to_string()),
        ("message.timestamp.type", STAMPED_BY.to_owned()),
        ("retention.ms", or_for_ever(age.map(|age| age.as_millis()))),
        ("retention.bytes", or_for_ever(bytes.map(u128::from))),
    ];
    if let Some(least) = options.min_insync_replicas {
        settings.push(("min.insync.replicas", least.to_string()));
    }
    settings
}

/// In what `found` is not what `options` ask for, each with what to do.
fn contradictions(options: &Options, topic: Topic, found: &Found) -> Vec<String> {
    let name = options.topic(topic);
    let mut wrong = Vec::new();
    let partitions = options.partitions(topic) as usize;
    if found.partitions != partitions {
        wrong.push(grown(topic, &name, found.partitions, partitions));
    }
    if let Some(copies) = options.replication.map(usize::from)
        && found.replication != copies
    {
        let has = found.replication;
        wrong.push(format!("{name} has {has} copies of a partition, {copies} are configured: reassign its partitions"));
    }
    for (setting, wanted) in settings(options, topic) {
        let has = found.settings.get(setting).map_or("", String::as_str);
        let fits = match setting {
            // A larger one does no harm.
            "max.message.bytes" => number(has) >= number(&wanted),
            _ => has == wanted,
        };
        if !fits {
            wrong.push(format!(
                "{name} has {setting}={has}, {wanted} is configured: kafka-configs.sh --alter --entity-type topics \
                 --entity-name {name} --add-config {setting}={wanted}"
            ));
        }
    }
    if let Some(least) = must_have(found).filter(|least| *least > found.replication as u64) {
        let has = found.replication;
        wrong.push(format!("{name} has min.insync.replicas={least} and {has} copies: no append could ever succeed"));
    }
    wrong
}

/// Copies that must have a message before it is acknowledged.
fn must_have(found: &Found) -> Option<u64> {
    found.settings.get("min.insync.replicas").and_then(|text| number(text))
}

/// The topics of which one broker alone may have what is acknowledged, although there are others.
fn alone(there: &HashMap<Topic, Found>) -> Option<String> {
    let is_alone = |found: &Found| found.replication < 2 || must_have(found).is_some_and(|least| least < 2);
    let topics =
        Topic::ALL.into_iter().filter(|topic| there.get(topic).is_some_and(|it| it.brokers > 1 && is_alone(it)));
    let names: Vec<_> = topics.map(Topic::name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// What to do about a topic that has another number of partitions than was written down.
pub(super) fn grown(topic: Topic, name: &str, has: usize, configured: usize) -> String {
    let way_out = if has > configured {
        "partitions were added, which Kafka cannot take back: let what runs land what waits, then start all processes \
         with a new --kafka-prefix"
    } else if topic == Topic::Records {
        "it was made by somebody else, or made anew: delete it to have it made as it must be, or start with a new \
         --kafka-prefix"
    } else {
        // What is in it may stay where it is, for nothing that is said there depends on what was said before.
        return format!(
            "{name} has {has} partitions, {configured} are configured, as an older version made it: end all processes, \
             then kafka-topics.sh --alter --topic {name} --partitions {configured}"
        );
    };
    format!("{name} has {has} partitions, {configured} are configured and must stay: {way_out}")
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_made(options: &Options, topic: Topic) -> Found {
        let mut settings: HashMap<_, _> =
            settings(options, topic).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        settings.entry("min.insync.replicas".to_owned()).or_insert_with(|| "1".to_owned());
        let partitions = options.partitions(topic) as usize;
        Found {
            brokers: 3,
            partitions,
            replication: options.replication.map_or(3, usize::from),
            leaderless: 0,
            settings,
        }
    }

    #[test]
    fn what_was_made_with_the_same_options_is_not_refused() {
        for options in [
            Options::default(),
            Options { replication: Some(3), min_insync_replicas: Some(2), ..Options::default() },
            Options { retention_bytes: Some(1 << 30), ..Options::default() },
            Options { dead_letter_retention_age: Some(Duration::from_secs(1)), ..Options::default() },
        ] {
            for topic in Topic::ALL {
                assert_eq!(contradictions(&options, topic, &as_made(&options, topic)), Vec::<String>::new());
            }
        }
    }

    #[test]
    fn each_contradiction_is_named_with_both_sides() {
        let options = Options { replication: Some(3), min_insync_replicas: Some(2), ..Options::default() };
        let check = |change: &dyn Fn(&mut Found), words: &[&str]| {
            let mut found = as_made(&options, Topic::Records);
            change(&mut found);
            let wrong = contradictions(&options, Topic::Records, &found);
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            assert!(words.iter().all(|word| wrong[0].contains(word)), "{wrong:?}");
        };
        check(&|found| found.partitions = 8, &["records has 8 partitions", "4 are configured"]);
        check(&|found| found.replication = 2, &["2 copies", "3 are configured"]);
        let mut found = as_made(&options, Topic::BatchEvents);
        found.partitions = 1;
        let wrong = contradictions(&options, Topic::BatchEvents, &found);
        assert!(wrong[0].contains("--alter --topic batch-events --partitions 4"), "{wrong:?}");
        let set = |name: &'static str, value: &'static str| {
            move |found: &mut Found| drop(found.settings.insert(name.to_owned(), value.to_owned()))
        };
        check(&set("retention.ms", "1000"), &["retention.ms=1000", "604800000"]);
        check(&set("retention.bytes", "5"), &["retention.bytes=5", "-1"]);
        check(&set("cleanup.policy", "compact"), &["cleanup.policy=compact", "delete"]);
        check(&set("min.insync.replicas", "1"), &["min.insync.replicas=1", "2 is configured"]);
        check(&set("max.message.bytes", "1048588"), &["1048588", "8388608"]);
        check(&set("message.timestamp.type", "CreateTime"), &["CreateTime", STAMPED_BY]);
    }

    #[test]
    fn dead_letters_are_kept_until_somebody_has_dealt_with_them() {
        let options = Options { retention_bytes: Some(1 << 30), ..Options::default() };
        let kept = |topic| {
            let settings = as_made(&options, topic).settings;
            (settings["retention.ms"].clone(), settings["retention.bytes"].clone())
        };
        assert_eq!(kept(Topic::DeadLetters), ("-1".to_owned(), "-1".to_owned()));
        assert_eq!(kept(Topic::Records), ("604800000".to_owned(), "1073741824".to_owned()));
        let mut found = as_made(&options, Topic::DeadLetters);
        found.settings.insert("retention.ms".to_owned(), "604800000".to_owned());
        let wrong = contradictions(&options, Topic::DeadLetters, &found);
        assert!(wrong[0].contains("dead-letters has retention.ms=604800000, -1 is configured"), "{wrong:?}");
    }

    #[test]
    fn one_broker_alone_with_what_is_acknowledged_is_told_of_where_there_are_others() {
        let three = Options { replication: Some(3), min_insync_replicas: Some(2), ..Options::default() };
        let made = |options: &Options| Topic::ALL.map(|topic| (topic, as_made(options, topic)));
        assert_eq!(alone(&made(&three).into()), None);
        let mut there = HashMap::from(made(&three));
        there.get_mut(&Topic::Rejects).unwrap().replication = 1;
        there.get_mut(&Topic::Records).unwrap().settings.insert("min.insync.replicas".to_owned(), "1".to_owned());
        assert_eq!(alone(&there), Some("records, rejects".to_owned()));
        there.values_mut().for_each(|found| found.brokers = 1);
        assert_eq!(alone(&there), None, "of one broker nothing else can be asked");
    }

    #[test]
    fn a_topic_that_could_never_take_a_message_is_refused() {
        let options = Options::default();
        let mut found = as_made(&options, Topic::Rejects);
        found.settings.insert("min.insync.replicas".to_owned(), "4".to_owned());
        assert!(contradictions(&options, Topic::Rejects, &found)[0].contains("no append could ever succeed"));
        found.settings.insert("max.message.bytes".to_owned(), "99999999".to_owned());
        assert_eq!(contradictions(&options, Topic::Rejects, &found).len(), 1, "more room does no harm");
    }
}
