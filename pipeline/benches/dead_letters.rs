//! The list of dead letters as it grows: how long each way of asking takes, and how much memory.
//!
//! `cargo bench -p tributary-pipeline --bench dead_letters -- 50000`. Of ten letters five are cut short, four are
//! of a schema that nobody knows, and one is a whole record.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, not a library")]

use std::{sync::Arc, time::Instant};
use tributary_backends::{
    log::{Append, RecordLog, Topic, embedded},
    tables,
    world::{SystemWorld, World},
};
use tributary_pipeline::dead_letters::{Bounds, Deed, Fate, Filter, Handling, Letter, handle, list};
use tributary_schemas::{
    frame::{DeadLetter, Frame, Stamp, encode_record},
    identity::Identity,
    record,
};

/// Letters to a batch.
const BATCH: u64 = 1_000;

/// The key and the frame of a record.
fn record(n: u64) -> (Identity, Vec<u8>) {
    let json = format!(
        r#"{{"_type":"message","_schema_version":"1.0.0","_event_at":"2024-05-01T10:00:00Z","_vendor_ids":{{"id":"{n}"}},
        "_product_id":"p","_project_id":"q","data":{{"text":"{}"}}}}"#,
        "lorem ipsum ".repeat(40)
    );
    let record = record::parse(json.as_bytes()).unwrap();
    let identity = Identity::of(&record);
    let stamp = Stamp {
        workspace: ["acme", "globex"][usize::from(n.is_multiple_of(10))],
        source: "bench",
        batch_id: &batch(n / BATCH),
        record_index: u32::try_from(n % BATCH).unwrap(),
        received_at: 0,
        identity,
        lanes_in_batch: None,
    };
    let mut frame = Vec::new();
    encode_record(&stamp, &record, &mut frame);
    (identity, frame)
}

fn batch(n: u64) -> String {
    format!("0198c0de-0000-7000-8000-{n:012}")
}

fn letter(n: u64) -> Append {
    let (identity, mut payload) = record(n);
    match n % 10 {
        0 => {}
        1 | 3 | 5 | 7 | 9 => payload.truncate(payload.len() / 2),
        _ => payload[2] ^= 1,
    }
    let letter = DeadLetter {
        topic: "records".to_owned(),
        partition: 0,
        offset: i64::try_from(n).unwrap(),
        stage: "decode".to_owned(),
        reason: ["unknown schema", "it ends too early"][usize::from(!n.is_multiple_of(2))].to_owned(),
        at: i64::try_from(n).unwrap(),
        key: identity.0.to_vec(),
        payload,
    };
    let mut value = Vec::new();
    letter.encode(&mut value);
    Append { topic: Topic::DeadLetters, partition: 0, key: letter.key.into(), value: value.into() }
}

/// A line of `/proc/self/status`, in MB.
fn memory(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    found.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// How long it takes, and how much more memory than before.
async fn measure<T>(what: &str, work: impl Future<Output = T>) -> T {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, began) = (memory("VmRSS:"), Instant::now());
    let done = work.await;
    let (took, more) = (began.elapsed().as_secs_f64(), memory("VmHWM:") - before);
    println!("  {what:<28} {took:7.2} s  {more:6.1} MB more");
    done
}

async fn listed(log: &dyn RecordLog, what: &str, bounds: (bool, usize), filter: Filter) {
    let (handled, limit) = bounds;
    let bounds = Bounds { handled, limit, before: None };
    let listing = measure(what, list(log, &bounds, &filter)).await.unwrap();
    assert!(!listing.letters.is_empty() && listing.letters.len() <= limit);
}

#[tokio::main]
async fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![50_000] } else { sizes };
    let dir = tempfile::tempdir().unwrap();
    let tables = tables::embedded::open(&dir.path().join("tables")).unwrap();
    let log = embedded::open(&dir.path().join("log"), embedded::Options::default(), Arc::new(SystemWorld)).unwrap();
    let mut letters = 0;
    for size in sizes {
        while letters < size {
            log.append((letters..letters + BATCH).map(letter).collect()).await.unwrap();
            letters += BATCH;
        }
        println!("{letters} letters, {:.0} MB resident", memory("VmRSS:"));
        let late = i64::try_from(letters - letters / 100).unwrap();
        let (open, all, any) = (false, true, Filter::default());
        listed(&*log, "the newest 100", (open, 100), any.clone()).await;
        listed(&*log, "the newest 1,000", (open, 1_000), any.clone()).await;
        let newest = Filter { since: Some(late), ..any.clone() };
        listed(&*log, "the last hundredth", (open, 100), newest.clone()).await;
        listed(&*log, "of a reason", (open, 100), Filter { matching: Some("early".into()), ..any.clone() }).await;
        listed(&*log, "of a workspace", (open, 100), Filter { workspace: Some("globex".into()), ..any.clone() }).await;
        let batch_id = Some(batch(letters / BATCH / 2));
        listed(&*log, "of a batch", (open, 100), Filter { batch_id, ..any.clone() }).await;
        let discard = Handling {
            deed: Deed::Discarded,
            by: "bench".to_owned(),
            reason: "measured".to_owned(),
            dry_run: false,
            overwrite: false,
        };
        let backends = (&*log, &*tables, &SystemWorld as &dyn World);
        let mut tell = |_: &Letter, _: Fate| ();
        measure("discarding a hundredth", handle(backends, &[], &newest, &discard, &mut tell)).await.unwrap();
        listed(&*log, "the newest 100 of all", (all, 100), any).await;
    }
}
