//! A batch as a set of facts, each with its time; its status follows from them and is never stored.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Something that happened to a batch. Facts may repeat and come in any order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fact {
    /// One lane has durably landed everything that the batch sent to it.
    Landed {
        /// Which lane.
        lane: u32,
        /// How many lanes must say so.
        lanes_in_batch: u32,
    },
    /// A downstream processor has begun with it.
    Processing {
        /// Which one.
        processor: String,
    },
    /// A downstream processor is done with it.
    Processed {
        /// Which one.
        processor: String,
    },
    /// It did not land in time.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

/// Where a batch is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum BatchStatus {
    /// Durably accepted, not yet all in the lake.
    Landing,
    /// All in the lake; no processor has begun.
    Landed,
    /// All in the lake; processors are at work.
    Processing,
    /// All in the lake, and every registered processor is done.
    Complete,
    /// Not landed by its deadline. Landing later heals it.
    Failed,
}

/// The status that follows from `facts`, given the processors that are registered. Order and repetition do not matter.
///
/// `COMPLETE` = landed and every registered processor has processed it (none registered: straight away). Facts of
/// processors that are not registered do not count, nor do those of processors before the batch has landed; landing
/// after `Failed` heals.
pub fn status<'a>(facts: impl IntoIterator<Item = &'a Fact>, processors: &[String]) -> BatchStatus {
    let (mut lanes, mut wanted, mut failed) = (BTreeSet::new(), 1, false);
    let (mut begun, mut done) = (false, BTreeSet::new());
    for fact in facts {
        match fact {
            Fact::Landed { lane, lanes_in_batch } => {
                lanes.insert(*lane);
                wanted = wanted.max(*lanes_in_batch as usize);
            }
            Fact::Processing { processor } => begun |= processors.contains(processor),
            Fact::Processed { processor } if processors.contains(processor) => {
                done.insert(processor.as_str());
            }
            Fact::Processed { .. } => {}
            Fact::Failed { .. } => failed = true,
        }
    }
    match (lanes.len() >= wanted, failed) {
        (false, true) => BatchStatus::Failed,
        (false, false) => BatchStatus::Landing,
        _ if processors.iter().all(|processor| done.contains(processor.as_str())) => BatchStatus::Complete,
        _ if begun || !done.is_empty() => BatchStatus::Processing,
        _ => BatchStatus::Landed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn landed(lane: u32, lanes_in_batch: u32) -> Fact {
        Fact::Landed { lane, lanes_in_batch }
    }
    fn processing(processor: &str) -> Fact {
        Fact::Processing { processor: processor.to_owned() }
    }
    fn processed(processor: &str) -> Fact {
        Fact::Processed { processor: processor.to_owned() }
    }
    fn failed() -> Fact {
        Fact::Failed { reason: "not landed in time".to_owned() }
    }

    #[test]
    fn a_batch_without_processors() {
        for (facts, expected) in [
            (vec![], BatchStatus::Landing),
            (vec![landed(3, 2)], BatchStatus::Landing),
            (vec![landed(3, 2), landed(3, 2)], BatchStatus::Landing),
            (vec![landed(3, 2), landed(0, 2)], BatchStatus::Complete),
            (vec![failed()], BatchStatus::Failed),
            (vec![landed(3, 2), failed()], BatchStatus::Failed),
            (vec![failed(), landed(3, 2), landed(0, 2)], BatchStatus::Complete),
            (vec![landed(0, 1), processed("stranger")], BatchStatus::Complete),
        ] {
            assert_eq!(status(&facts, &[]), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_batch_with_two_processors() {
        let processors = ["a".to_owned(), "b".to_owned()];
        for (facts, expected) in [
            (vec![landed(0, 1)], BatchStatus::Landed),
            (vec![landed(0, 1), processing("stranger")], BatchStatus::Landed),
            (vec![landed(0, 1), processed("stranger")], BatchStatus::Landed),
            (vec![landed(0, 1), processing("a")], BatchStatus::Processing),
            (vec![landed(0, 1), processed("a")], BatchStatus::Processing),
            (vec![landed(0, 1), processed("a"), processing("b")], BatchStatus::Processing),
            (vec![landed(0, 1), processed("a"), processed("b")], BatchStatus::Complete),
            (vec![processed("a"), processed("b")], BatchStatus::Landing),
            (vec![processed("a"), processed("b"), failed()], BatchStatus::Failed),
        ] {
            assert_eq!(status(&facts, &processors), expected, "{facts:?}");
        }
    }

    fn facts() -> impl Strategy<Value = Vec<Fact>> {
        let name = prop_oneof![Just("a"), Just("b"), Just("c")];
        vec(
            prop_oneof![
                (0u32..4).prop_map(|lane| landed(lane, 3)),
                name.clone().prop_map(processing),
                name.prop_map(processed),
                Just(failed()),
            ],
            0..12,
        )
    }

    proptest! {
        #[test]
        fn order_and_repetition_never_change_it(
            (facts, shuffled) in facts().prop_flat_map(|facts| {
                let twice: Vec<_> = facts.iter().chain(&facts).cloned().collect();
                (Just(facts), Just(twice).prop_shuffle())
            }),
            registered in vec(prop_oneof![Just("a".to_owned()), Just("b".to_owned())], 0..3),
        ) {
            prop_assert_eq!(status(&facts, &registered), status(&shuffled, &registered));
        }

        #[test]
        fn landing_heals(facts in facts(), registered in vec(Just("a".to_owned()), 0..2)) {
            let all = facts.into_iter().chain((0..3).map(|lane| landed(lane, 3))).collect::<Vec<_>>();
            let healed = status(&all, &registered);
            prop_assert!(![BatchStatus::Failed, BatchStatus::Landing].contains(&healed), "{:?}", healed);
        }
    }
}
