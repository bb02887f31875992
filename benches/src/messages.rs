//! The real messages, and as many more like them as a measurement needs.

use anyhow::{Context, ensure};
use flate2::read::MultiGzDecoder;
use std::{fs::File, io::Read, ops::Range, path::Path};

/// Records of real conversations, one per line, as JSON text.
#[derive(Debug)]
pub struct Messages {
    text: Vec<u8>,
    lines: Vec<Line>,
}

/// Where one record is, and the places at which it is changed to make another one.
#[derive(Debug)]
struct Line {
    all: Range<usize>,
    /// End of the value of `_vendor_ids.episode`, before its quote.
    episode_end: usize,
    /// The date (`YYYY-MM-DD`) of `_event_at`.
    date: usize,
    /// Behind the brace that opens `data`.
    data: usize,
}

/// Which record: every number is another identity, and every edition another content of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    pub number: u64,
    pub edition: u32,
}

impl Messages {
    /// Reads gzipped NDJSON.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut text = Vec::new();
        MultiGzDecoder::new(file).read_to_end(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split(|byte| *byte == b'\n') {
            let all = start..start + line.len();
            start = all.end + 1;
            if !line.is_empty() {
                let read = Line::read(&text, all);
                lines.push(read.with_context(|| format!("record {} is not of the kind expected", lines.len()))?);
            }
        }
        ensure!(!lines.is_empty(), "{} holds no record", path.display());
        Ok(Self { text, lines })
    }

    /// How many there are before the first has to be changed.
    pub fn len(&self) -> u64 {
        self.lines.len() as u64
    }

    /// Appends one record and a line end. Past the first [`Self::len`] numbers its episode's name is another one;
    /// from the second edition on its `data` has one more member.
    pub fn write(&self, pick: Pick, out: &mut Vec<u8>) {
        let (line, copy) = self.line(pick.number);
        self.through_episode(line, copy, line.all.start, out);
        self.rest(line, pick.edition, out);
    }

    /// The same on the given date (`YYYY-MM-DD`).
    pub fn write_on(&self, pick: Pick, date: &str, out: &mut Vec<u8>) {
        let (line, copy) = self.line(pick.number);
        out.extend_from_slice(&self.text[line.all.start..line.date]);
        out.extend_from_slice(date.as_bytes());
        self.through_episode(line, copy, line.date + date.len(), out);
        self.rest(line, pick.edition, out);
    }

    fn line(&self, number: u64) -> (&Line, u64) {
        let place = usize::try_from(number % self.len()).unwrap_or_default();
        (&self.lines[place], number / self.len())
    }

    /// From `start` to the end of the episode's name.
    fn through_episode(&self, line: &Line, copy: u64, start: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text[start..line.episode_end]);
        if copy > 0 {
            out.extend_from_slice(format!("~{copy}").as_bytes());
        }
    }

    /// The rest.
    fn rest(&self, line: &Line, edition: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text[line.episode_end..line.data]);
        if edition > 0 {
            out.extend_from_slice(format!("\"edition\":{edition},").as_bytes());
        }
        out.extend_from_slice(&self.text[line.data..line.all.end]);
        out.push(b'\n');
    }
}

impl Line {
    fn read(text: &[u8], all: Range<usize>) -> Option<Self> {
        let behind = |marker: &str, from: usize| {
            let rest = text.get(from..all.end)?;
            let found = rest.windows(marker.len()).position(|window| window == marker.as_bytes())?;
            Some(from + found + marker.len())
        };
        let date = behind("\"_event_at\":\"", all.start)?;
        let episode = behind("\"episode\":\"", date)?;
        let episode_end = behind("\"", episode)? - 1;
        let data = behind("\"data\":{", episode_end)?;
        Some(Self { all, episode_end, date, data })
    }
}

/// In which order records and their later editions come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// As they are, each once.
    Once,
    /// Each once, then one in nineteen again in the same order with another content: 5 % overwritten, as when the
    /// same files are sent again.
    Again,
    /// One in twenty, anywhere, overwrites any one before it.
    Scattered,
    /// Each once, and each on another date than its neighbours: no two of a chunk share one.
    Dates,
}

impl Order {
    /// The record at `place` of `count`.
    pub fn pick(self, place: u64, count: u64) -> Pick {
        let (number, edition) = match self {
            Self::Once | Self::Dates => (place, 0),
            Self::Again => {
                let fresh = count - count / 20;
                if place < fresh { (place, 0) } else { ((place - fresh) * 19, 1) }
            }
            Self::Scattered if place % 20 == 19 => (scatter(place) % (place - place / 20), 1 + (place % 1_000) as u32),
            Self::Scattered => (place - place / 20, 0),
        };
        Pick { number, edition }
    }

    /// Appends the record at `place` of `count`.
    pub fn write(self, messages: &Messages, place: u64, count: u64, out: &mut Vec<u8>) {
        let pick = self.pick(place, count);
        match self {
            Self::Dates => messages.write_on(pick, &date(place), out),
            _ => messages.write(pick, out),
        }
    }
}

/// SplitMix64: the same numbers in every run.
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The `n`th date of 50,000 from 1900 on, then the same ones again.
fn date(n: u64) -> String {
    let day = i64::try_from(n % 50_000).unwrap_or_default();
    let first = jiff::civil::date(1900, 1, 1);
    first.saturating_add(jiff::Span::new().days(day)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn messages() -> Messages {
        let line = r#"{"_type":"message","_event_at":"2020-01-02T03:04:05Z","_vendor_ids":{"episode":"e","turn":"0"},"data":{"a":1}}"#;
        let text = line.as_bytes().to_vec();
        let lines = vec![Line::read(&text, 0..text.len()).unwrap()];
        Messages { text, lines }
    }

    fn written(order: Order, place: u64) -> String {
        let mut out = Vec::new();
        order.write(&messages(), place, 100, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_differ_where_they_should() {
        assert_eq!(written(Order::Once, 0).trim_end().as_bytes(), messages().text);
        assert!(written(Order::Once, 7).contains(r#""episode":"e~7","turn""#));
        let again = written(Order::Again, 96);
        assert!(again.contains(r#""episode":"e~19""#) && again.contains(r#""data":{"edition":1,"a":1}"#), "{again}");
        assert!(
            written(Order::Dates, 1).contains(r#""_event_at":"1900-01-02T03:04:05Z","_vendor_ids":{"episode":"e~1""#)
        );
    }

    #[test]
    fn one_in_twenty_overwrites_one_before_it() {
        for order in [Order::Again, Order::Scattered] {
            let mut seen = HashSet::new();
            let overwritten = (0..1_000).filter(|place| !seen.insert(order.pick(*place, 1_000).number)).count();
            assert_eq!(overwritten, 50, "{order:?}");
        }
    }
}
