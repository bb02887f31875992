//! A batch as a set of facts, each with its time; its status follows from them and is never stored.

use serde::{Deserialize, Serialize};

/// Something that happened to a batch. Facts may repeat and come in any order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Fact {
    /// One lane has durably landed everything that the batch sent to it; `lanes_in_batch` lanes must say so.
    Landed {
        lane: u32,
        lanes_in_batch: u32,
    },
    Processing {
        processor: String,
    },
    Processed {
        processor: String,
    },
    Failed {
        reason: String,
    },
}

/// The status of section 2 of the HTTP contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum BatchStatus {
    Landing,
    Landed,
    Processing,
    Complete,
    Failed,
}

/// The status that follows from `facts`, given the processors that are registered.
/// `COMPLETE` = landed and every registered processor has processed it; landing after `Failed` heals.
pub fn status<'a>(facts: impl IntoIterator<Item = &'a Fact>, processors: &[String]) -> BatchStatus {
    let _ = (facts.into_iter().count(), processors);
    todo!()
}
