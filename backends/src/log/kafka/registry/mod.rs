//! The schema registry: which id each topic's schema has, and what the ids in messages mean.
//!
//! In the process every frame is in single-object encoding, which names its schema by itself. With a registry the log
//! turns the header into that of the Confluent wire format as it appends ([`Headers`]), and before a reader hands out a
//! message its id is looked up ([`Registry::resolve`]), so that decoders know what it means.

mod rest;

pub use rest::RegistryUrl;

use super::{PAUSE, options::Options};
use crate::log::{LogError, Topic};
use rest::{Problem, Rest};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::Instant;
use tributary_schemas::frame::{
    Attachment, BatchEvent, DeadLetter, Frame, Meaning, RECORD_SCHEMA, Reject, SchemaIds, WIRE_BYTES,
    schema_fingerprint, single_object_datum, wire_header,
};

/// Ids that are remembered. A registry has few; garbage in a topic has many, and must not fill the memory.
const MOST_IDS: usize = 10_000;
/// An id that means nothing is asked for again after this: a registry that has lost its schemas gets them back, and what
/// became dead letters is replayed then.
const NOTHING_LASTS: Duration = Duration::from_secs(5);

/// A registry that has the topics' schemas.
#[derive(Debug)]
pub(super) struct Registry {
    rest: Rest,
    ids: Arc<Ids>,
    pub(super) headers: Headers,
}

impl Registry {
    /// Looks each topic's schema up, and registers those that are not there, under the subject `<topic>-value`.
    ///
    /// # Errors
    /// [`LogError::Halted`] when the registry refuses us or a schema; [`LogError::Unavailable`] when it does not answer
    /// within [`Options::start_timeout`].
    pub(super) async fn open(options: &Options, url: &RegistryUrl) -> Result<Self, LogError> {
        let rest = Rest::new(url)?;
        let deadline = Instant::now() + options.start_timeout;
        let ids = Arc::new(Ids::default());
        let mut headers = Headers::default();
        for topic in Topic::ALL {
            let subject = format!("{}-value", options.topic(topic));
            let id = settle(&rest, &subject, schema(topic), deadline).await?;
            let fingerprint = schema_fingerprint(schema(topic)).map_err(|error| LogError::Halted(error.to_string()))?;
            ids.learn(id, Meaning::Schema(fingerprint));
            headers.0[topic as usize] = wire_header(id);
        }
        tracing::info!(registry = %url, "the topics' schemas are in the registry");
        Ok(Self { rest, ids, headers })
    }

    /// What ids mean, as far as that was found out.
    pub(super) fn ids(&self) -> Arc<dyn SchemaIds> {
        self.ids.clone()
    }

    /// Whether nobody has asked yet what the id means, or not lately and in vain.
    pub(super) fn is_new(&self, id: u32) -> bool {
        self.ids.is_new(id, Instant::now())
    }

    /// Asks what an id means. Cancel-safe.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] when it cannot be told now.
    pub(super) async fn resolve(&self, id: u32) -> Result<(), LogError> {
        let meaning = match self.rest.schema(id).await {
            // What is no Avro schema to us is none of ours.
            Ok(Some(text)) => schema_fingerprint(&text).map_or(Meaning::Nothing, Meaning::Schema),
            Ok(None) | Err(Problem::NotThere(_)) => Meaning::Nothing,
            // Also what only an operator can mend: readers wait for it.
            Err(Problem::Refused(why) | Problem::Unavailable(why)) => {
                return Err(LogError::Unavailable(format!("cannot learn what schema id {id} means: {why}")));
            }
        };
        self.ids.learn(id, meaning);
        Ok(())
    }
}

/// The schema of a topic's messages.
fn schema(topic: Topic) -> &'static str {
    match topic {
        Topic::Records => RECORD_SCHEMA,
        Topic::Rejects => Reject::SCHEMA,
        Topic::BatchEvents => BatchEvent::SCHEMA,
        Topic::Attachments => Attachment::SCHEMA,
        Topic::DeadLetters => DeadLetter::SCHEMA,
    }
}

