//! What librdkafka says by itself: logged once, not a million times.

use rdkafka::{
    ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
    types::RDKafkaErrorCode,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What was said is not said again for this long.
const SILENCE: Duration = Duration::from_secs(60);

/// Takes the reports of all clients of one log. Clones share what was said.
#[derive(Debug, Clone, Default)]
pub(super) struct Reports(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    /// By what it is about: when it may be said again, and how often it was not.
    subjects: HashMap<String, (Instant, u64)>,
    last: Option<(RDKafkaErrorCode, String)>,
}

impl Reports {
    /// The last error that a client met, in words, and whether only the operator can mend it.
    pub(super) fn last(&self) -> Option<(String, bool)> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.last.as_ref().map(|(code, text)| (text.clone(), is_for_the_operator(*code)))
    }

    /// How often `subject` was left unsaid since it was last said; `None` when it is to stay unsaid now too.
    fn may_say(&self, subject: &str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.subjects.get_mut(subject) {
            Some((until, unsaid)) if now < *until => {
                *unsaid += 1;
                None
            }
            Some((until, unsaid)) => {
                *until = now + SILENCE;
                Some(std::mem::take(unsaid))
            }
            None => {
                said.subjects.insert(subject.to_owned(), (now + SILENCE, 0));
                Some(0)
            }
        }
    }

    /// Warns of `subject`, unless that was done lately.
    pub(super) fn warn(&self, subject: &str, text: &str) {
        if let Some(unsaid) = self.may_say(subject, Instant::now()) {
            tracing::warn!(unsaid, "Kafka: {text}");
        }
    }
}

fn is_for_the_operator(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::Authentication | Code::SSL | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism)
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, text: &str) {
        // What fails is told as an error too; this has the details, such as which broker.
        let Some(unsaid) = self.may_say(fac, Instant::now()) else { return };
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(unsaid, subject = fac, "librdkafka: {text}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(unsaid, subject = fac, "librdkafka: {text}"),
            _ => tracing::debug!(unsaid, subject = fac, "librdkafka: {text}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        // Where messages of a partition cannot be read, its reader says so.
        if !matches!(code, RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::BadMessage) {
            self.warn(&format!("{code:?}"), reason);
        }
        // That all brokers are down says less than why the last one was.
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if code != RDKafkaErrorCode::AllBrokersDown || said.last.is_none() {
            said.last = Some((code, reason.to_owned()));
        }
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Reports {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_is_said_once_a_minute_with_how_often_it_was_not() {
        let (reports, now) = (Reports::default(), Instant::now());
        assert_eq!(reports.may_say("FAIL", now), Some(0));
        for _ in 0..1_000 {
            assert_eq!(reports.may_say("FAIL", now + SILENCE / 2), None);
        }
        assert_eq!(reports.clone().may_say("OTHER", now), Some(0));
        assert_eq!(reports.may_say("FAIL", now + SILENCE), Some(1_000));
    }

    #[test]
    fn the_reason_outlives_that_all_brokers_are_down() {
        let reports = Reports::default();
        reports.error(KafkaError::Global(RDKafkaErrorCode::Authentication), "wrong password");
        reports.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(reports.last(), Some(("wrong password".to_owned(), true)));
    }
}
