//! One rate for a key, however many processes serve it.
//!
//! Every second each process leaves a note that says how often each key was asked for, and reads those of the others.
//! From the same notes all of them work out the same level: what a process may give out at most, so that together they
//! give out the key's rate, and nobody is held back for a process that is hardly asked. A key that is asked for less often
//! than it may be, over all processes, is held back nowhere.
//!
//! What that is worth, for a rate *R* and *n* processes: a sender that uses all of them at once can get up to *n·R*
//! requests through in the two seconds until the notes are read; from then on *R* a second, within a tenth (processes
//! that are hardly asked do not write it down), and at least one a second from each process. A sender that keeps to one
//! process always gets *R*. While the tables are away everybody goes on with the level of before.
//!
//! A process of which nothing is asked writes and reads nothing.

use super::Rates;
use crate::Api;
use governor::clock::Clock;
use std::{collections::HashMap, convert::Infallible, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Name of the board.
const BOARD: &str = "rates";
/// A note outlives a few that are late.
const NOTE_LIVES: Duration = Duration::from_secs(3);
/// Keys in a note; those that are asked for most often.
const KEYS: usize = 1_000;
/// Less of a key's rate than this part, divided by the processes, is not worth writing down.
const NEGLIGIBLE: f64 = 0.1;

/// What a note says: requests per second by key.
type Demands = HashMap<String, f64>;

/// Exchanges notes for as long as the API lives. Never ends; to be dropped.
pub async fn keep(api: &Api, every: Duration) -> Infallible {
    let process = api.world.uuid_v7();
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let lives = (every * 2).max(NOTE_LIVES);
    let mut sharing = Sharing::default();
    let (mut last, mut blind) = (Instant::now(), false);
    loop {
        ticks.tick().await;
        let passed = last.elapsed();
        last = Instant::now();
        let rates = &api.gate.rates;
        let Some(note) = sharing.note(rates, passed) else { continue };
        match api.tables.exchange(BOARD, process, &note, lives).await {
            Ok(notes) => {
                blind = false;
                sharing.read(rates, notes.iter().map(|(_, note)| note.as_slice()));
            }
            Err(error) if !blind => {
                blind = true;
                tracing::warn!(%error, "cannot tell other processes how often keys are used; will go on trying");
            }
            Err(_) => {}
        }
    }
}

/// What one process remembers from one exchange to the next.
#[derive(Debug)]
pub struct Sharing {
    processes: usize,
    /// The rate of each key that was asked for in the last interval.
    rates: HashMap<String, u32>,
    /// The last note said something, or keys were held back by it.
    said: bool,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { processes: 1, rates: HashMap::new(), said: false }
    }
}

impl Sharing {
    /// What to tell the others of the time that has `passed`; `None` when there is nothing to tell, and was nothing
    /// before.
    pub fn note<C: Clock + Clone>(&mut self, rates: &Rates<C>, passed: Duration) -> Option<Vec<u8>> {
        let asked = rates.asked();
        let idle = asked.is_empty() && !self.said;
        self.said = !asked.is_empty();
        self.rates = asked.iter().map(|(key, rate, _)| (key.clone(), *rate)).collect();
        let seconds = passed.as_secs_f64().max(0.001);
        let least = NEGLIGIBLE / self.processes.max(1) as f64;
        let demands = asked.into_iter().map(|(key, rate, asked)| (key, f64::from(rate), f64::from(asked) / seconds));
        let mut worth: Vec<_> = demands.filter(|(_, rate, demand)| *demand >= rate * least).collect();
        worth.sort_by(|a, b| (b.2 / b.1).total_cmp(&(a.2 / a.1)));
        let worth: Demands = worth.into_iter().take(KEYS).map(|(key, _, demand)| (key, demand)).collect();
        // A map of numbers by text can always be written.
        (!idle).then(|| serde_json::to_vec(&worth).unwrap_or_default())
    }

    /// Works out what this process may give out, from everybody's notes.
    pub fn read<'n, C: Clock + Clone>(&mut self, rates: &Rates<C>, notes: impl Iterator<Item = &'n [u8]>) {
        let mut demands: HashMap<String, Vec<f64>> = HashMap::new();
        self.processes = 0;
        for note in notes {
            self.processes += 1;
            // One that cannot be read is of another version of this program: as if it were not there.
            for (key, demand) in serde_json::from_slice::<Demands>(note).unwrap_or_default() {
                demands.entry(key).or_default().push(demand);
            }
        }
        rates.set_all_whole();
        for (key, rate) in &self.rates {
            if let Some(demands) = demands.get_mut(key) {
                rates.set_level(key, level(f64::from(*rate), demands));
            }
        }
    }
}

/// The most that each process may give out so that together they give out `rate`, when they are asked for `demands`:
/// those that are asked for less than it leave the rest to the others. `rate` when all of it fits.
fn level(rate: f64, demands: &mut [f64]) -> f64 {
    demands.sort_by(f64::total_cmp);
    let mut left = rate;
    for (n, demand) in demands.iter().enumerate() {
        let share = left / (demands.len() - n) as f64;
        if *demand > share {
            return share;
        }
        left -= demand;
    }
    rate
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
