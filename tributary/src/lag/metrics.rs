//! The last look as `/metrics` shows it: one consistent picture a scrape, nothing of what is gone, and however many
//! workspaces there are only those with the most by name.

use super::report::{PartitionLag, Report, WorkspaceLag};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};
use std::{
    cmp::Ordering,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tributary_backends::lately::SHOWN;

/// A look that is older says nothing of now.
const STALE: Duration = Duration::from_secs(15);

/// A look, and when it was.
type Look = (Instant, Arc<Report>);

/// The last look.
#[derive(Debug, Clone, Default)]
pub struct Latest(Arc<Mutex<Option<Look>>>);

impl Latest {
    /// From now on this is shown.
    pub fn publish(&self, report: Report) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::new(report)));
    }

    fn fresh(&self) -> Option<(Duration, Arc<Report>)> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, report) = latest.as_ref()?;
        let old = at.elapsed();
        (old < STALE).then(|| (old, report.clone()))
    }
}

impl Collector for Latest {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let fresh = self.fresh();
        let known = encoder.encode_descriptor(
            "tributary_lag_known",
            "Whether this process can see the lag",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(i64::from(fresh.is_some())).encode(known)?;
        let (old, report) = fresh.unwrap_or_default();
        let all = &report.partitions;
        partitions(&mut encoder, "tributary_lag_records", "Records that wait for a stage", None, all, |one| {
            Some(one.records as f64)
        })?;
        let help = "Age of the oldest record that waits for a stage";
        // What waits has gone on waiting since.
        let waited = |one: &PartitionLag| Some(if one.records == 0 { 0.0 } else { one.seconds + old.as_secs_f64() });
        partitions(&mut encoder, "tributary_lag", help, Some(&Unit::Seconds), all, waited)?;
        let help = "Time until what waits is done; +Inf while nothing moves";
        partitions(&mut encoder, "tributary_lag_drain", help, Some(&Unit::Seconds), all, PartitionLag::drains_in)?;
        let help = "Time since a stage with something to do has moved, without the rest between its commits";
        partitions(&mut encoder, "tributary_lag_still", help, Some(&Unit::Seconds), all, |one| {
            Some(one.still_seconds)
        })?;
        let help = "Records per second that a stage has done lately";
        partitions(&mut encoder, "tributary_lag_throughput", help, None, all, |one| one.throughput)?;
        let owned = |one: &PartitionLag| report.owners_known.then(|| f64::from(u8::from(one.owner.is_some())));
        partitions(&mut encoder, "tributary_lag_owned", "Whether a process has the partition", None, all, owned)?;
        let halted = |one: &PartitionLag| report.owners_known.then(|| f64::from(u8::from(one.reason.is_some())));
        partitions(&mut encoder, "tributary_lag_halted", "Whether its process has given it up", None, all, halted)?;
        workspaces(&mut encoder, &report)
    }
}

/// One gauge of every partition of which it is known.
fn partitions(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    all: &[PartitionLag],
    value: impl Fn(&PartitionLag) -> Option<f64>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for one in all {
        let Some(value) = value(one) else { continue };
        let partition = one.partition.to_string();
        let labels = [("topic", one.topic.as_str()), ("partition", &partition), ("stage", &one.stage)];
        gauge(family.encode_family(&labels)?, value)?;
    }
    Ok(())
}

fn gauge(encoder: MetricEncoder<'_>, value: f64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder)
}

/// Those of which the most waits by name, and the others together: all that waits in the lanes of this process. And likewise
/// those of which the most is done, which need not be the same.
fn workspaces(encoder: &mut DescriptorEncoder<'_>, report: &Report) -> fmt::Result {
    let waiting: Vec<_> = report.workspaces.iter().filter(|one| one.records > 0).collect();
    let others = together(report, waiting.get(SHOWN..).unwrap_or_default());
    let all: Vec<_> = waiting.into_iter().take(SHOWN).chain(&others).collect();
    let help = "Records of a workspace that wait for the lake in the lanes of this process";
    each(encoder, ("tributary_lag_workspace_records", None), help, &all, |one| Some(one.records as f64))?;
    let (name, unit) = ("tributary_lag_workspace", Some(&Unit::Seconds));
    let help = "Age of the oldest record of a workspace that waits for the lake";
    each(encoder, (name, unit), help, &all, |one| Some(one.seconds))?;
    let help = "Time until the lanes with records of a workspace have done what waits; +Inf while one of them stands";
    each(encoder, ("tributary_lag_workspace_drain", unit), help, &all, WorkspaceLag::drains_in)?;

    let mut done: Vec<_> = report.workspaces.iter().filter(|one| one.throughput.is_some()).collect();
    done.sort_by(|a, b| b.throughput.partial_cmp(&a.throughput).unwrap_or(Ordering::Equal));
    let others = together(report, done.get(SHOWN..).unwrap_or_default());
    let all: Vec<_> = done.into_iter().take(SHOWN).chain(&others).collect();
    let help = "Records per second of a workspace that the lanes of this process have done lately";
    each(encoder, ("tributary_lag_workspace_throughput", None), help, &all, |one| one.throughput)
}

/// The others, and these with them.
fn together(report: &Report, rest: &[&WorkspaceLag]) -> Option<WorkspaceLag> {
    let mut others = report.others.clone()?;
    rest.iter().for_each(|one| others.also(one));
    Some(others)
}

