//! Which requests are traced: so many a second, however many there are, for what a trace costs does not depend on how many
//! records its request has.

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{ParentBasedSampler, Sampler, SamplingDecision, SamplingResult, ShouldSample};
use std::{num::NonZeroU32, sync::Arc};

/// The span of many requests at once.
const CHUNK: &str = "chunk";
/// Requests whose sender traces them, per second: he says so before anybody has looked at his key.
const SENDERS: u32 = 100;

/// Chooses a chunk when it lands a request that is traced, for their spans lead to it; a request as long as there is room
/// for more in this second; all else with its request, also when that was another process's.
#[derive(Debug, Clone)]
pub(super) struct Chosen(ParentBasedSampler);

impl Chosen {
    /// At most so many requests a second whose sender does not trace them.
    pub(super) fn new(per_second: u32) -> Self {
        Self(Sampler::parent_based(Room::of(per_second)).with_remote_parent_sampled(Room::of(SENDERS)))
    }
}

impl ShouldSample for Chosen {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if name == CHUNK {
            return decided(attributes.iter().any(|one| one.key.as_str() == "traced"));
        }
        self.0.should_sample(parent, trace, name, kind, attributes, links)
    }
}

/// Room for so many requests a second.
#[derive(Debug, Clone)]
struct Room(Option<Arc<DefaultDirectRateLimiter>>);

impl Room {
    fn of(per_second: u32) -> Box<dyn ShouldSample> {
        let limiter = NonZeroU32::new(per_second).map(|most| Arc::new(RateLimiter::direct(Quota::per_second(most))));
        Box::new(Self(limiter))
    }
}

impl ShouldSample for Room {
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: TraceId,
        _: &str,
        kind: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        // What is not a request goes on with one.
        decided(*kind != SpanKind::Server || self.0.as_ref().is_some_and(|room| room.check().is_ok()))
    }
}

fn decided(traced: bool) -> SamplingResult {
    SamplingResult {
        decision: if traced { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop },
        attributes: Vec::new(),
        trace_state: TraceState::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags};

    fn traced(chosen: &Chosen, parent: Option<&Context>, name: &str, kind: SpanKind) -> bool {
        let result = chosen.should_sample(parent, TraceId::from(7), name, &kind, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    fn parent(flags: TraceFlags, remote: bool) -> Context {
        let span = SpanContext::new(TraceId::from(7), SpanId::from(8), flags, remote, TraceState::default());
        Context::new().with_remote_span_context(span)
    }

    fn requests(chosen: &Chosen, parent: Option<&Context>) -> usize {
        (0..1_000).filter(|_| traced(chosen, parent, "POST /api/v1/ingest", SpanKind::Server)).count()
    }

    #[test]
    fn a_flood_of_requests_is_traced_in_part_whoever_asks_for_it() {
        let chosen = Chosen::new(20);
        let senders = parent(TraceFlags::SAMPLED, true);
        // A slow machine may need more than a second for it.
        let within = |count: usize, most: usize| (most..10 * most).contains(&count);
        assert!(within(requests(&chosen, None), 20));
        assert!(within(requests(&chosen, Some(&senders)), 100));
        assert_eq!(requests(&chosen, Some(&parent(TraceFlags::default(), true))), 0);
        assert_eq!(requests(&Chosen::new(0), None), 0);
        assert!(requests(&Chosen::new(0), Some(&senders)) > 0);
    }

    #[test]
    fn what_belongs_to_a_traced_request_is_traced_however_many_there_are() {
        let chosen = Chosen::new(1);
        for (remote, name, kind) in [(true, "land", SpanKind::Consumer), (false, "append", SpanKind::Producer)] {
            let parents = [parent(TraceFlags::SAMPLED, remote), parent(TraceFlags::default(), remote)];
            for _ in 0..1_000 {
                assert!(traced(&chosen, Some(&parents[0]), name, kind.clone()));
                assert!(!traced(&chosen, Some(&parents[1]), name, kind.clone()));
            }
        }
        assert!(!traced(&chosen, None, CHUNK, SpanKind::Internal));
    }
}
