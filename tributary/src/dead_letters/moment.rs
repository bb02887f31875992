//! Times as people write them.

use tributary_backends::world::{SystemWorld, World};

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
