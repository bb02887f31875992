//! Which letters are meant.

use super::desk::Selection;
use tributary_backends::world::{SystemWorld, World};
use tributary_pipeline::dead_letters::Letter;

/// `2h` (ago) or `2026-11-23T08:00:00Z` → microseconds since the Unix epoch, for clap.
pub fn moment(text: &str) -> Result<i64, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_microsecond());
    }
    let ago = crate::cli::duration(text).map_err(|_| {
        format!("{text:?} is neither a time such as 2026-11-23T08:00:00Z nor how long ago, such as 30m or 2h")
    })?;
    Ok(SystemWorld.now_micros().saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX)))
}

impl Selection {
    /// Whether a letter is meant.
    pub fn takes(&self, letter: &Letter) -> bool {
        let Self { ids, workspace, batch_id, matching, topic, since, until } = self;
        let matches = |text: &String| {
            let text = text.to_lowercase();
            letter.stage.to_lowercase().contains(&text) || letter.reason.to_lowercase().contains(&text)
        };
        (ids.is_empty() || ids.contains(&letter.id))
            && (workspace.is_none() || *workspace == letter.contents.workspace)
            && (batch_id.is_none() || *batch_id == letter.contents.batch_id)
            && matching.as_ref().is_none_or(matches)
            && topic.as_ref().is_none_or(|topic| *topic == letter.id.topic)
            && since.is_none_or(|since| letter.at >= since)
            && until.is_none_or(|until| letter.at < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_moments_or_ages() {
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(1_000_000));
        let then = moment("2h").expect("a time");
        let ago = SystemWorld.now_micros() - then;
        assert!((7_200_000_000..7_260_000_000).contains(&ago), "{ago}");
        assert!(moment("yesterday").is_err());
    }
}
