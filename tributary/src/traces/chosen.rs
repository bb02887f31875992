//! Which requests are traced: so many a second, however many there are, for what a trace costs does not depend on how many
//! records its request has. It is decided before their spans are made, so that the others cost nothing.

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};
use std::num::NonZeroU32;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    layer::{self, Filter},
    registry::LookupSpan,
};
use tributary_backends::trace;

/// The span of a request.
const REQUEST: &str = "request";
/// That of many requests at once, and that of one of them in it.
const CHUNK: &str = "chunk";
const LAND: &str = "land";
/// Spans that are for log lines alone. That of a partition lasts as long as it is assigned: as the parent of all its chunks it
/// would make one endless trace. The other one names the batch, as the span around it does in a trace.
const OF_THE_LOG: [&str; 2] = ["partition", "unstored"];
/// Requests whose sender traces them, per second: he says so before anybody has looked at his key.
const SENDERS: u32 = 100;

/// Lets a request become a span as long as there is room for more in this second, all else of ours only within one that
/// did, and what lands records always: it is made for those that are traced.
pub(super) struct Chosen {
    ours: Room,
    senders: Room,
}

impl Chosen {
    /// At most so many requests a second whose sender does not trace them.
    pub(super) fn new(per_second: u32) -> Self {
        Self { ours: Room::of(per_second), senders: Room::of(SENDERS) }
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("tributary")
        && !OF_THE_LOG.contains(&metadata.name())
        && *metadata.level() <= LevelFilter::INFO
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Filter<S> for Chosen {
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_ours(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: &layer::Context<'_, S>) -> bool {
        is_ours(metadata)
            && match (metadata.name(), metadata.target()) {
                (REQUEST, trace::SENDERS) => self.senders.has_more(),
                (REQUEST, _) => self.ours.has_more(),
                (CHUNK | LAND, _) => true,
                _ => context.lookup_current().is_some(),
            }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }
}

/// Room for so many a second.
struct Room(Option<DefaultDirectRateLimiter>);

impl Room {
    fn of(per_second: u32) -> Self {
        Self(NonZeroU32::new(per_second).map(|most| RateLimiter::direct(Quota::per_second(most))))
    }

    fn has_more(&self) -> bool {
        self.0.as_ref().is_some_and(|room| room.check().is_ok())
    }
}

/// Of what has become a span, exports a chunk when it lands a request that is traced, for their spans lead to it; and all
/// else.
#[derive(Debug, Clone)]
pub(super) struct Exported;

impl ShouldSample for Exported {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if name == CHUNK && !attributes.iter().any(|one| one.key.as_str() == "traced") {
            let (attributes, trace_state) = (Vec::new(), TraceState::default());
            return SamplingResult { decision: SamplingDecision::Drop, attributes, trace_state };
        }
        Sampler::ParentBased(Box::new(Sampler::AlwaysOn)).should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use tracing::{info, info_span, span};
    use tracing_subscriber::{Layer, layer::SubscriberExt};

    /// Counts spans and events.
    #[derive(Clone, Default)]
    struct Counts(Arc<(AtomicUsize, AtomicUsize)>);

    impl<S: Subscriber> Layer<S> for Counts {
        fn on_new_span(&self, _: &span::Attributes<'_>, _: &span::Id, _: layer::Context<'_, S>) {
            self.0.0.fetch_add(1, Ordering::Relaxed);
        }

        fn on_event(&self, _: &tracing::Event<'_>, _: layer::Context<'_, S>) {
            self.0.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Spans and events that are seen of what happens.
    fn seen(per_second: u32, what: impl FnOnce()) -> (usize, usize) {
        let counts = Counts::default();
        let subscriber = tracing_subscriber::registry().with(counts.clone().with_filter(Chosen::new(per_second)));
        tracing::subscriber::with_default(subscriber, what);
        (counts.0.0.load(Ordering::Relaxed), counts.0.1.load(Ordering::Relaxed))
    }

    /// A slow machine may need more than a second for a thousand.
    fn about(most: usize) -> std::ops::Range<usize> {
        most..10 * most
    }

    #[test]
    fn a_flood_of_requests_is_traced_in_part_whoever_asks_for_it() {
        let ours = || (0..1_000).for_each(|_| drop(info_span!(target: trace::TARGET, "request")));
        let senders = || (0..1_000).for_each(|_| drop(info_span!(target: trace::SENDERS, "request")));
        assert!(about(20).contains(&seen(20, ours).0));
        assert_eq!(seen(0, ours).0, 0);
        assert!(about(100).contains(&seen(0, senders).0));
    }

    #[test]
    fn what_happens_is_seen_within_a_traced_request_alone() {
        let request = || {
            let _request = info_span!(target: trace::TARGET, "request").entered();
            let _check = info_span!(target: trace::TARGET, "check").entered();
            info_span!("unstored").in_scope(|| info!("something happened"));
            tracing::debug!("something else");
        };
        assert_eq!(seen(1, request), (2, 1));
        assert_eq!(seen(0, request), (0, 0));
    }

    #[test]
    fn a_partition_is_no_trace_and_a_chunk_is_one_of_its_own() {
        let chunk = || {
            let _partition = info_span!("partition").entered();
            let _chunk = info_span!("chunk").entered();
            drop(info_span!(target: trace::TARGET, parent: None, "land"));
        };
        assert_eq!(seen(0, chunk), (2, 0));
        let _elsewhere = info_span!(target: "hyper", "request");
    }
}
