//! The actions of a Delta commit that the lake reads and writes, and a commit file as text.
//!
//! A commit of ours says in its first line how many actions follow and their CRC32C, so that a commit file which lost
//! its end or changed a byte is found, whatever wrote to the disk.

use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::collections::BTreeMap;
use uuid::Uuid;

/// One line of a commit file. Actions that are not listed here do not change which rows are live.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Action {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) add: Option<Add>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remove: Option<Remove>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) txn: Option<Txn>,
    #[serde(skip_serializing)]
    pub(super) protocol: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) meta_data: Option<IgnoredAny>,
}

/// A file that becomes live, or gets another deletion vector.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    /// Percent-encoded, below the table's root.
    pub(super) path: String,
    pub(super) partition_values: BTreeMap<String, Option<String>>,
    pub(super) size: u64,
    pub(super) modification_time: i64,
    pub(super) data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stats: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deletion_vector: Option<Vector>,
}

/// A file that is no longer live in this form.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    pub(super) path: String,
    pub(super) deletion_timestamp: Option<i64>,
    #[serde(default)]
    pub(super) data_change: bool,
    pub(super) extended_file_metadata: Option<bool>,
    pub(super) partition_values: Option<BTreeMap<String, Option<String>>>,
    pub(super) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deletion_vector: Option<Vector>,
}

/// Where a deletion vector is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Vector {
    pub(super) storage_type: String,
    pub(super) path_or_inline_dv: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<i32>,
    pub(super) size_in_bytes: i32,
    pub(super) cardinality: i64,
}

/// An application's progress.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Txn {
    pub(super) app_id: String,
    pub(super) version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_updated: Option<i64>,
}

/// As much is told of what another writer says of itself.
const MAX_WRITER_CHARS: usize = 60;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FirstLine {
    commit_info: CommitInfo,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommitInfo {
    timestamp: Option<i64>,
    operation: Option<String>,
    #[serde(default)]
    operation_parameters: BTreeMap<String, serde_json::Value>,
    engine_info: Option<String>,
    /// Tells this commit from any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    txn_id: Option<String>,
    /// Only in our own commits.
    #[serde(skip_serializing_if = "Option::is_none")]
    tributary: Option<Seal>,
}

/// What the rest of the commit file must be.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    actions: usize,
    crc32c: u32,
}

/// The text of a commit file: `timestamp` in milliseconds, then one line for each action. `id` is this commit's alone.
pub(super) fn to_commit<T: Serialize>(
    timestamp: i64,
    operation: &str,
    id: Uuid,
    actions: &[T],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut body = Vec::with_capacity(actions.len() * 700);
    for action in actions {
        serde_json::to_writer(&mut body, action)?;
        body.push(b'\n');
    }
    let first = FirstLine {
        commit_info: CommitInfo {
            timestamp: Some(timestamp),
            operation: Some(operation.to_owned()),
            operation_parameters: BTreeMap::new(),
            engine_info: Some(concat!("Tributary/", env!("CARGO_PKG_VERSION")).to_owned()),
            txn_id: Some(id.to_string()),
            tributary: Some(Seal { actions: actions.len(), crc32c: crc32c::crc32c(&body) }),
        },
    };
    let mut text = serde_json::to_vec(&first)?;
    text.push(b'\n');
    text.append(&mut body);
    Ok(text)
}

/// Whether a commit file was written under this id.
pub(super) fn is_of(text: &[u8], id: Uuid) -> bool {
    let first = serde_json::from_slice::<FirstLine>(lines(text).0);
    first.is_ok_and(|first| first.commit_info.txn_id.is_some_and(|of| of == id.to_string()))
}

/// Who wrote a commit file, and what it says that it did, for people. Both are anybody's text.
pub(super) fn writer(text: &[u8]) -> String {
    // Delta lets it stand in any line.
    let info = text.split(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice::<FirstLine>(line).ok());
    let short = |text: String| text.chars().take(MAX_WRITER_CHARS).collect::<String>();
    let (engine, operation) = info.map(|line| (line.commit_info.engine_info, line.commit_info.operation)).unzip();
    let engine = engine.flatten().map_or_else(|| "a program that does not say its name".to_owned(), short);
    operation.flatten().map(short).map_or_else(|| engine.clone(), |operation| format!("{engine} ({operation})"))
}