fn each(
    encoder: &mut DescriptorEncoder<'_>,
    (name, unit): (&str, Option<&Unit>),
    help: &str,
    all: &[&WorkspaceLag],
    value: impl Fn(&WorkspaceLag) -> Option<f64>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for one in all {
        let Some(value) = value(one) else { continue };
        gauge(family.encode_family(&[("workspace", one.workspace.as_str())])?, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag::report::State;
    use prometheus_client::{encoding::text::encode, registry::Registry};

    fn partition(n: u32) -> PartitionLag {
        PartitionLag {
            stage: "lake".to_owned(),
            topic: "records".to_owned(),
            partition: n,
            records: 123_456_789,
            seconds: 1_234.567,
            throughput: Some(12_345.678),
            drain_seconds: Some(98_765.432),
            still_seconds: 1.234,
            state: State::Working,
            owner: Some("host:1".to_owned()),
            reason: None,
            waits_for: None,
        }
    }

    fn workspace(name: &str, records: u64) -> WorkspaceLag {
        let lanes = vec![1, 2];
        let (drain_seconds, throughput) = (Some(4.0), Some(0.5));
        WorkspaceLag { lanes, records, seconds: 7.0, throughput, drain_seconds, ..WorkspaceLag::none(name) }
    }

    fn scrape(report: Report) -> String {
        let (latest, mut registry, mut text) = (Latest::default(), Registry::default(), String::new());
        latest.publish(report);
        registry.register_collector(Box::new(latest));
        encode(&mut text, &registry).expect("text");
        text
    }

    #[test]
    fn nothing_is_claimed_of_what_cannot_be_seen() {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register_collector(Box::new(Latest::default()));
        encode(&mut text, &registry).expect("text");
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples, ["tributary_lag_known 0"]);
    }

    #[test]
    fn what_nobody_moves_drains_never_and_what_is_unknown_is_not_there() {
        let stuck = PartitionLag { state: State::Stuck, drain_seconds: None, ..partition(0) };
        let new = PartitionLag { drain_seconds: None, throughput: None, ..partition(1) };
        let partitions = vec![stuck, new];
        let text = scrape(Report { partitions, owners_known: false, ..Report::default() });
        let labels = r#"topic="records",partition="0",stage="lake""#;
        assert!(text.contains(&format!("tributary_lag_drain_seconds{{{labels}}} inf\n")), "{text}");
        assert!(!text.contains(r#"tributary_lag_drain_seconds{topic="records",partition="1""#), "{text}");
        assert!(!text.contains("tributary_lag_owned{"), "{text}");
    }

    #[test]
    fn hostile_names_break_no_line() {
        let workspaces = vec![workspace("a\"} 1\nevil 2\\", 5)];
        let text = scrape(Report { workspaces, ..Report::default() });
        assert!(text.contains(r#"{workspace="a\"} 1\nevil 2\\"} 5"#), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("evil")));
    }

    /// As many lanes as there may be, and ten thousand workspaces in them.
    #[test]
    fn a_scrape_stays_small() {
        let partitions = (0..2_500).map(partition).collect();
        let workspaces = (0..10_000u64).map(|n| workspace(&format!("{n:064}"), 10_000 - n)).collect();
        let stands = true;
        let (records, throughput) = (1_000, Some(16.0));
        let others =
            WorkspaceLag { records, seconds: 3.0, throughput, stands, ..WorkspaceLag::none(WorkspaceLag::OTHERS) };
        let text = scrape(Report { partitions, workspaces, others: Some(others), owners_known: true, at: 0 });
        assert!(text.len() < 3_000_000, "{} bytes", text.len());
        let rest: u64 = (32..10_000).map(|n| 10_000 - n).sum::<u64>() + 1_000;
        let values = [
            ("records", &*format!("{rest}.0")),
            ("seconds", "7.0"),
            ("throughput", "5000.0"),
            ("drain_seconds", "inf"),
        ];
        for (name, value) in values {
            let others = format!("tributary_lag_workspace_{name}{{workspace=\"(others)\"}} {value}\n");
            assert!(text.contains(&others), "{others}");
            assert_eq!(text.matches(&format!("tributary_lag_workspace_{name}{{")).count(), 33);
        }
    }

    /// Forty wait, and others land.
    #[test]
    fn those_of_which_the_most_is_done_need_not_be_those_that_wait_the_most() {
        let waits = (0..40).map(|n| WorkspaceLag { throughput: None, ..workspace(&format!("waits-{n}"), 100) });
        let lands =
            (0..40u32).map(|n| WorkspaceLag { throughput: Some(f64::from(n)), ..workspace(&format!("lands-{n}"), 0) });
        let others = Some(WorkspaceLag { throughput: Some(0.5), ..WorkspaceLag::none(WorkspaceLag::OTHERS) });
        let text = scrape(Report { workspaces: waits.chain(lands).collect(), others, ..Report::default() });
        let of = |family: &str| {
            let lines = text.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix("{workspace="));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let (records, done) = (of("tributary_lag_workspace_records"), of("tributary_lag_workspace_throughput"));
        assert_eq!((records.len(), &*records[0], &*records[32]), (33, r#""waits-0"} 100.0"#, r#""(others)"} 800.0"#));
        assert_eq!((done.len(), &*done[0], &*done[32]), (33, r#""lands-39"} 39.0"#, r#""(others)"} 28.5"#));
        assert!(!records.iter().any(|one| one.contains("lands")), "of these nothing waits: {records:?}");
    }
}
