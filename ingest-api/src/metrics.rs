//! What the API counts.

use crate::{pressure::lag::Standing, rejected::Rejected};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{future::Future, sync::atomic::AtomicU64, time::Duration};
use tokio::time::Instant;

/// All of them. Cloning gives a second handle to the same counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// `tributary_ingest_records_total{result}`.
    pub records: Family<RecordLabels, Counter>,
    /// Whose records are rejected or refused.
    rejected: Rejected,
    /// `tributary_ingest_batches_total`: batches answered with `202`, repeats not counted.
    pub batches: Counter,
    /// `tributary_ingest_body_bytes_total`: after decompression.
    pub body_bytes: Counter,
    /// `tributary_http_requests_total{route,method,status}`.
    pub requests: Family<RequestLabels, Counter>,
    /// `tributary_http_request_duration_seconds{route}`: from the request's head to the answer's.
    pub duration: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// `tributary_ingest_backend_duration_seconds{backend}`.
    pub backend: Family<BackendLabels, Histogram, fn() -> Histogram>,
    /// `tributary_http_requests_in_flight`: long polls among them.
    pub in_flight: Gauge,
    /// `tributary_http_connections`: open ones.
    pub connections: Gauge,
    /// `tributary_ingest_memory_bytes`: reserved of the memory budget.
    pub memory: Gauge,
    /// `tributary_ingest_memory_limit_bytes`: that budget.
    pub memory_limit: Gauge,
    /// How far the lanes are behind.
    pub lanes: LaneMetrics,
}

/// What the door thinks of each lane. How far the lanes are behind in fact is told by `tributary_lag_*`.
#[derive(Debug, Clone)]
pub struct LaneMetrics {
    /// `tributary_ingest_lag_seconds{lane}`: until a record that is accepted now is in the lake.
    seconds: Family<LaneLabels, Gauge<f64, AtomicU64>>,
    /// `tributary_ingest_lane_refusing{lane}`: 1 while senders get 429.
    refusing: Family<LaneLabels, Gauge>,
    /// `tributary_ingest_behind_refusals_total`: requests answered so, those of workspaces that fill a lane among them.
    pub refused: Counter,
}

/// Labels of what is told of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the names say it")]
pub struct LaneLabels {
    pub lane: u32,
}

impl LaneMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { seconds: Family::default(), refusing: Family::default(), refused: Counter::default() };
        let m = metrics.clone();
        let help = "Time after which a record accepted now is in the lake";
        registry.register_with_unit("tributary_ingest_lag", help, Unit::Seconds, m.seconds);
        registry.register("tributary_ingest_lane_refusing", "Whether a lane's senders get 429", m.refusing);
        let help = "Requests answered with 429 because the lake was behind";
        registry.register("tributary_ingest_behind_refusals", help, m.refused);
        metrics
    }

    /// Shows how a lane stands.
    pub fn lane(&self, lane: u32, standing: &Standing) {
        let labels = LaneLabels { lane };
        self.seconds.get_or_create(&labels).set(standing.behind.as_secs_f64());
        self.refusing.get_or_create(&labels).set(standing.refused.is_some().into());
    }
}

/// What became of a record at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum RecordResult {
    /// In the log.
    #[allow(non_camel_case_types, reason = "label values are lower case")]
    accepted,
    /// On the topic `rejects`.
    #[allow(non_camel_case_types, reason = "label values are lower case")]
    rejected,
    /// Of a body in which every record was bad: answered with 400, kept nowhere.
    #[allow(non_camel_case_types, reason = "label values are lower case")]
    refused,
}

/// Labels of `tributary_ingest_records_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RecordLabels {
    pub result: RecordResult,
}

/// Labels of `tributary_http_requests_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's pattern, never the path, so that senders cannot grow the number of series.
    pub route: String,
    /// `GET`, `POST`, `HEAD` or `other`.
    pub method: &'static str,
    /// The status code.
    pub status: u16,
}

/// Labels of `tributary_http_request_duration_seconds`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RouteLabels {
    pub route: String,
}

/// What a batch waits for before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Backend {
    /// Its row is made durable.
    #[allow(non_camel_case_types, reason = "label values are lower case")]
    tables,
    /// Its messages are.
    #[allow(non_camel_case_types, reason = "label values are lower case")]
    log,
}

/// Labels of `tributary_ingest_backend_duration_seconds`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the names say it")]
pub struct BackendLabels {
    pub backend: Backend,
}

/// Milliseconds to the longest poll.
fn duration_buckets() -> Histogram {
    Histogram::new([0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0])
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            records: Family::default(),
            rejected: Rejected::default(),
            batches: Counter::default(),
            body_bytes: Counter::default(),
            requests: Family::default(),
            duration: Family::new_with_constructor(duration_buckets as fn() -> Histogram),
            backend: Family::new_with_constructor(duration_buckets as fn() -> Histogram),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            memory: Gauge::default(),
            memory_limit: Gauge::default(),
            lanes: LaneMetrics::register(registry),
        };
        let m = metrics.clone();
        registry.register("tributary_ingest_records", "Records by what became of them at the door", m.records);
        registry.register_collector(Box::new(m.rejected));
        registry.register("tributary_ingest_batches", "Batches accepted", m.batches);
        registry.register("tributary_ingest_body_bytes", "Bytes of accepted bodies, decompressed", m.body_bytes);
        registry.register("tributary_http_requests", "Requests answered", m.requests);
        registry.register_with_unit("tributary_http_request_duration", "Time to answer", Unit::Seconds, m.duration);
        let help = "Time until a backend had made its part of a batch durable, or had failed";
        registry.register_with_unit("tributary_ingest_backend_duration", help, Unit::Seconds, m.backend);
        registry.register("tributary_http_requests_in_flight", "Requests being answered", m.in_flight);
        registry.register("tributary_http_connections", "Open connections", m.connections);
        registry.register("tributary_ingest_memory_bytes", "Bytes reserved of the memory budget", m.memory);
        registry.register("tributary_ingest_memory_limit_bytes", "The memory budget", m.memory_limit);
        for result in [RecordResult::accepted, RecordResult::rejected, RecordResult::refused] {
            // A counter that is zero must be seen, or what comes first is missing in a rate over it.
            metrics.count_records(result, 0);
        }
        metrics
    }

    /// Counts records.
    pub fn count_records(&self, result: RecordResult, n: usize) {
        self.records.get_or_create(&RecordLabels { result }).inc_by(n as u64);
    }

    /// Counts records of a workspace that were not taken.
    pub fn count_bad(&self, result: RecordResult, workspace: &str, n: usize) {
        self.count_records(result, n);
        self.rejected.count(workspace, n);
    }

    /// Does something on a backend, and counts how long that took, however it ends.
    pub async fn timed<T>(&self, backend: Backend, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = work.await;
        self.backend.get_or_create(&BackendLabels { backend }).observe(started.elapsed().as_secs_f64());
        done
    }

    /// Counts a request that was answered.
    pub fn count_request(&self, route: &str, method: &axum::http::Method, status: u16, took: Duration) {
        let method = match method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "HEAD" => "HEAD",
            _ => "other",
        };
        let labels = RequestLabels { route: route.to_owned(), method, status };
        self.requests.get_or_create(&labels).inc();
        self.duration.get_or_create(&RouteLabels { route: route.to_owned() }).observe(took.as_secs_f64());
    }
}

/// Counts one thing on a gauge while it exists.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// Counts it.
    pub fn up(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
