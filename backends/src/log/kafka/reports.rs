//! What librdkafka says by itself: logged once, not a million times.

use crate::said::Said;
use rdkafka::{
    ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
    types::RDKafkaErrorCode,
};
use std::sync::{Arc, Mutex, PoisonError};

/// Takes the reports of all clients of one log. Clones share what was said.
#[derive(Debug, Clone, Default)]
pub(super) struct Reports(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    said: Said,
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Reports {
    /// The last error that a client met, in words, and whether only the operator can mend it.
    pub(super) fn last(&self) -> Option<(String, bool)> {
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(code, text)| (text.clone(), is_for_the_operator(*code)))
    }

    /// Warns of `subject`, unless that was done lately.
    pub(super) fn warn(&self, subject: &str, text: &str) {
        if let Some(unsaid) = self.0.said.may_say(subject) {
            tracing::warn!(unsaid, "Kafka: {text}");
        }
    }
}

fn is_for_the_operator(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::Authentication | Code::SSL | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism)
}

/// What librdkafka leaves out of what it says.
fn advice(code: RDKafkaErrorCode, reason: &str) -> &'static str {
    use RDKafkaErrorCode as Code;
    match code {
        // It is not told apart why.
        Code::SSL if reason.contains("certificate verify failed") => {
            "; the broker's certificate may have expired, may be for another host name than the one that is asked, or \
             may be signed by an authority that is not in ssl.ca.location"
        }
        Code::Authentication | Code::SaslAuthenticationFailed => "; check sasl.username and sasl.password",
        _ => "",
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, text: &str) {
        // What fails is told as an error too; this has the details, such as which broker.
        let Some(unsaid) = self.0.said.may_say(fac) else { return };
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(unsaid, subject = fac, "librdkafka: {text}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(unsaid, subject = fac, "librdkafka: {text}"),
            _ => tracing::debug!(unsaid, subject = fac, "librdkafka: {text}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        let Some(code) = error.rdkafka_error_code() else { return };
        let reason = &format!("{reason}{}", advice(code, reason));
        // Where messages of a partition cannot be read, its reader says so. That all brokers are down says no more than why
        // the last one was, and librdkafka goes on saying it after one of two has come back under the same address.
        if !matches!(code, Code::AutoOffsetReset | Code::BadMessage | Code::AllBrokersDown) {
            self.warn(&format!("{code:?}"), reason);
        }
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if code != Code::AllBrokersDown || last.is_none() {
            *last = Some((code, reason.clone()));
        }
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Reports {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_outlives_that_all_brokers_are_down() {
        let reports = Reports::default();
        reports.error(KafkaError::Global(RDKafkaErrorCode::Authentication), "wrong password");
        reports.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(reports.last(), Some(("wrong password; check sasl.username and sasl.password".to_owned(), true)));
    }
}
