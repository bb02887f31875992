//! The lag for people: first what is wrong and what to do, then the figures, the worst on top.

use super::report::{PartitionLag, Report, State, WorkspaceLag};
use crate::output;

/// Rows of a table, unless all are wanted.
const ROWS: usize = 20;
/// The oldest record of a lane waits for longer than a chunk takes, with its retries: worth a word.
const BEHIND: f64 = 10.0;

/// The lines of a report; `all`: of every partition and workspace.
pub fn lines(report: &Report, all: bool) -> Vec<String> {
    let mut lines = vec![headline(report)];
    lines.extend(all_advice(report));
    if !report.owners_known {
        lines.push(
            "  Who has which partition is not known: the tables do not answer in time. Are they away, or slow?"
                .to_owned(),
        );
    }
    lines.push(String::new());
    lines.extend(partition_table(report, all));
    if report.workspaces.iter().chain(&report.others).any(|one| is_shown(one, all)) {
        lines.push(String::new());
        lines.extend(workspace_table(report, all));
    }
    lines
}

fn headline(report: &Report) -> String {
    let at = output::time(report.at);
    let lake: Vec<_> = report.partitions.iter().filter(|one| one.stage == "lake").collect();
    let records: u64 = lake.iter().map(|one| one.records).sum();
    let oldest = lake.iter().map(|one| one.seconds).fold(0.0, f64::max);
    let trouble = report.partitions.iter().filter(|one| one.state.is_trouble()).count();
    let drained = lake.iter().map(|one| one.drains_in()).try_fold(0.0, |most, one| Some(f64::max(most, one?)));
    let verdict = match (trouble, oldest > BEHIND) {
        (1, _) => "1 PARTITION NEEDS HELP".to_owned(),
        (many @ 2.., _) => format!("{many} PARTITIONS NEED HELP"),
        (0, true) => "BEHIND".to_owned(),
        (0, false) if records == 0 => return format!("{at}  Up to date: everything accepted is in the lake"),
        (0, false) => "Keeping up".to_owned(),
    };
    if records == 0 {
        return format!("{at}  {verdict}, although nothing waits for the lake");
    }
    let drained = drained.map(|seconds| format!(", done in {}", duration(seconds))).unwrap_or_default();
    let wait = if records == 1 { "record waits" } else { "records wait" };
    format!("{at}  {verdict}: {} {wait} for the lake, the oldest for {}{drained}", count(records), duration(oldest))
}

/// What is wrong with which partitions: once, where it is the same with many.
fn all_advice(report: &Report) -> Vec<String> {
    let mut same: Vec<(&str, String, Vec<u32>)> = Vec::new();
    for one in report.partitions.iter().filter(|one| one.state.is_trouble()) {
        let what = advice(one);
        match same.iter_mut().find(|(topic, known, _)| *topic == one.topic && *known == what) {
            Some((.., partitions)) => partitions.push(one.partition),
            None => same.push((&one.topic, what, vec![one.partition])),
        }
    }
    let line = |(topic, what, partitions): (&str, String, Vec<u32>)| {
        let shown: Vec<_> = partitions.iter().take(4).map(u32::to_string).collect();
        let more = match partitions.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("  {}/{}{more}: {what}", plain(topic), shown.join(", "))
    };
    same.into_iter().take(ROWS).map(line).collect()
}

/// What is wrong with a partition, and what to do first.
fn advice(one: &PartitionLag) -> String {
    let owner = one.owner.as_deref().map_or_else(|| "its process".to_owned(), plain);
    match one.state {
        State::NoOwner => {
            "no process says that it has it. Is `tributary pipeline` (or `up`) running? If all are, ask the /readyz of each: one that \
             cannot reach the tables cannot say so; end it, and others take over. If all are ready, the group has a member \
             that is not ours"
                .to_owned()
        }
        State::Halted => {
            let reason = one.reason.as_deref().map(plain).unwrap_or_default();
            format!("given up by {owner}: {reason}. Mend that, then restart it")
        }
        State::Stuck => {
            let still = duration(one.still_seconds);
            match &one.waits_for {
                Some(why) => format!("{owner} has it, has moved nothing for {still} and tries again: {}", plain(why)),
                None => format!(
                    "{owner} has it and has moved nothing for {still}. Its log says what it waits for; see also its /readyz"
                ),
            }
        }
        State::UpToDate | State::Working => String::new(),
    }
}

