//! Rejected records go to two files side by side: `x.ndjson` with the records as they were, one per line, ready to be
//! corrected and sent again; and `x.errors.ndjson` with a line for each of them that says what is wrong:
//! `{"line":1,"input":"a.ndjson.gz","at":17,"errors":[{"code":…,"message":…}]}`, where `line` counts in `x.ndjson`
//! (null when the record is too long to be repeated) and `at` is its line, or its place, in the input.

use super::{
    journal::Marks,
    plan::{Batch, Origin},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use tributary_schemas::{api::RecordError, record};

/// One error of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A stable code.
    pub code: String,
    /// What was expected and what came.
    pub message: String,
}

/// A rejected record.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected<'a> {
    /// As it was, if it can be repeated.
    pub text: Option<&'a [u8]>,
    /// Where it comes from.
    pub origin: Origin,
    /// What is wrong with it.
    pub reasons: Vec<Reason>,
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    line: Option<u64>,
    input: &'a str,
    at: u64,
    errors: &'a [Reason],
}

/// The two files, made with the first rejected record.
#[derive(Debug)]
pub struct RejectedFiles {
    records: PathBuf,
    errors: PathBuf,
    open: Option<(File, File)>,
    marks: Marks,
}

impl RejectedFiles {
    /// Files that hold what was in them at `marks`; what a killed run wrote after that is cut off.
    pub fn new(records: &Path, marks: Marks) -> Self {
        Self { records: records.to_owned(), errors: errors_path(records), open: None, marks }
    }

    /// Where the records are.
    pub fn records(&self) -> &Path {
        &self.records
    }

    /// Where the errors are.
    pub fn errors(&self) -> &Path {
        &self.errors
    }

