//! For traces: a chunk as each of the requests sees it whose records it lands.

use std::collections::HashSet;
use tracing::{Span, field::Empty};
use tributary_backends::{
    log::{Message, Topic},
    trace,
};

/// Spans for so many requests of a chunk at most; a lane that is behind lands thousands at once.
const MOST: usize = 256;

/// A span in the trace of each request whose last record for this lane is in the chunk, from the moment at which the chunk is
/// there until its offsets are committed. A span that ends before it is [`Self::done`] says that the chunk was given up, and
/// another owner lands it again.
pub(crate) struct Landings(Vec<Span>);

impl Landings {
    pub(crate) fn of(messages: &[Message], lane: u32, chunk: &Span) -> Self {
        let mut seen = HashSet::new();
        let traced = messages.iter().filter_map(|message| Some((message.offset, message.trace.as_ref()?)));
        let spans = traced.filter(|(_, trace)| seen.insert(trace.as_str())).take(MOST).map(|(offset, trace)| {
            let span = tracing::info_span!(
                target: trace::TARGET,
                parent: None,
                "land",
                otel.kind = "consumer",
                messaging.destination.name = Topic::Records.name(),
                messaging.destination.partition.id = i64::from(lane),
                messaging.kafka.offset = offset,
                committed = Empty,
            );
            trace.adopt(&span);
            trace::link(&span, chunk);
            span
        });
        Self(spans.collect())
    }

    /// All of the chunk can be seen in the lake, and nobody will land it again.
    pub(crate) fn done(self) {
        for span in self.0 {
            span.record("committed", true);
        }
    }
}