fn partition_table(report: &Report, all: bool) -> Vec<String> {
    let mut rows: Vec<_> = report.partitions.iter().collect();
    if !all {
        // Those of which there is something to say, the worst first; of every stage at least one.
        rows.sort_by(|a, b| {
            let rank = |one: &PartitionLag| (one.state.is_trouble(), one.seconds);
            rank(b).partial_cmp(&rank(a)).unwrap_or(std::cmp::Ordering::Equal)
        });
        let busy = rows.iter().filter(|one| one.state != State::UpToDate).count();
        let quiet: Vec<_> = rows.split_off(busy.min(ROWS));
        let left = quiet.len();
        let mut lines = render(rows.into_iter());
        match (left, report.partitions.len()) {
            (0, _) => {}
            (left, many) if left == many => lines = render(quiet.into_iter().take(ROWS)),
            (left, _) if busy > ROWS => lines.push(format!(" … and {left} more: --all shows every partition")),
            (left, _) => lines.push(format!(" … and {left} that are up to date")),
        }
        return lines;
    }
    render(rows.into_iter())
}

fn render<'p>(rows: impl Iterator<Item = &'p PartitionLag>) -> Vec<String> {
    let headings = ["STAGE", "TOPIC", "PARTITION", "WAITING", "OLDEST", "DONE/S", "DRAINED IN", "STATE", "OWNER"];
    output::render(&headings, rows.map(row)).lines().map(str::to_owned).collect()
}

fn row(one: &PartitionLag) -> Vec<String> {
    let unknown = || "?".to_owned();
    let state = match one.state {
        State::UpToDate => "up to date",
        State::Working => "working",
        State::Stuck => "STUCK",
        State::NoOwner => "NO OWNER",
        State::Halted => "HALTED",
    };
    vec![
        plain(&one.stage),
        plain(&one.topic),
        one.partition.to_string(),
        count(one.records),
        if one.records == 0 { "-".to_owned() } else { duration(one.seconds) },
        one.throughput.map_or_else(unknown, rate),
        match one.drains_in() {
            Some(0.0) => "-".to_owned(),
            seconds => seconds.map_or_else(unknown, duration),
        },
        state.to_owned(),
        one.owner.as_deref().map_or_else(|| "-".to_owned(), plain),
    ]
}

/// Those of which something waits; with `all` also those of which something lands.
fn is_shown(one: &WorkspaceLag, all: bool) -> bool {
    one.records > 0 || (all && one.lands())
}

fn workspace_table(report: &Report, all: bool) -> Vec<String> {
    let mut shown: Vec<_> = report.workspaces.iter().filter(|one| is_shown(one, all)).collect();
    let left = shown.split_off(shown.len().min(if all { usize::MAX } else { ROWS }));
    let others = report.others.iter().filter(|others| is_shown(others, all));
    let rows = shown.into_iter().chain(others).map(workspace_row);
    let text = output::render(&["WORKSPACE", "LANE", "WAITING", "OLDEST", "DONE/S", "DRAINED IN"], rows);
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    if !left.is_empty() {
        let records = left.iter().map(|one| one.records).sum();
        lines.push(format!(" … and {} more with {} records: --all shows them", left.len(), count(records)));
    }
    if report.workspaces.iter().any(|one| !one.exact) {
        lines.push(" ~ estimated from samples of the queue".to_owned());
    }
    if report.others.as_ref().is_some_and(|others| others.records > 0) {
        lines.push(format!(" {}: in lanes that were not looked into in time", WorkspaceLag::OTHERS));
    }
    if all && report.others.as_ref().is_some_and(WorkspaceLag::lands) {
        lines.push(format!(" {} under DONE/S: those that land the least, all together", WorkspaceLag::OTHERS));
    }
    lines
}

fn workspace_row(one: &WorkspaceLag) -> Vec<String> {
    let (unknown, nothing) = (|| "?".to_owned(), || "-".to_owned());
    let about = if one.exact { "" } else { "~" };
    vec![
        plain(&one.workspace),
        if one.lanes.is_empty() { nothing() } else { lanes(&one.lanes) },
        format!("{about}{}", count(one.records)),
        if one.records == 0 { nothing() } else { duration(one.seconds) },
        one.throughput.map_or_else(unknown, rate),
        if one.records == 0 { nothing() } else { one.drains_in().map_or_else(unknown, duration) },
    ]
}

/// A few by their numbers, more by how many they are.
fn lanes(lanes: &[u32]) -> String {
    match lanes {
        few if few.len() <= 4 => few.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
        many => format!("{} lanes", many.len()),
    }
}

