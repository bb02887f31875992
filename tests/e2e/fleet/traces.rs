//! One trace over two processes: its context goes through Kafka.

use super::{Environment, Fleet};
use crate::traces::{BEFORE, Collector, LANES, SOON, assert_whole, forty, send};

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_through_kafka() {
    let collector = Collector::start().await;
    let mut fleet = Fleet::new().await;
    let mut environment: Environment = SOON.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    environment.push(("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()));
    let serve = fleet.start("serve", "127.0.0.1:0", environment.clone()).await;
    let _pipeline = fleet.start("pipeline", "", environment).await;
    let (trace, parent) = ("7bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let traceparent = format!("00-{trace}-{parent}-01");
    let listen = serve.listen.expect("an API");
    let batch = send(listen, &fleet.key, &traceparent, forty()).await.expect("an answer");
    fleet.clients([&serve])[0].complete(&batch).await;
    let spans = collector.trace(trace, ("land", LANES), &BEFORE).await;
    assert_whole(&spans, parent, &batch);
    for span in &spans {
        let role = if span.name == "land" { "pipeline" } else { "serve" };
        assert_eq!(span.says["tributary.role"], role, "{span:?}");
    }
}
