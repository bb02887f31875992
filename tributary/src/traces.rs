//! Traces over OTLP, where they are wanted: spans become OpenTelemetry's and go to a collector, in batches from a thread of
//! their own. A collector that does not answer costs spans, never a record.

mod chosen;
mod queue;

use crate::lag::watch::process_name;
use anyhow::{Context, ensure};
use chosen::{Chosen, Exported};
use clap::Args;
use opentelemetry::{Key, KeyValue, global, trace::TracerProvider};
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use queue::Queue;
use std::time::Duration;
use tracing::Subscriber;
use tracing_subscriber::{Layer, registry::LookupSpan};
use url::Url;

/// What the last spans may take at the end.
const FLUSHED_WITHIN: Duration = Duration::from_secs(2);

/// Where traces go.
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// Send traces to this OpenTelemetry collector, as OTLP over HTTP: http://collector:4318. The other OTEL_ variables of
    /// exporters count too, OTEL_EXPORTER_OTLP_HEADERS for one
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp: Option<String>,
    /// Requests that are traced, per second at most, in each process. A request that comes with a `traceparent` is traced
    /// if that says so, up to a hundred a second
    #[arg(long, env = "TRIBUTARY_TRACES_PER_SECOND", value_name = "N", default_value_t = 2)]
    pub traces_per_second: u32,
}

/// What exports; dropping it sends what is left.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    per_second: u32,
}

impl Traces {
    /// Traces of the command `role`; `None` when nobody wants them. To be called outside any runtime.
    ///
    /// # Errors
    /// The collector's address is no place that HTTP can reach.
    pub fn start(args: &TraceArgs, role: &'static str) -> anyhow::Result<Option<Self>> {
        // An empty variable is as good as none, by OpenTelemetry's rules.
        let Some(base) = args.otlp.as_deref().filter(|base| !base.is_empty()) else { return Ok(None) };
        let base: Url = base.parse().with_context(|| format!("--otlp {base}: not a URL"))?;
        ensure!(
            base.username().is_empty() && base.password().is_none(),
            "--otlp: credentials belong into OTEL_EXPORTER_OTLP_HEADERS"
        );
        ensure!(matches!(base.scheme(), "http" | "https"), "--otlp {base}: an http or https URL, mostly of port 4318");
        let endpoint = format!("{}/v1/traces", base.as_str().trim_end_matches('/'));
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter = exporter.with_endpoint(&endpoint).build().with_context(|| format!("--otlp {base}"))?;
        let given = Resource::builder().build();
        let mut resource = Resource::builder().with_attributes([
            KeyValue::new("tributary.role", role),
            KeyValue::new("service.instance.id", process_name()),
        ]);
        if given.get(&Key::new("service.name")).is_none_or(|name| name.as_str().starts_with("unknown_service")) {
            resource = resource.with_service_name("tributary");
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_sampler(Exported)
            .with_span_processor(Queue::new(exporter, endpoint));
        global::set_text_map_propagator(TraceContextPropagator::new());
        Ok(Some(Self { provider: provider.build(), per_second: args.traces_per_second }))
    }

    /// What turns spans into OpenTelemetry's.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let layer = tracing_opentelemetry::layer().with_tracer(self.provider.tracer("tributary"));
        let layer = layer.with_location(false).with_threads(false).with_tracked_inactivity(false).with_target(false);
        // Nothing here asks OpenTelemetry where it is: spans know their parents by themselves.
        let layer = layer.with_context_activation(false);
        layer.with_filter(Chosen::new(self.per_second))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // The exporter has said what went wrong.
        let _ = self.provider.shutdown_with_timeout(FLUSHED_WITHIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(otlp: &str) -> TraceArgs {
        TraceArgs { otlp: Some(otlp.to_owned()), traces_per_second: 2 }
    }

    #[test]
    fn nobody_who_does_not_ask_is_traced_and_only_http_is_spoken() {
        assert!(Traces::start(&TraceArgs { otlp: None, traces_per_second: 2 }, "up").unwrap().is_none());
        let refused = Traces::start(&args("grpc://collector:4317"), "up").unwrap_err().to_string();
        assert!(refused.contains("--otlp grpc://collector:4317"), "{refused}");
        assert!(Traces::start(&args(""), "up").unwrap().is_none());
        let secret = Traces::start(&args("http://me:secret@collector:4318"), "up").unwrap_err().to_string();
        assert!(secret.contains("OTEL_EXPORTER_OTLP_HEADERS") && !secret.contains("secret"), "{secret}");
    }
}
