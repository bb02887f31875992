//! When the certificates expire that this process read from files when it started, as `/metrics` shows it. A file that is
//! renewed afterwards changes nothing: the process goes on with what it read.

use crate::backends::BackendArgs;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};
use std::{
    fmt,
    path::{Path, PathBuf},
};
use tributary_backends::certificate::first_expiry;

/// What each is used for, and when the first in its file expires, in seconds since the Unix epoch.
#[derive(Debug, Clone, Default)]
pub struct Certificates(Vec<(&'static str, u64)>);

impl Certificates {
    /// Reads those that the flags name.
    pub fn read(args: &BackendArgs) -> Self {
        Self(files(args).into_iter().filter_map(|(used_for, file)| Some((used_for, told(used_for, &file)?))).collect())
    }
}

fn files(args: &BackendArgs) -> Vec<(&'static str, PathBuf)> {
    let (kafka, scylla) = (&args.kafka, &args.place.scylla);
    let property = |name: &str| {
        let set = kafka.kafka_properties.iter().filter_map(|line| line.trim().split_once('='));
        set.filter(|(known, _)| known.trim() == name).map(|(_, file)| PathBuf::from(file)).next_back()
    };
    let all = [
        ("kafka-ca", property("ssl.ca.location").filter(|_| kafka.kafka.is_some())),
        ("kafka-cert", property("ssl.certificate.location").filter(|_| kafka.kafka.is_some())),
        ("scylla-ca", scylla.scylla_ca.clone().filter(|_| args.place.is_shared())),
        ("scylla-cert", scylla.scylla_cert.clone().filter(|_| args.place.is_shared())),
    ];
    all.into_iter().filter_map(|(used_for, file)| Some((used_for, file?))).collect()
}

/// Those who use the file say what is wrong with it; this only says that the time is not known.
fn told(used_for: &str, file: &Path) -> Option<u64> {
    let read = std::fs::read(file).map_err(|error| error.to_string());
    match read.and_then(|pem| first_expiry(&pem).map_err(|error| error.to_string())) {
        Ok(expiry) => {
            let at = i64::try_from(expiry).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
            let expires = at.map(|at| at.to_string()).unwrap_or_default();
            tracing::info!(used_for, file = %file.display(), expires, "a certificate was read");
            Some(expiry)
        }
        Err(error) => {
            tracing::warn!(file = %file.display(), "cannot tell when a certificate expires: {error}");
            None
        }
    }
}

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) =
            ("tributary_certificate_expiry_timestamp", "When the first of a file's certificates expires");
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (used_for, expiry) in &self.0 {
            ConstGauge::new(*expiry as f64).encode(family.encode_family(&[("use", *used_for)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn args(flags: &[&str]) -> BackendArgs {
        let cli = Cli::try_parse_from(["tributary", "up"].iter().chain(flags)).expect("flags");
        let crate::cli::Command::Up(up) = cli.command else { unreachable!("it says up") };
        up.backends
    }

    #[test]
    fn those_are_read_that_are_used() {
        let kafka = ["--kafka-property", "ssl.ca.location=/a", "--kafka-property", "ssl.ca.location=/b"];
        assert_eq!(files(&args(&kafka)), []);
        let used = [&kafka[..], &["--kafka", "k:1", "--scylla", "s:1", "--scylla-ca", "/c"]].concat();
        let wanted = [("kafka-ca", PathBuf::from("/b")), ("scylla-ca", PathBuf::from("/c"))];
        assert_eq!(files(&args(&used)), wanted);
    }

    #[test]
    fn of_what_cannot_be_read_nothing_is_said() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert_eq!(told("kafka-ca", file.path()), None);
        assert_eq!(told("kafka-ca", Path::new("/")), None);
    }
}
