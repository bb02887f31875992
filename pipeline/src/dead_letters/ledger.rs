//! How many letters are open, without reading the topic again and again.

use super::{Action, LetterId, scan};
use crate::{pipeline::GROUPS, trouble::Trouble};
use std::collections::{BTreeMap, HashMap};
use tributary_backends::log::RecordLog;

/// What is known of every letter: some 100 bytes of memory each.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Where to go on reading, by partition.
    positions: Vec<i64>,
    letters: HashMap<LetterId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Partition and offset of its last frame.
    place: (u32, i64),
    /// Whether there is a letter, and not only an entry about it.
    put_aside: bool,
    handled: bool,
}

impl Ledger {
    /// Reads what is new, and forgets what the log keeps no longer.
    ///
    /// # Errors
    /// The log does not answer.
    pub async fn catch_up(&mut self, log: &dyn RecordLog) -> Result<(), Trouble> {
        let letters = &mut self.letters;
        let lows = scan(log, &mut self.positions, &mut |place, frame| {
            let known = letters.entry(LetterId::of(&frame)).or_default();
            known.place = place;
            match Action::of(&frame) {
                Some(_) => known.handled = true,
                None => known.put_aside = true,
            }
        })
        .await?;
        self.letters.retain(|_, known| lows.get(known.place.0 as usize).is_none_or(|low| known.place.1 >= *low));
        Ok(())
    }

    /// Open letters by the topic that they came from; topics that nothing is read from are together under `other`.
    pub fn open(&self) -> BTreeMap<&'static str, u64> {
        let read = GROUPS.map(|(_, topic)| topic.name());
        let mut open: BTreeMap<_, _> = read.into_iter().chain(["other"]).map(|topic| (topic, 0)).collect();
        for (id, known) in &self.letters {
            if known.put_aside && !known.handled {
                let topic = read.into_iter().find(|topic| *topic == id.topic).unwrap_or("other");
                *open.entry(topic).or_default() += 1;
            }
        }
        open
    }
}
