//! Letters for people. All texts in a letter were chosen by whoever can write to the log, so none reaches the terminal
//! with what a terminal would obey.

use super::desk::{Handled, LetterView, Outcome, Page};
use crate::output::{self, plain};
use indicatif::HumanCount;
use tributary_pipeline::dead_letters::{Deed, Summary};

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
pub fn sum(handled: &Handled, deed: Deed, dry_run: bool) -> String {
    let would = if dry_run { "would be " } else { "" };
    let done = if dry_run { handled.would } else { handled.done };
    let mut sum = format!("{done} {would}{}, {} refused", deed.name(), handled.refused);
    let shown = handled.letters.len() as u64;
    if shown < handled.letters() {
        sum += &format!(
            "; the first {shown} are shown. What was refused is open still: see `tributary dead-letters list`"
        );
    }
    sum
}

/// What a page leaves out.
pub fn rest(page: &Page) -> Option<String> {
    let next = page.next?;
    let all = page.summary.open + page.summary.replayed + page.summary.discarded;
    let (shown, all) = (HumanCount(page.letters.len() as u64), HumanCount(all));
    Some(format!(
        "the newest {shown} of {all} letters; those behind them: --before {next}; how many of which kind: --summary"
    ))
}

/// How many there are, and why.
pub fn summary(summary: &Summary) -> Vec<String> {
    let Summary { open, replayed, discarded, reasons, other_reasons } = summary;
    let mut lines = vec![format!("{open} open, {replayed} replayed, {discarded} discarded")];
    if !reasons.is_empty() {
        let row = |kind: &tributary_pipeline::dead_letters::Count| {
            vec![kind.letters.to_string(), plain(&kind.topic), cell(&kind.stage), cell(&kind.reason)]
        };
        lines.push(output::render(&["OPEN", "TOPIC", "STAGE", "REASON"], reasons.iter().map(row)));
    }
    if *other_reasons > 0 {
        lines.push(format!("and {other_reasons} for other reasons"));
    }
    lines
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
        let handled = Handled { letters: vec![hostile()], done: 0, would: 1, refused: 0, already: 0 };
        assert_eq!(sum(&handled, Deed::Discarded, true), "1 would be discarded, 0 refused");
        let handled = Handled { done: 2, would: 0, refused: 3, ..handled };
        let said = sum(&handled, Deed::Replayed, false);
        assert!(said.starts_with("2 replayed, 3 refused; the first 1 are shown."), "{said}");
    }

    #[test]
    fn a_summary_is_plain_and_bounded() {
        let count = |reason: String| tributary_pipeline::dead_letters::Count {
            topic: "a\u{1b}".to_owned(),
            stage: "decode".to_owned(),
            reason,
            letters: 3,
        };
        let reasons = vec![count("\u{1b}[2J".repeat(100))];
        let lines = summary(&Summary { open: 4, replayed: 1, discarded: 0, reasons, other_reasons: 1 }).join("\n");
        assert!(lines.starts_with("4 open, 1 replayed, 0 discarded\n"), "{lines}");
        assert!(lines.ends_with("and 1 for other reasons") && !lines.contains('\u{1b}'), "{lines}");
        assert!(lines.lines().all(|line| line.chars().count() < 120), "{lines}");
    }
}