/// The id of a schema, which is registered if it is not yet.
async fn settle(rest: &Rest, subject: &str, schema: &str, deadline: Instant) -> Result<u32, LogError> {
    loop {
        // Whoever may only read is served too, once somebody else has registered it.
        let answer = match rest.look_up(subject, schema).await {
            Err(Problem::NotThere(_)) => rest.register(subject, schema).await,
            answer => answer,
        };
        match answer {
            Ok(id) => return Ok(id),
            Err(Problem::Refused(why) | Problem::NotThere(why)) => return Err(LogError::Halted(why)),
            Err(Problem::Unavailable(why)) if Instant::now() + PAUSE >= deadline => {
                return Err(LogError::Unavailable(why));
            }
            Err(Problem::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The header of each topic's messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Headers([[u8; WIRE_BYTES]; Topic::ALL.len()]);

impl Headers {
    /// `frame` in the Confluent wire format, put together in `room`; what is in no encoding of ours stays as it is.
    pub(super) fn put_on<'v>(&self, topic: Topic, frame: &'v [u8], room: &'v mut Vec<u8>) -> &'v [u8] {
        let Some(datum) = single_object_datum(frame) else { return frame };
        room.clear();
        room.extend_from_slice(&self.0[topic as usize]);
        room.extend_from_slice(datum);
        room
    }
}

/// What was found out about ids. A registry never gives an id to another schema.
#[derive(Debug, Default)]
struct Ids(RwLock<HashMap<u32, Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    meaning: Meaning,
    since: Instant,
}

impl Ids {
    fn get(&self, id: u32) -> Option<Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    fn is_new(&self, id: u32, now: Instant) -> bool {
        self.get(id).is_none_or(|Known { meaning, since }| {
            meaning == Meaning::Nothing && now.saturating_duration_since(since) >= NOTHING_LASTS
        })
    }

    fn learn(&self, id: u32, meaning: Meaning) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_IDS {
            known.retain(|_, known| known.meaning != Meaning::Nothing);
        }
        known.insert(id, Known { meaning, since: Instant::now() });
    }
}

impl SchemaIds for Ids {
    fn meaning(&self, id: u32) -> Meaning {
        self.get(id).map_or(Meaning::Nothing, |known| known.meaning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_header_changes() {
        let mut headers = Headers::default();
        headers.0[Topic::Rejects as usize] = wire_header(258);
        let (frame, mut room) = (b"\xC3\x01fingrprtdatum", vec![9; 3]);
        assert_eq!(headers.put_on(Topic::Rejects, frame, &mut room), b"\0\0\0\x01\x02datum");
        assert_eq!(headers.put_on(Topic::Rejects, b"anything", &mut room), b"anything");
    }

    #[test]
    fn what_means_nothing_is_asked_for_again_and_a_schema_never() {
        let (ids, now) = (Ids::default(), Instant::now());
        assert!(ids.is_new(1, now));
        ids.learn(1, Meaning::Nothing);
        ids.learn(2, Meaning::Schema(7));
        assert!(!ids.is_new(1, now));
        let later = Instant::now() + NOTHING_LASTS;
        assert!(ids.is_new(1, later) && !ids.is_new(2, later));
    }

    #[test]
    fn garbage_does_not_fill_the_memory_and_schemas_stay_known() {
        let ids = Ids::default();
        ids.learn(1, Meaning::Schema(7));
        for id in 2..2 * MOST_IDS as u32 {
            ids.learn(id, Meaning::Nothing);
        }
        assert!(ids.0.read().unwrap().len() <= MOST_IDS);
        assert_eq!(ids.meaning(1), Meaning::Schema(7));
    }

    #[test]
    fn every_topic_has_a_schema_of_its_own() {
        let mut fingerprints = Topic::ALL.map(|topic| schema_fingerprint(schema(topic)).unwrap()).to_vec();
        fingerprints.sort_unstable();
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), Topic::ALL.len());
    }
}