    /// Lengths now.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// Adds records; `inputs` are the inputs' names.
    ///
    /// # Errors
    /// The disk says no.
    pub fn add(&mut self, rejected: &[Rejected<'_>], inputs: &[String]) -> io::Result<()> {
        if rejected.is_empty() {
            return Ok(());
        }
        let (mut records, mut errors, mut lines) = (Vec::new(), Vec::new(), self.marks.lines);
        for one in rejected {
            if let Some(text) = one.text {
                lines += 1;
                records.extend(text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
                records.push(b'\n');
            }
            let line = one.text.map(|_| lines);
            let input = inputs.get(one.origin.input).map_or("", String::as_str);
            serde_json::to_writer(&mut errors, &ErrorLine { line, input, at: one.origin.at, errors: &one.reasons })?;
            errors.push(b'\n');
        }
        let (records_file, errors_file) = self.files()?;
        records_file.write_all(&records)?;
        errors_file.write_all(&errors)?;
        self.marks.lines = lines;
        self.marks.records += records.len() as u64;
        self.marks.errors += errors.len() as u64;
        Ok(())
    }

    fn files(&mut self) -> io::Result<&mut (File, File)> {
        if self.open.is_none() {
            self.open = Some((at(&self.records, self.marks.records)?, at(&self.errors, self.marks.errors)?));
        }
        self.open.as_mut().ok_or_else(|| io::Error::other("the files of rejected records are not open"))
    }
}

/// Opens a file to go on at `length`.
fn at(path: &Path, length: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.set_len(length)?;
    file.seek(SeekFrom::Start(length))?;
    Ok(file)
}

/// `x.ndjson` → `x.errors.ndjson`.
pub fn errors_path(records: &Path) -> PathBuf {
    records.with_extension("errors.ndjson")
}

/// `dir/a.ndjson.gz` → `a.rejected.ndjson` in the current directory; many inputs → `rejected.ndjson`. A file that is
/// there already, perhaps half corrected, is left alone: `a.rejected-2.ndjson`.
pub fn default_path(inputs: &[PathBuf]) -> PathBuf {
    let stem = match inputs {
        [one] if one.as_os_str() != "-" => {
            let name = one.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let ends = [".gz", ".zst", ".zstd", ".ndjson", ".jsonl", ".json"];
            let stem = ends.iter().fold(name.as_str(), |name, end| name.strip_suffix(end).unwrap_or(name));
            format!("{stem}.rejected")
        }
        _ => "rejected".to_owned(),
    };
    let names = std::iter::once(format!("{stem}.ndjson")).chain((2..).map(|n| format!("{stem}-{n}.ndjson")));
    let mut free = names.map(PathBuf::from).filter(|path| !path.exists() && !errors_path(path).exists());
    free.next().unwrap_or_else(|| PathBuf::from("rejected.ndjson"))
}

/// Which records of a batch were rejected and why, from the answer's count and its first errors (`total` counts all).
/// Where the answer does not show every error, or not as fully, the records are validated here, by the same code.
pub fn of_batch<'a>(batch: &'a Batch, count: u64, shown: &[RecordError], total: u64) -> Vec<Rejected<'a>> {
    let mut found: BTreeMap<usize, Vec<Reason>> = BTreeMap::new();
    for error in shown {
        let reason = Reason { code: error.code.clone(), message: error.message.clone() };
        found.entry(error.index as usize).or_default().push(reason);
    }
    let complete = shown.len() as u64 == total;
    if count > 0 {
        for (index, slot) in batch.slots.iter().enumerate() {
            if complete && !found.contains_key(&index) {
                continue;
            }
            if let Err(errors) = record::parse(batch.record(slot)) {
                let own =
                    |error: record::FieldError| Reason { code: error.code.as_str().into(), message: error.message };
                found.insert(index, errors.into_iter().map(own).collect());
            }
        }
    }
    let known = |(index, reasons)| {
        let slot = batch.slots.get(index)?;
        Some(Rejected { text: Some(batch.record(slot)), origin: slot.origin, reasons })
    };
    found.into_iter().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(text: &[u8], at: u64) -> Rejected<'_> {
        let reasons = vec![Reason { code: "VALIDATION_ERROR".into(), message: "no".into() }];
        Rejected { text: Some(text), origin: Origin { input: 0, at }, reasons }
    }

    fn batch(records: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for (at, record) in records.iter().enumerate() {
            let start = batch.text.len();
            batch.text.extend_from_slice(record.as_bytes());
            let origin = Origin { input: 0, at: at as u64 + 1 };
            batch.slots.push(crate::send::plan::Slot { range: start..batch.text.len(), origin });
        }
        batch
    }

    #[test]
    fn a_resumed_run_cuts_off_what_was_not_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ndjson");
        let inputs = ["in".to_owned()];
        let mut first = RejectedFiles::new(&path, Marks::default());
        first.add(&[rejected(b"{\n}", 3), rejected(b"\xff", 4)], &inputs).unwrap();
        let noted = first.marks();
        first.add(&[rejected(b"lost", 5)], &inputs).unwrap();
        drop(first);
        let mut second = RejectedFiles::new(&path, noted);
        second.add(&[rejected(b"again", 5)], &inputs).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{ }\n\xff\nagain\n");
        let errors = std::fs::read_to_string(dir.path().join("x.errors.ndjson")).unwrap();
        let lines: Vec<serde_json::Value> = errors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[2],
            serde_json::json!({"line": 3, "input": "in", "at": 5, "errors": [{"code": "VALIDATION_ERROR", "message": "no"}]})
        );
    }

    #[test]
    fn nothing_rejected_makes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ndjson");
        RejectedFiles::new(&path, Marks::default()).add(&[], &[]).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn names() {
        let path = |names: &[&str]| default_path(&names.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(path(&["/nowhere/a.ndjson.gz"]), PathBuf::from("a.rejected.ndjson"));
        assert_eq!(path(&["a.json", "b.json"]), PathBuf::from("rejected.ndjson"));
        assert_eq!(path(&["-"]), PathBuf::from("rejected.ndjson"));
        assert_eq!(errors_path(Path::new("d/a.rejected.ndjson")), PathBuf::from("d/a.rejected.errors.ndjson"));
    }

    #[test]
    fn more_errors_than_the_answer_shows_are_found_here() {
        let batch = batch(&["{", "{\"_type\":1}", "[]"]);
        let shown = [RecordError { index: 0, code: "INVALID_JSON".into(), message: "from the server".into() }];
        let all = of_batch(&batch, 3, &shown, 12);
        assert_eq!(all.iter().map(|one| one.origin.at).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(all.iter().all(|one| !one.reasons.is_empty()));
        let only = of_batch(&batch, 1, &shown, 1);
        assert_eq!(only.iter().map(|one| one.origin.at).collect::<Vec<_>>(), [1], "the server decides who is rejected");
    }

    #[test]
    fn what_only_the_server_rejects_keeps_its_reason() {
        let good = r#"{"_type":"message","_schema_version":"1.0.0","_event_at":"2020-01-01T00:00:00Z","_vendor_ids":{"a":"1"},"_product_id":"p","_project_id":"q","data":{}}"#;
        let shown = [RecordError { index: 0, code: "VALIDATION_ERROR".into(), message: "a newer rule".into() }];
        let batch = batch(&[good]);
        let all = of_batch(&batch, 1, &shown, 1);
        assert_eq!(all[0].reasons, [Reason { code: "VALIDATION_ERROR".into(), message: "a newer rule".into() }]);
    }
}
