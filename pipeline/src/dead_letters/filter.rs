//! Which letters are meant. As much of it as can be is seen without decoding what is in them. Pure.

use super::{Contents, DeadLetter, TEXT, TOPIC, cut};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use tributary_schemas::frame::workspace_of;

/// What letters are meant; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Whose they are, as far as their bytes say so.
    pub workspace: Option<String>,
    /// Of which batch, likewise.
    pub batch_id: Option<String>,
    /// Text in the first thousand characters of the stage or the reason, in any case.
    pub matching: Option<String>,
    /// The topic that they came from.
    pub topic: Option<String>,
    /// Put aside then or later, in microseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Put aside before then, likewise.
    pub until: Option<i64>,
}

impl Filter {
    /// Whether a letter can be meant. If [`Self::asks_for_contents`], whether it is meant depends on these.
    pub(super) fn may_take(&self, letter: &DeadLetter) -> bool {
        let Self { workspace, batch_id, matching, topic, since, until } = self;
        let is_of = |workspace: &String| workspace_of(&letter.payload).is_some_and(|of| cut(of, TEXT) == *workspace);
        let matches = |text: &String| {
            let text = text.to_lowercase();
            [&letter.stage, &letter.reason].into_iter().any(|said| cut(said, TEXT).to_lowercase().contains(&text))
        };
        // Texts stand in a frame as they are, up to where they are cut for showing.
        let holds =
            |batch_id: &String| memmem::find(&letter.payload, batch_id.trim_end_matches('…').as_bytes()).is_some();
        since.is_none_or(|since| letter.at >= since)
            && until.is_none_or(|until| letter.at < until)
            && topic.as_ref().is_none_or(|topic| *topic == cut(&letter.topic, TOPIC))
            && matching.as_ref().is_none_or(matches)
            && workspace.as_ref().is_none_or(is_of)
            && batch_id.as_ref().is_none_or(holds)
    }

    /// Whether it is the contents that decide about letters that can be meant.
    pub(super) fn asks_for_contents(&self) -> bool {
        self.batch_id.is_some()
    }

    /// Whether a letter that can be meant is meant.
    pub(super) fn takes(&self, contents: &Contents) -> bool {
        self.batch_id.is_none() || self.batch_id == contents.batch_id
    }
}