/// The first line, and the rest.
fn lines(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &[][..]),
    }
}

/// Reads a commit file back; the error says what is wrong with it.
pub(super) fn from_commit(text: &[u8]) -> Result<Vec<Action>, String> {
    let (first, body) = lines(text);
    if first.trim_ascii().is_empty() {
        return Err("it starts with an empty line".to_owned());
    }
    let mut actions = Vec::new();
    match serde_json::from_slice::<FirstLine>(first) {
        Ok(FirstLine { commit_info: CommitInfo { tributary: Some(seal), .. } }) => check_seal(&seal, body)?,
        // Written by something else: any action may come first.
        _ => actions.push(parse_line(1, first)?),
    }
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if !line.trim_ascii().is_empty() {
            actions.push(parse_line(index + 2, line)?);
        }
    }
    Ok(actions)
}

fn parse_line(number: usize, line: &[u8]) -> Result<Action, String> {
    serde_json::from_slice(line).map_err(|error| format!("line {number} is not a Delta action: {error}"))
}

fn check_seal(seal: &Seal, body: &[u8]) -> Result<(), String> {
    let found = Seal { actions: body.iter().filter(|byte| **byte == b'\n').count(), crc32c: crc32c::crc32c(body) };
    if found == *seal {
        return Ok(());
    }
    Err(format!(
        "{} actions with CRC32C {:08x} were written, {} with {:08x} are there",
        seal.actions, seal.crc32c, found.actions, found.crc32c
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txn(version: i64) -> Action {
        Action { txn: Some(Txn { app_id: "lane-0".into(), version, last_updated: None }), ..Action::default() }
    }

    #[test]
    fn a_commit_reads_back() {
        let text = to_commit(1, "WRITE", Uuid::nil(), &[txn(5), txn(6)]).unwrap();
        let versions: Vec<_> =
            from_commit(&text).unwrap().iter().filter_map(|a| Some(a.txn.as_ref()?.version)).collect();
        assert_eq!(versions, [5, 6]);
        assert!(is_of(&text, Uuid::nil()) && !is_of(&text, Uuid::max()) && !is_of(b"", Uuid::nil()));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_found() {
        let text = to_commit(1, "WRITE", Uuid::nil(), &[txn(5), txn(6)]).unwrap();
        let body = text.iter().position(|b| *b == b'\n').unwrap() + 1;
        for end in 0..text.len() {
            assert!(from_commit(&text[..end]).is_err(), "cut at {end}");
        }
        for place in body..text.len() {
            let mut changed = text.clone();
            changed[place] ^= 1;
            assert!(from_commit(&changed).is_err(), "changed at {place}");
        }
    }

    #[test]
    fn a_commit_of_another_writer_reads() {
        let text = b"{\"commitInfo\":{\"operation\":\"OPTIMIZE\"}}\n{\"txn\":{\"appId\":\"a\",\"version\":3}}\n{\"unknown\":{}}\n";
        let actions = from_commit(text).unwrap();
        assert_eq!(actions.len(), 3);
        assert_eq!(actions[1].txn.as_ref().unwrap().version, 3);
    }

    #[test]
    fn a_commit_says_who_wrote_it() {
        let ours = to_commit(1, "WRITE", Uuid::nil(), &[txn(5)]).unwrap();
        assert_eq!(writer(&ours), concat!("Tributary/", env!("CARGO_PKG_VERSION"), " (WRITE)"));
        let theirs =
            b"{\"unknown\":{}}\n{\"commitInfo\":{\"operation\":\"OPTIMIZE\",\"engineInfo\":\"Apache-Spark/3.5\"}}";
        assert_eq!(writer(theirs), "Apache-Spark/3.5 (OPTIMIZE)");
        assert_eq!(writer(b"{\"commitInfo\":{}}"), "a program that does not say its name");
        assert_eq!(writer(b"\xff"), "a program that does not say its name");
        let long = format!("{{\"commitInfo\":{{\"engineInfo\":\"{}\"}}}}", "\u{e9}".repeat(1_000));
        assert_eq!(writer(long.as_bytes()).chars().count(), MAX_WRITER_CHARS);
    }
}
