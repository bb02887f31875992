//! How much room is left on the disks that this process writes to, as `/metrics` shows it.

use crate::backends::Backends;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};
use std::{fmt, path::PathBuf};
use tributary_backends::disk::{Room, room};

/// Directories by what is in them; those that are on servers are not among them.
#[derive(Debug)]
pub struct Disks(Vec<(&'static str, PathBuf)>);

impl Disks {
    /// Those of these backends.
    pub fn of(backends: &Backends) -> Self {
        // An object store's URL is no path.
        let lake = backends.state.lake_url.to_file_path().ok();
        let places = [("data", backends.data.clone()), ("lake", lake)];
        Self(places.into_iter().filter_map(|(place, path)| Some((place, path?))).collect())
    }
}

impl Collector for Disks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Of a file system that does not tell there is nothing, rather than a zero.
        let rooms = self.0.iter().filter_map(|(place, path)| Some((*place, room(path).ok()?)));
        let rooms: Vec<_> = rooms.collect();
        let free = "Room that is left where the state is";
        gauges(&mut encoder, "tributary_disk_free", free, &rooms, |room| room.free)?;
        gauges(&mut encoder, "tributary_disk_size", "Size of that file system", &rooms, |room| room.size)
    }
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rooms: &[(&'static str, Room)],
    bytes: impl Fn(&Room) -> u64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
    for (place, room) in rooms {
        ConstGauge::new(bytes(room) as f64).encode(family.encode_family(&[("place", *place)])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{encoding::text::encode, registry::Registry};

    #[test]
    fn of_what_is_gone_nothing_is_claimed() {
        let directory = tempfile::tempdir().expect("a directory");
        let disks = Disks(vec![("data", directory.path().to_owned()), ("lake", directory.path().join("gone"))]);
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register_collector(Box::new(disks));
        encode(&mut text, &registry).expect("text");
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}{{place=\"data\"}} ")));
            line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}: {text}"))
        };
        assert!(value("tributary_disk_free_bytes") <= value("tributary_disk_size_bytes"), "{text}");
        assert!(!text.contains("lake"), "{text}");
    }
}
