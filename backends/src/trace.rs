//! One trace from a request to the commit of its records, also when these are the work of two processes.
//!
//! Spans are those of the crate `tracing`. Where the program exports them to OpenTelemetry, each has a W3C trace context;
//! [`RecordLog::append`](crate::log::RecordLog::append) puts that of the span in which it is called on the last record for
//! each lane, and who reads that message goes on with the trace. Where nothing is exported, and for what is not sampled,
//! nothing of this happens.

use crate::log::{Append, Topic};
use opentelemetry::{
    Context, global,
    propagation::{Extractor, Injector},
    trace::TraceContextExt,
};
use std::{collections::HashSet, sync::Arc};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Target of the spans that are made for traces alone. Log lines do not carry them.
pub const TARGET: &str = "tributary_trace";
/// The same of those that a sender has asked for.
pub const SENDERS: &str = "tributary_trace::senders";
/// The header that carries a trace context, of HTTP as of Kafka.
pub const HEADER: &str = "traceparent";
/// The same, as librdkafka wants it.
#[cfg(feature = "kafka")]
pub(crate) const KAFKA_HEADER: &std::ffi::CStr = c"traceparent";
/// Bytes of a [`TraceParent`].
pub const TRACE_PARENT_BYTES: usize = 55;

/// A span of some process, as [`HEADER`] says it: `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(Arc<str>);

impl TraceParent {
    /// The span that this is called in; `None` when nobody will see it.
    pub fn current() -> Option<Self> {
        let mut carrier = Carrier(None);
        let context = Span::current().context();
        if context.span().span_context().is_sampled() {
            global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut carrier));
        }
        Self::read(carrier.0?.as_bytes())
    }

    /// What a header says; `None` when it is of another form. Whether it means something is seen when it is used.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        (text.len() == TRACE_PARENT_BYTES).then(|| Self(text.into()))
    }

    /// As the header says it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the trace is wanted; `None` when this means nothing.
    pub fn is_sampled(&self) -> Option<bool> {
        let context = self.context();
        let span = context.span();
        span.span_context().is_valid().then(|| span.span_context().is_sampled())
    }

    fn context(&self) -> Context {
        let carrier = Carrier(Some(self.0.to_string()));
        global::get_text_map_propagator(|propagator| propagator.extract_with_context(&Context::new(), &carrier))
    }

    /// Makes a span that nobody has entered yet a child of this one; does nothing when it means nothing.
    pub fn adopt(&self, child: &Span) {
        let context = self.context();
        if context.span().span_context().is_valid() {
            // Fails only where no layer exports, or the span has begun.
            let _ = child.set_parent(context);
        }
    }
}

/// Lets `span` name `other` as what it belongs with.
pub fn link(span: &Span, other: &Span) {
    span.add_link(other.context().span().span_context().clone());
}

/// Of each message whether it is to carry `trace`: the last record for each lane. Nothing else is followed by its readers.
pub(crate) fn carried(trace: Option<&TraceParent>, messages: &[Append]) -> Vec<bool> {
    let mut carried = vec![false; messages.len()];
    if trace.is_some() {
        let mut seen = HashSet::new();
        for (carries, message) in carried.iter_mut().zip(messages).rev() {
            *carries = message.topic == Topic::Records && seen.insert(message.partition);
        }
    }
    carried
}

/// One header.
struct Carrier(Option<String>);

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if key == HEADER {
            self.0 = Some(value);
        }
    }
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == HEADER)
    }

    fn keys(&self) -> Vec<&str> {
        vec![HEADER]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn the_last_record_for_each_lane_carries_it() {
        let message = |topic, partition| Append { topic, partition, key: Bytes::new(), value: Bytes::new() };
        let messages = [(Topic::Records, 0), (Topic::Records, 1), (Topic::Records, 0), (Topic::Rejects, 0)]
            .map(|(t, p)| message(t, p));
        let trace = TraceParent::read(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert!(trace.is_some());
        assert_eq!(carried(trace.as_ref(), &messages), [false, true, true, false]);
        assert_eq!(carried(None, &messages), [false; 4]);
    }

    #[test]
    fn without_anybody_who_exports_there_is_nothing() {
        let span = tracing::info_span!("alone");
        let _in = span.enter();
        assert_eq!(TraceParent::current(), None);
        for hostile in ["", "00-", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-zz", &"é".repeat(27)] {
            if let Some(trace) = TraceParent::read(hostile.as_bytes()) {
                trace.adopt(&span);
            }
        }
    }
}
