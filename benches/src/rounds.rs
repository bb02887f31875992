//! The same measurement several times, for a machine's speed changes from minute to minute.

use crate::{measure::Cost, report::progress};
use anyhow::Context;

/// The round that took the median of CPU time; says what the others took.
pub fn median<R>(mut rounds: Vec<R>, cost: impl Fn(&R) -> Cost) -> anyhow::Result<R> {
    rounds.sort_by(|one, other| cost(one).cpu.total_cmp(&cost(other).cpu));
    let all: Vec<String> = rounds.iter().map(|round| format!("{:.2}", cost(round).cpu)).collect();
    progress(&format!("CPU-s of the rounds: {}", all.join(", ")));
    let middle = rounds.len() / 2;
    rounds.into_iter().nth(middle).context("measure at least one round")
}
