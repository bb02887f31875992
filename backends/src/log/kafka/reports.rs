//! What librdkafka says by itself: logged once, not a million times.

use crate::said::Said;
use rdkafka::{
    ClientContext, Statistics, client::Client, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
    types::RDKafkaErrorCode,
};
use std::{
    ffi::CString,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// So long librdkafka has to find its brokers again by itself, each time longer: it keeps all reminders.
const BY_ITSELF: Duration = Duration::from_secs(10);
/// So many times that at most.
const LONGEST: u32 = 3;

/// Takes the reports of one client of a log. All clients of a log share what was said.
#[derive(Debug, Default)]
pub(super) struct Reports {
    shared: Arc<Shared>,
    brokers: Mutex<Brokers>,
}

#[derive(Debug, Default)]
struct Shared {
    said: Said,
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

/// Whether a client has lost its brokers.
#[derive(Debug, Default)]
struct Brokers {
    /// When it first said that all are down, of what it was not reminded of.
    lost_at: Option<Instant>,
    reminders: u32,
}

impl Brokers {
    /// Whether it is time to remind it.
    fn are_lost(&mut self, now: Instant) -> bool {
        let patience = BY_ITSELF * (self.reminders + 1).min(LONGEST);
        let lost = self.lost_at.is_some_and(|at| now >= at + patience);
        if lost {
            *self = Self { lost_at: None, reminders: self.reminders.saturating_add(1) };
        }
        lost
    }
}

impl Reports {
    /// Those of another client of the log.
    pub(super) fn for_another(&self) -> Self {
        Self { shared: self.shared.clone(), brokers: Mutex::default() }
    }

    /// Tells `client` again who the brokers are, if it has lost them. librdkafka strikes all brokers off that a broker's answer
    /// does not name, and one that has just started may name none. Then it begins anew with `bootstrap.servers`; but an
    /// answer like that which comes at this very moment stops it, and it never tries again (librdkafka's issue 5301).
    #[expect(unsafe_code, reason = "a call into librdkafka that rdkafka has no wrapper for")]
    pub(super) fn remind<C: ClientContext>(&self, client: &Client<C>, brokers: &str) {
        if !self.brokers.lock().unwrap_or_else(PoisonError::into_inner).are_lost(Instant::now()) {
            return;
        }
        self.warn("reminded", "all brokers were lost; told of them again");
        let Ok(brokers) = CString::new(brokers) else { return };
        // SAFETY: the client lives as long as it is borrowed, and librdkafka copies the text.
        unsafe { rdkafka::bindings::rd_kafka_brokers_add(client.native_ptr(), brokers.as_ptr()) };
    }

    /// The last error that a client met, in words, and whether only the operator can mend it.
    pub(super) fn last(&self) -> Option<(String, bool)> {
        let last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(code, text)| (text.clone(), is_for_the_operator(*code)))
    }

    /// Warns of `subject`, unless that was done lately.
    pub(super) fn warn(&self, subject: &str, text: &str) {
        if let Some(unsaid) = self.shared.said.may_say(subject) {
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
        let Some(unsaid) = self.shared.said.may_say(fac) else { return };
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
        if code == Code::AllBrokersDown {
            let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
            brokers.lost_at.get_or_insert_with(Instant::now);
        }
        let mut last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn who_has_lost_all_brokers_is_reminded_of_them_after_a_while_and_ever_more_seldom() {
        let (mut brokers, begun) = (Brokers::default(), Instant::now());
        assert!(!brokers.are_lost(begun + BY_ITSELF * 9), "nothing was lost");
        brokers.lost_at = Some(begun);
        assert!(!brokers.are_lost(begun + BY_ITSELF / 2));
        assert!(brokers.are_lost(begun + BY_ITSELF));
        assert!(!brokers.are_lost(begun + BY_ITSELF * 9), "once for each time");
        brokers.lost_at = Some(begun);
        assert!(!brokers.are_lost(begun + BY_ITSELF) && brokers.are_lost(begun + BY_ITSELF * 2));
    }

    #[test]
    fn the_reason_outlives_that_all_brokers_are_down() {
        let reports = Reports::default();
        reports.error(KafkaError::Global(RDKafkaErrorCode::Authentication), "wrong password");
        reports.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(reports.last(), Some(("wrong password; check sasl.username and sasl.password".to_owned(), true)));
    }
}
