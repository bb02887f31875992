//! Between the spans that end and the collector: a queue that loses nothing without a word.

use opentelemetry::Context;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tributary_backends::said::Said;

/// OpenTelemetry's name and default for how many spans may wait.
const MOST: (&str, usize) = ("OTEL_BSP_MAX_QUEUE_SIZE", 2_048);

/// OpenTelemetry's queue, which drops what it has no room for and tells nobody. Here spans are counted before they come to
/// it, and what is too many is dropped and said.
#[derive(Debug)]
pub(super) struct Queue {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    most: usize,
    said: Said,
}

impl Queue {
    /// In front of the `exporter` to `endpoint`, as large as the environment says.
    pub(super) fn new(exporter: impl SpanExporter + 'static, endpoint: String) -> Self {
        let (name, default) = MOST;
        let most = std::env::var(name).ok().and_then(|most| most.parse().ok()).unwrap_or(default);
        let waiting = Arc::default();
        let exporter = Told { exporter, endpoint, waiting: Arc::clone(&waiting), said: Said::default() };
        let config = BatchConfigBuilder::default().with_max_queue_size(most).build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        Self { batches, waiting, most, said: Said::default() }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.most {
            return self.batches.on_end(span);
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Some(unsaid) = self.said.may_say("full") {
            let waiting = self.most;
            tracing::warn!(waiting, unsaid, "spans end faster than the collector takes them: some are dropped");
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Says in the log when spans cannot be exported, once a minute.
#[derive(Debug)]
struct Told<E> {
    exporter: E,
    endpoint: String,
    waiting: Arc<AtomicUsize>,
    said: Said,
}

impl<E: SpanExporter> SpanExporter for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let outcome = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        if let Err(error) = &outcome
            && let Some(unsaid) = self.said.may_say("export")
        {
            let endpoint = &self.endpoint;
            tracing::warn!(%error, %endpoint, spans, unsaid, "the collector does not take traces: these are dropped");
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
