//! How much each workspace sends through this process, so that a lane with little left can say whose it is. Pure.

use std::{collections::HashMap, time::Duration};
use tributary_schemas::identity::Lanes;

/// Weight of the newest interval in a rate: with looks every 2 s, half of it is of the last 6 s.
const NEWEST: f64 = 0.2;
/// Bytes per second below which a workspace is forgotten.
const NEGLIGIBLE: f64 = 1.0;

/// All workspaces that have sent something lately.
#[derive(Debug, Default)]
pub struct Flows(HashMap<String, Flow>);

#[derive(Debug, Default)]
struct Flow {
    /// Requests since the last look, also those that were refused.
    asked: u64,
    /// Of those, how many were taken, and the bytes of their bodies.
    taken: u64,
    bytes: u64,
    /// Bytes of a request.
    mean: f64,
    /// Bytes per second that it would send if all of it were taken.
    rate: f64,
}

/// What the workspaces of one lane send through it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Crowd {
    /// Workspaces that send.
    pub workspaces: usize,
    /// Bytes per second, all together.
    pub rate: f64,
}

impl Crowd {
    /// Whether one with this rate takes more than an equal part, from others who are there.
    pub fn is_crowded_by(&self, rate: f64) -> bool {
        self.workspaces > 1 && rate * self.workspaces as f64 > self.rate
    }
}

impl Flows {
    /// A request came.
    pub fn asked(&mut self, workspace: &str) {
        self.of(workspace).asked += 1;
    }

    /// A request was taken, with a body of so many bytes.
    pub fn took(&mut self, workspace: &str, bytes: usize) {
        let flow = self.of(workspace);
        flow.taken += 1;
        flow.bytes += bytes as u64;
    }

    /// Bytes per second that the workspace would send through each of its lanes.
    pub fn rate(&self, workspace: &str, lanes: &Lanes) -> f64 {
        self.0.get(workspace).map_or(0.0, |flow| flow.rate) / f64::from(lanes.spread.max(1))
    }

    /// So much time has passed since the last look.
    pub fn look(&mut self, passed: Duration) {
        let seconds = passed.as_secs_f64().max(0.001);
        for flow in self.0.values_mut() {
            if flow.taken > 0 {
                flow.mean = flow.bytes as f64 / flow.taken as f64;
            }
            let newest = flow.asked as f64 * flow.mean / seconds;
            flow.rate += NEWEST * (newest - flow.rate);
            (flow.asked, flow.taken, flow.bytes) = (0, 0, 0);
        }
        self.0.retain(|_, flow| flow.rate >= NEGLIGIBLE);
    }

    /// The crowd in each lane.
    pub fn crowds(&self, lanes: &Lanes) -> Vec<Crowd> {
        let mut crowds = vec![Crowd::default(); lanes.partitions as usize];
        for workspace in self.0.keys() {
            let rate = self.rate(workspace, lanes);
            for lane in lanes.of(workspace).all() {
                if let Some(crowd) = crowds.get_mut(lane as usize) {
                    crowd.workspaces += 1;
                    crowd.rate += rate;
                }
            }
        }
        crowds
    }

    fn of(&mut self, workspace: &str) -> &mut Flow {
        // Its name is copied for the entry; once a request, which carries whole records.
        self.0.entry(workspace.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANES: Lanes = Lanes { partitions: 1, spread: 1 };
    const SECOND: Duration = Duration::from_secs(1);

    /// Who has more than an equal part after so many seconds, each with so many requests of so many bytes; some of them
    /// refused.
    fn crowding(senders: &[(&str, u32, usize, bool)], seconds: usize) -> Vec<String> {
        let mut flows = Flows::default();
        for second in 0..seconds {
            for (name, requests, bytes, refused_later) in senders {
                for _ in 0..*requests {
                    flows.asked(name);
                    if !refused_later || second == 0 {
                        flows.took(name, *bytes);
                    }
                }
            }
            flows.look(SECOND);
        }
        let crowd = flows.crowds(&LANES)[0];
        let names = senders.iter().map(|(name, ..)| (*name).to_owned());
        names.filter(|name| crowd.is_crowded_by(flows.rate(name, &LANES))).collect()
    }

    #[test]
    fn the_one_that_floods_is_told_from_the_others() {
        assert_eq!(crowding(&[("flood", 100, 1_000, false), ("small", 2, 1_000, false)], 5), ["flood"]);
        assert_eq!(crowding(&[("flood", 2, 100_000, false), ("small", 20, 100, false)], 5), ["flood"], "bytes count");
        assert_eq!(crowding(&[("flood", 100, 1_000, true), ("small", 2, 1_000, false)], 20), ["flood"], "what it asks");
    }

    #[test]
    fn alone_or_among_equals_nobody_has_more_than_its_part() {
        assert!(crowding(&[("only", 100, 1_000, false)], 5).is_empty());
        assert!(crowding(&[("a", 10, 1_000, false), ("b", 10, 1_000, false)], 5).is_empty());
        assert_eq!(crowding(&[("flood", 100, 1_000, false), ("gone", 0, 0, false)], 5), [""; 0]);
    }

    #[test]
    fn who_stops_is_forgotten() {
        let mut flows = Flows::default();
        flows.asked("w");
        flows.took("w", 1_000_000);
        for _ in 0..100 {
            flows.look(SECOND);
        }
        assert!(flows.0.is_empty());
    }
}
