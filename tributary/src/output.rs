//! What commands print: plain lines, aligned tables, one JSON document.

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, Write};

/// One line on stdout. A reader that went away (`… | head`) is no error of ours: the rest goes nowhere.
pub fn line(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// One line on stderr.
pub fn error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "error: {text}");
}

/// A remark on stderr, so that stdout stays what a script reads.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// One JSON document on one line of stdout.
///
/// # Errors
/// The value cannot be put as JSON.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?);
    Ok(())
}

/// A table for people: columns aligned by spaces, no frame, nothing wrapped when stdout is not a terminal.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    line(&render(headings, rows));
}

/// The same as text.
pub fn render(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().copied());
    table.add_rows(rows);
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Text that somebody else chose, without what a terminal would obey: control characters, and those that turn the
/// direction of writing around.
pub fn plain(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect()
}

/// Milliseconds since the Unix epoch → `2026-11-22T19:01:53Z`.
pub fn time(millis: i64) -> String {
    let rounded = millis.div_euclid(1_000);
    jiff::Timestamp::from_second(rounded).map_or_else(|_| millis.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_text() {
        let text =
            render(&["ID", "LABEL"], [vec!["k1".to_owned(), "a label".to_owned()], vec!["k22".into(), "b".into()]]);
        assert_eq!(text, " ID   LABEL\n k1   a label\n k22  b");
    }

    #[test]
    fn times_are_utc_seconds() {
        assert_eq!(time(1_700_000_000_999), "2023-11-14T22:13:20Z");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
    }
}
