//! Traces: from a request to the commit of its records, over OTLP, to a collector that speaks the real protocol.

use crate::{harness::Home, model::record, telemetry};
use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Lanes that [`forty`] records go to.
pub const LANES: usize = 4;
/// Spans come soon, and so many lanes have something to do.
pub const SOON: [(&str, &str); 2] = [("OTEL_BSP_SCHEDULE_DELAY", "50"), ("TRIBUTARY_SPREAD", "4")];

/// Spans of a request before its records land.
pub const BEFORE: [&str; 4] = ["POST /api/v1/ingest", "check", "batch", "append"];

/// A span as the collector got it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub begun: u64,
    pub ended: u64,
    /// Of its own and of its process.
    pub says: BTreeMap<String, String>,
    /// Names of its own.
    pub fields: BTreeSet<String>,
    /// Spans of other traces that it belongs with.
    pub links: Vec<String>,
}

/// What listens for spans.
pub struct Collector {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Collector {
    pub async fn start() -> Self {
        let seen = Arc::default();
        let app = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&seen));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, seen }
    }

    /// What a process is given to export to it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().expect("spans").clone()
    }

    /// The spans of a trace, once it has so many of that name, and one of each of the others.
    pub async fn trace(&self, trace: &str, (name, count): (&str, usize), others: &[&str]) -> Vec<Seen> {
        let begun = Instant::now();
        loop {
            let spans: Vec<_> = self.all().into_iter().filter(|span| span.trace == trace).collect();
            let is_there = |kind: &str| spans.iter().any(|span| span.name == kind);
            if others.iter().all(|other| is_there(other))
                && spans.iter().filter(|span| span.name == name).count() >= count
            {
                return spans;
            }
            assert!(begun.elapsed() < PATIENCE, "{count} × {name} in {spans:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn take(State(seen): State<Arc<Mutex<Vec<Seen>>>>, body: Bytes) -> Bytes {
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for process in request.resource_spans {
        let own = said(process.resource.map(|resource| resource.attributes).unwrap_or_default());
        for span in process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let (mut says, attributes) = (own.clone(), said(span.attributes));
            let fields = attributes.keys().cloned().collect();
            says.extend(attributes);
            seen.lock().expect("spans").push(Seen {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                begun: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
                says,
                fields,
                links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
            });
        }
    }
    Bytes::new()
}

fn said(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::BoolValue(is) => is.to_string(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().filter_map(|one| Some((one.key, text(one.value?.value?)))).collect()
}

/// Sends records in the name of a sender who is traced; the batch's id.
pub async fn send(listen: SocketAddr, key: &str, traceparent: &str, body: String) -> Option<String> {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = client.post(format!("http://{listen}/api/v1/ingest")).header("x-api-key", key);
    let request = request.header("content-type", "application/x-ndjson").header("traceparent", traceparent);
    let answer = request.body(body).send().await.ok()?;
    assert_eq!(answer.status(), 202);
    let answer: serde_json::Value = answer.json().await.expect("JSON");
    Some(answer["batchId"].as_str().expect("batchId").to_owned())
}

/// Forty records, for all lanes.
pub fn forty() -> String {
    (0..40).map(|n| record(&format!("traced-{n}"), 1_600_000_000 + n, "{}") + "\n").collect()
}

/// What a trace must tell, from the sender's span `parent` to the commit in each of the lanes.
pub fn assert_whole(spans: &[Seen], parent: &str, batch_id: &str) {
    let one = |name: &str| {
        let mut all = spans.iter().filter(|span| span.name == name);
        let one = all.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
        assert!(all.next().is_none(), "two of {name}: {spans:#?}");
        one
    };
    let request = one("POST /api/v1/ingest");
    assert_eq!((request.parent.as_str(), request.says["http.response.status_code"].as_str()), (parent, "202"));
    let (check, batch, append) = (one("check"), one("batch"), one("append"));
    assert_eq!([&check.parent, &batch.parent, &append.parent], [&request.id, &request.id, &batch.id]);
    assert_eq!(batch.says["batch_id"], batch_id);
    let landings: Vec<_> = spans.iter().filter(|span| span.name == "land").collect();
    let partitions: BTreeSet<_> =
        landings.iter().map(|land| &land.says["messaging.destination.partition.id"]).collect();
    assert_eq!((landings.len(), partitions.len()), (LANES, LANES), "{landings:#?}");
    for land in landings {
        assert_eq!((land.parent.as_str(), land.says["committed"].as_str()), (append.id.as_str(), "true"));
        assert_eq!(land.links.len(), 1, "the chunk that it was a part of");
        assert!(land.begun >= append.begun && land.ended > land.begun, "{land:?}");
    }
    assert_eq!(spans.len(), 4 + LANES, "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_from_a_request_to_the_commit() {
    let collector = Collector::start().await;
    // Nobody but who says so is traced.
    let mut home = Home::new().flags(&["--otlp", &collector.url(), "--traces-per-second", "0"]);
    let up = home.try_start(&SOON).expect("it starts");
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let traceparent = format!("00-{trace}-{parent}-01");
    let batch = send(up.listen, home.key(), &traceparent, forty()).await.expect("an answer");
    up.http.complete(&batch).await;
    let spans = collector.trace(trace, ("land", LANES), &BEFORE).await;
    assert_whole(&spans, parent, &batch);
    assert!(spans.iter().all(|span| span.says["service.name"] == "tributary" && span.says["tributary.role"] == "up"));

    // A sender who says that it is not traced is not, and one who says nonsense is as one who says nothing.
    let (unsampled, nonsense) = ("5bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000");
    for header in [format!("00-{unsampled}-{parent}-00"), format!("00-{nonsense}-{parent}-01"), "\t;--".to_owned()] {
        let batch = send(up.listen, home.key(), &header, forty().replace("{}", "{\"n\":2}")).await.expect("an answer");
        up.http.complete(&batch).await;
    }
    assert!(up.terminate().await.0.success());
    let all = collector.all();
    assert!(all.iter().all(|span| span.trace != unsampled && span.trace != nonsense), "{all:#?}");
    // What was in the queue went out at the end: all chunks that the trace leads to, and none that landed only others.
    let chunks: BTreeSet<_> = all.iter().filter(|span| span.name == "chunk").map(|span| &span.id).collect();
    let linked: BTreeSet<_> = spans.iter().flat_map(|span| &span.links).collect();
    assert_eq!(chunks, linked);
    assert_eq!(all.len(), spans.len() + chunks.len(), "{all:#?}");
    // Each has the fields of the document, and no other.
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    for span in all {
        let name = if span.name.starts_with("POST ") { "request".to_owned() } else { span.name };
        found.entry(name).or_default().extend(span.fields);
    }
    assert_eq!(found, telemetry::exported_spans());
}

/// The context is in the log: whoever lands what a dead process accepted goes on with its trace.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_after_a_kill() {
    let collector = Collector::start().await;
    let mut home = Home::new().flags(&["--otlp", &collector.url()]);
    // The key of the first start.
    assert!(home.try_start(&SOON).expect("it starts").terminate().await.0.success());
    let mut up = home.try_start(&[SOON[1], ("TRIBUTARY_CRASH_AT", "accept.before_reply")]).expect("it starts");
    let (trace, parent) = ("6bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let sent = send(up.listen, home.key(), &format!("00-{trace}-{parent}-01"), forty()).await;
    assert_eq!(sent, None, "it died before it could answer");
    up.ended().await;
    let up = home.try_start(&SOON).expect("it starts again");
    up.until_landed().await;
    let spans = collector.trace(trace, ("land", LANES), &[]).await;
    let done = || spans.iter().filter(|span| span.name == "land" && span.says.contains_key("committed"));
    let lanes: BTreeSet<_> = done().map(|span| &span.says["messaging.destination.partition.id"]).collect();
    let parents: BTreeSet<_> = done().map(|span| &span.parent).collect();
    assert_eq!((lanes.len(), parents.len()), (LANES, 1), "{spans:#?}");
}

/// A collector that is not there costs spans, and is said once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_stops_nothing() {
    // A port where nobody listens: bound, and not listened to, until the end.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    stops_nothing(socket.local_addr().expect("an address"), &["the collector does not take traces"]).await;
}

/// One that takes what comes and never says a word costs no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_stops_nothing() {
    // The system takes connections for it, which nobody ever looks at.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let full = "spans end faster than the collector takes them";
    stops_nothing(listener.local_addr().expect("an address"), &["the collector does not take traces", full]).await;
}

/// Each of the `warnings` is said once.
async fn stops_nothing(collector: SocketAddr, warnings: &[&str]) {
    let dead = format!("http://{collector}");
    let mut home = Home::new().flags(&["--otlp", &dead]);
    let limits = [("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"), ("OTEL_BSP_MAX_QUEUE_SIZE", "8")];
    let up = home.try_start(&[&SOON[..], &limits].concat()).expect("it starts");
    for n in 0..5 {
        up.http.land(forty().replace("{}", &format!("{{\"n\":{n}}}"))).await;
    }
    let begun = Instant::now();
    while !warnings.iter().all(|warning| home.log().contains(warning)) {
        assert!(begun.elapsed() < PATIENCE, "{}", home.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, took) = up.terminate().await;
    assert!(status.success() && took < Duration::from_secs(10), "{status:?} after {took:?}");
    for warning in warnings {
        let lines: Vec<_> = home.log().lines().filter(|line| line.contains(warning)).map(str::to_owned).collect();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].contains(&dead) || lines[0].contains("waiting"), "{lines:#?}");
    }
}