/// Text that others chose, without what a terminal would obey.
fn plain(text: &str) -> String {
    output::plain(text)
}

/// `1234567` → `1,234,567`.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Per second: with one digit behind the point where that matters.
fn rate(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        few if few < 0.05 => "<0.1".to_owned(),
        few if few < 9.95 => format!("{few:.1}"),
        many => count(many.round() as u64),
    }
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    if seconds.is_infinite() {
        return "never".to_owned();
    }
    let whole = seconds.round().max(0.0) as u64;
    let two = |large: u64, name: &str, small: u64, other: &str| match small {
        0 => format!("{large}{name}"),
        small => format!("{large}{name} {small}{other}"),
    };
    match whole {
        0 => "<1s".to_owned(),
        1..60 => format!("{whole}s"),
        60..3_600 => two(whole / 60, "m", whole % 60, "s"),
        3_600..86_400 => two(whole / 3_600, "h", whole % 3_600 / 60, "m"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(partition: u32, records: u64, seconds: f64, state: State) -> PartitionLag {
        let still_seconds = if state == State::Stuck { seconds } else { 0.0 };
        PartitionLag {
            stage: "lake".to_owned(),
            topic: "records".to_owned(),
            partition,
            records,
            seconds,
            throughput: Some(1_500.0),
            drain_seconds: (records > 0).then_some(records as f64 / 1_500.0),
            still_seconds,
            state,
            owner: (state != State::NoOwner).then(|| "host:7".to_owned()),
            reason: None,
            waits_for: None,
        }
    }

    fn report(partitions: Vec<PartitionLag>) -> Report {
        Report { partitions, owners_known: true, ..Report::default() }
    }

    #[test]
    fn when_all_is_well_the_first_line_says_so() {
        let quiet = lines(&report((0..4).map(|n| lane(n, 0, 0.0, State::UpToDate)).collect()), false);
        assert!(quiet[0].ends_with("Up to date: everything accepted is in the lake"), "{quiet:?}");
        assert_eq!(quiet.len(), 7, "all four are there: {quiet:#?}");
        let busy = lines(&report(vec![lane(0, 3_000, 1.4, State::Working)]), false);
        let wanted = "Keeping up: 3,000 records wait for the lake, the oldest for 1s, done in 2s";
        assert!(busy[0].ends_with(wanted), "{busy:?}");
    }

    #[test]
    fn what_is_wrong_comes_first_with_what_to_do() {
        let mut partitions: Vec<_> = (0..1_000).map(|n| lane(n, 0, 0.0, State::UpToDate)).collect();
        partitions[500] = lane(500, 120_000, 130.0, State::NoOwner);
        partitions[501] = lane(501, 7, 95.0, State::Stuck);
        partitions[502] = lane(502, 7, 3.0, State::Working);
        let halted = Some("the file x is corrupt\u{1b}[2J".to_owned());
        partitions[503] = PartitionLag { reason: halted, ..lane(503, 0, 0.0, State::Halted) };
        let waits_for = Some("landing a chunk: no space left\u{7}".to_owned());
        partitions[504] = PartitionLag { waits_for, ..lane(504, 7, 95.0, State::Stuck) };
        let lines = lines(&report(partitions), false);
        assert!(lines[0].contains("4 PARTITIONS NEED HELP: 120,021 records wait"), "{lines:#?}");
        assert!(lines[0].ends_with("the oldest for 2m 10s, done in never"), "{lines:#?}");
        let all = lines.join("\n");
        assert!(all.contains("records/500: no process says that it has it"), "{all}");
        assert!(all.contains("records/501: host:7 has it and has moved nothing for 1m 35s"), "{all}");
        assert!(all.contains("records/504: host:7 has it, has moved nothing for 1m 35s and tries again: landing a chunk: no space left"), "{all}");
        assert!(all.contains("records/503: given up by host:7: the file x is corrupt"), "{all}");
        assert!(!all.contains(['\u{1b}', '\u{7}']), "{all}");
        assert!(all.contains("… and 995 that are up to date") && lines.len() < 15, "{all}");
    }

    #[test]
    fn what_is_the_same_with_many_is_said_once() {
        let mut partitions: Vec<_> = (0..16).map(|n| lane(n, 0, 0.0, State::NoOwner)).collect();
        partitions[3] = lane(3, 0, 0.0, State::UpToDate);
        let small = (0..2).map(|n| PartitionLag { topic: "rejects".to_owned(), ..lane(n, 0, 0.0, State::NoOwner) });
        partitions.extend(small);
        let lines = lines(&report(partitions), false);
        assert!(lines[0].ends_with("17 PARTITIONS NEED HELP, although nothing waits for the lake"), "{lines:#?}");
        assert!(lines[1].starts_with("  records/0, 1, 2, 4 and 11 more: no process says that it has it"), "{lines:#?}");
        assert!(lines[2].starts_with("  rejects/0, 1: no process says that it has it"), "{lines:#?}");
        assert!(lines[3].is_empty(), "{lines:#?}");
    }

    #[test]
    fn hostile_names_do_not_reach_the_terminal() {
        let workspace = "x\u{1b}]0;owned\u{7}\r\n\u{202e}evil".to_owned();
        let hostile = WorkspaceLag { records: 5, seconds: 0.2, exact: false, ..WorkspaceLag::none(&workspace) };
        let text = lines(&Report { workspaces: vec![hostile], ..Report::default() }, true).join("\n");
        assert!(text.contains("~5") && text.contains("estimated"), "{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{text:?}");
    }

    #[test]
    fn whose_records_wait_and_what_is_not_known_of_it() {
        let of = |name: &str, records, lanes: Vec<u32>, drain_seconds| WorkspaceLag {
            lanes,
            records,
            seconds: 61.0,
            drain_seconds,
            ..WorkspaceLag::none(name)
        };
        let mut workspaces: Vec<_> = (0..30).map(|n| of(&format!("w{n:02}"), 1_000, vec![n], Some(7.0))).collect();
        workspaces[0] = WorkspaceLag { stands: true, ..of("large", 5_000, (0..9).collect(), None) };
        workspaces[1] = of("new", 2_000, vec![3, 4], None);
        workspaces[1].throughput = Some(0.0);
        workspaces[2].throughput = Some(142.9);
        let mut others = Some(of(WorkspaceLag::OTHERS, 70, vec![8], Some(1.0)));
        others.as_mut().expect("some").throughput = Some(0.26);
        let report = Report { workspaces, others, ..report(vec![lane(0, 99, 61.0, State::Working)]) };
        let text = lines(&report, false).join("\n");
        let row = |name: &str| {
            let line = text
                .lines()
                .find(|line| line.trim_start().starts_with(name))
                .unwrap_or_else(|| panic!("{name}: {text}"));
            line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("large"), "9 lanes 5,000 1m 1s ? never");
        assert_eq!(row("new"), "3, 4 2,000 1m 1s 0 ?");
        assert_eq!(row("w02"), "2 1,000 1m 1s 143 7s");
        assert_eq!(row("(others) "), "8 70 1m 1s 0.3 1s");
        assert!(
            text.contains("… and 10 more with 10,000 records") && text.contains("not looked into in time"),
            "{text}"
        );
    }

    #[test]
    fn those_that_land_with_nothing_waiting_are_shown_when_all_are_wanted() {
        let lands = |name: &str, rate| WorkspaceLag { throughput: Some(rate), ..WorkspaceLag::none(name) };
        let workspaces: Vec<_> = (0..30).map(|n| lands(&format!("w{n:02}"), 1_234.5 - f64::from(n))).collect();
        let others = Some(lands(WorkspaceLag::OTHERS, 3.21));
        let report = Report { workspaces, others, ..report(vec![lane(0, 0, 0.0, State::UpToDate)]) };
        let all = lines(&report, true).join("\n");
        let words = |name: &str| {
            let line = all.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("{all}"));
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!((words("w00"), words("w29")), ("w00 - 0 - 1,235 -".to_owned(), "w29 - 0 - 1,206 -".to_owned()));
        assert_eq!(words("(others) "), "(others) - 0 - 3.2 -");
        assert!(all.contains("those that land the least"), "{all}");
        let few = lines(&report, false).join("\n");
        assert!(!few.contains("WORKSPACE") && few.contains("Up to date"), "{few}");
    }

    #[test]
    fn figures_are_what_people_read() {
        let rates = [0.0, 0.003, 0.05, 9.94, 9.96, 1_234.5].map(rate);
        assert_eq!(rates, ["0", "<0.1", "0.1", "9.9", "10", "1,235"]);
        let counts = [0, 999, 1_000, 1_234_567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let times = [0.2, 59.0, 60.0, 61.0, 3_600.0, 90_061.0, f64::INFINITY].map(duration);
        assert_eq!(times, ["<1s", "59s", "1m", "1m 1s", "1h", "1d 1h", "never"]);
    }
}
