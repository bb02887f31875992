//! Letters for people. All texts in a letter were chosen by whoever can write to the log, so none reaches the terminal
//! with what a terminal would obey.

use super::desk::{LetterView, Outcome};
use crate::output::{self, plain};
use tributary_pipeline::dead_letters::Deed;

/// Longest text in a table's cell, in characters.
const CELL: usize = 60;
/// Bytes to a line of the dump, and bytes of it.
const LINE: usize = 16;
const DUMPED: usize = 512;

/// A table of letters.
pub fn list(letters: &[LetterView]) {
    let headings = ["LETTER", "PUT ASIDE", "WORKSPACE", "BATCH", "STATE", "CAN BE REPLAYED", "STAGE", "REASON"];
    output::table(&headings, letters.iter().map(row));
}

fn row(letter: &LetterView) -> Vec<String> {
    vec![
        plain(&letter.id.to_string()),
        output::time(letter.at),
        cell(letter.workspace.as_deref().unwrap_or("?")),
        cell(letter.batch_id.as_deref().unwrap_or("?")),
        letter.state.clone(),
        if letter.fault.is_none() { "yes" } else { "no" }.to_owned(),
        cell(&letter.stage),
        cell(&letter.reason),
    ]
}

fn cell(text: &str) -> String {
    let mut cut: String = plain(text).chars().take(CELL).collect();
    if text.chars().nth(CELL).is_some() {
        cut.push('…');
    }
    cut
}

/// The lines about one letter.
pub fn one(letter: &LetterView) -> Vec<String> {
    let unknown = || "not known".to_owned();
    let named = |text: &Option<String>| text.as_deref().map_or_else(unknown, plain);
    let mut lines: Vec<String> = [
        ("letter", plain(&letter.id.to_string())),
        ("put aside", output::time(letter.at)),
        ("stage", plain(&letter.stage)),
        ("reason", plain(&letter.reason)),
        ("workspace", named(&letter.workspace)),
        ("batch", named(&letter.batch_id)),
        ("record", letter.record_index.map_or_else(unknown, |index| index.to_string())),
        ("state", letter.state.clone()),
        (
            "replay",
            letter.fault.as_deref().map_or("possible".to_owned(), |why| format!("not possible: {}", plain(why))),
        ),
        ("bytes", letter.bytes.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| format!("{name:<12}{value}"))
    .collect();
    for action in &letter.actions {
        let offset = action.offset.map(|offset| format!(" as offset {offset}")).unwrap_or_default();
        let (at, by, reason) = (output::time(action.at), plain(&action.by), plain(&action.reason));
        lines.push(format!("{at}  {}{offset} by {by}: {reason}", action.action.name()));
    }
    lines.extend(dump(letter.payload.as_deref().unwrap_or_default(), letter.bytes));
    lines
}

/// Hexadecimal digits as lines of bytes, with what of them is text beside.
fn dump(digits: &str, bytes: usize) -> Vec<String> {
    let pairs: Vec<&str> = (0..digits.len() / 2).filter_map(|n| digits.get(2 * n..2 * n + 2)).take(DUMPED).collect();
    let text = |pair: &&str| match u8::from_str_radix(pair, 16) {
        Ok(byte) if byte.is_ascii_graphic() || byte == b' ' => char::from(byte),
        _ => '.',
    };
    let line = |(n, pairs): (usize, &[&str])| {
        format!("  {:06x}  {:<47}  {}", n * LINE, pairs.join(" "), pairs.iter().map(text).collect::<String>())
    };
    let mut lines: Vec<_> = pairs.chunks(LINE).enumerate().map(line).collect();
    if bytes > pairs.len() && !pairs.is_empty() {
        lines.push(format!("  and {} more (--json shows the first 65,536)", bytes - pairs.len()));
    }
    lines
}

/// What became of a command about one letter.
pub fn outcome(letter: &LetterView, deed: Deed) -> String {
    let id = plain(&letter.id.to_string());
    let action = letter.actions.last();
    match &letter.outcome {
        None => id,
        Some(Outcome::Done) => match action.and_then(|action| action.offset) {
            Some(offset) => format!("{id}: {} as offset {offset}", deed.name()),
            None => format!("{id}: {}", deed.name()),
        },
        Some(Outcome::Would) => format!("{id}: would be {}", deed.name()),
        Some(Outcome::Already) => {
            let by = action.map(|action| format!(" by {}", plain(&action.by))).unwrap_or_default();
            format!("{id}: was {} before{by}", deed.name())
        }
        Some(Outcome::Refused(why)) => format!("{id}: not {}: {}", deed.name(), plain(why)),
    }
}

/// All in one line.
pub fn sum(letters: &[LetterView], deed: Deed, dry_run: bool) -> String {
    let refused = letters.iter().filter(|letter| letter.is_refused()).count();
    let wanted = if dry_run { Outcome::Would } else { Outcome::Done };
    let done = letters.iter().filter(|letter| letter.outcome.as_ref() == Some(&wanted)).count();
    let would = if dry_run { "would be " } else { "" };
    format!("{done} {would}{}, {refused} refused", deed.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> LetterView {
        LetterView {
            id: "a\u{1b}]0;x/0/17".parse().expect("an id"),
            stage: "decode\r".to_owned(),
            reason: format!("\u{1b}[2J\u{202e}{}", "x".repeat(100)),
            at: 0,
            bytes: 3,
            workspace: Some("\u{7}w".to_owned()),
            batch_id: None,
            record_index: None,
            state: "open".to_owned(),
            fault: Some("no\u{1b}".to_owned()),
            actions: Vec::new(),
            payload: Some("1b5b41".to_owned()),
            outcome: Some(Outcome::Refused("\u{9b}2J".to_owned())),
        }
    }

    #[test]
    fn nothing_in_a_letter_reaches_the_terminal_as_a_command() {
        let letter = hostile();
        let text = [row(&letter), one(&letter), vec![outcome(&letter, Deed::Replayed)]].concat().join("");
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        assert!(text.contains("1b 5b 41") && text.contains(".[A"), "{text:?}");
        assert_eq!(row(&letter)[7].chars().count(), CELL + 1);
    }

    #[test]
    fn a_sum_counts_what_was_asked_for() {
        let done = LetterView { outcome: Some(Outcome::Done), ..hostile() };
        assert_eq!(sum(&[hostile(), done.clone()], Deed::Replayed, false), "1 replayed, 1 refused");
        assert_eq!(sum(&[done], Deed::Discarded, true), "0 would be discarded, 0 refused");
    }
}
