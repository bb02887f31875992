//! `lake check`: proves that index, deletion vectors, files and counters agree.
//!
//! For every table, at one version:
//!
//! * its files are there, with the size that the log gives, and their keys can be read;
//! * no identity has two live rows;
//! * the index entry of each identity points at its live row, and there are no others;
//! * live rows = the sum of what the lanes' counters say has landed.
//!
//! The index may be behind the table (a crash between commit and index): rows that came after its watermark may still
//! be missing from it. While lanes run it may also be ahead: entries of later versions are not judged.

use crate::{
    index,
    lake::{KeyRow, Lake, LakeError, Table},
    trouble::Trouble,
};
use std::collections::HashSet;
use tributary_backends::tables::{IndexPart, Location, Tables};
use tributary_schemas::identity::Identity;
use uuid::Uuid;

/// Findings that are listed one by one; all are counted.
const LISTED: usize = 100;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// One per table.
    pub tables: Vec<TableReport>,
}

impl Report {
    /// True when everything agrees.
    pub fn is_sound(&self) -> bool {
        self.tables.iter().all(|table| table.finding_count == 0)
    }
}

/// What was found in one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct TableReport {
    /// Whose.
    pub workspace: String,
    /// Version that was checked.
    pub version: u64,
    /// Live files.
    pub files: u64,
    /// Rows that a reader sees.
    pub live_rows: u64,
    /// Rows that deletion vectors mark.
    pub deleted_rows: u64,
    /// Index entries.
    pub index_entries: u64,
    /// Index entries of versions after the one checked: lanes are at work.
    pub newer_entries: u64,
    /// Sum of the lanes' counters of first rows.
    pub landed: u64,
    /// Everything that does not agree.
    pub finding_count: u64,
    /// The first hundred of it, in words.
    pub findings: Vec<String>,
}

impl TableReport {
    fn find(&mut self, finding: String) {
        self.finding_count += 1;
        if self.findings.len() < LISTED {
            self.findings.push(finding);
        }
    }
}

/// Checks every table, or one workspace's.
///
/// # Errors
/// What a backend said that is away or refuses; everything that is only wrong is a finding.
pub async fn run(lake: &Lake, tables: &dyn Tables, workspace: Option<&str>) -> Result<Report, Trouble> {
    let workspaces = match workspace {
        Some(workspace) => vec![workspace.to_owned()],
        None => lake.workspaces().await?,
    };
    let mut report = Report::default();
    for workspace in workspaces {
        match lake.existing(&workspace).await {
            Ok(None) => {}
            Ok(Some(table)) => report.tables.push(check_table(tables, &table, &workspace).await?),
            Err(error) => {
                let mut table = TableReport { workspace, ..TableReport::default() };
                table.find(finding(error)?);
                report.tables.push(table);
            }
        }
    }
    Ok(report)
}

/// What is wrong is a finding; what is away is not.
fn finding(error: LakeError) -> Result<String, Trouble> {
    match error {
        LakeError::Corrupt { .. } => Ok(error.to_string()),
        error => Err(error.into()),
    }
}

async fn check_table(tables: &dyn Tables, table: &Table, workspace: &str) -> Result<TableReport, Trouble> {
    let files = table.files();
    let mut report = TableReport {
        workspace: workspace.to_owned(),
        version: table.version(),
        files: files.len() as u64,
        live_rows: files.iter().map(|file| file.rows.saturating_sub(file.deleted)).sum(),
        deleted_rows: files.iter().map(|file| file.deleted).sum(),
        landed: index::landed(table),
        ..TableReport::default()
    };
    for wrong in table.missing_or_resized().await? {
        report.find(finding(wrong)?);
    }
    if report.landed != report.live_rows {
        report.find(format!("{} rows are live, but {} identities have landed", report.live_rows, report.landed));
    }
    for lane in index::lanes(table) {
        let part = IndexPart { workspace: workspace.to_owned(), lane };
        check_lane(tables, table, &part, &mut report).await?;
    }
    Ok(report)
}

async fn check_lane(
    tables: &dyn Tables,
    table: &Table,
    part: &IndexPart,
    report: &mut TableReport,
) -> Result<(), Trouble> {
    let watermark = tables.watermark(part).await?;
    let (mut rows, mut late) = (Rows::default(), HashSet::new());
    let read = async {
        table.keys_since(part.lane, None, &mut |keys| rows.add(keys)).await?;
        if watermark.is_none_or(|watermark| watermark < table.version()) {
            table
                .keys_since(part.lane, watermark, &mut |keys| late.extend(keys.first().map(|key| key.location.file)))
                .await?;
        }
        Ok::<_, LakeError>(())
    };
    if let Err(error) = read.await {
        report.find(finding(error)?);
        return Ok(());
    }
    rows.sort();
    for (identity, count) in rows.twice() {
        report.find(format!("lane {}: {} has {count} live rows", part.lane, hex(&identity)));
    }
    let mut merge = Merge { rows: &rows, next: 0, late: &late, version: table.version(), lane: part.lane, report };
    tables.scan(part, &mut |entries| merge.entries(entries)).await?;
    merge.end();
    Ok(())
}

/// Live rows of a lane, compact: a table of 10 million keys takes 240 MB here.
#[derive(Default)]
struct Rows {
    files: Vec<Uuid>,
    /// Identity, place in `files`, row.
    keys: Vec<([u8; 16], u32, u32)>,
}

impl Rows {
    /// Takes a slice of one file.
    fn add(&mut self, keys: &[KeyRow]) {
        let Some(first) = keys.first() else { return };
        if self.files.last() != Some(&first.location.file) {
            self.files.push(first.location.file);
        }
        let file = u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX);
        self.keys.extend(keys.iter().map(|key| (key.identity.0, file, key.location.row)));
    }

    fn sort(&mut self) {
        self.keys.sort_unstable();
    }

    fn file(&self, place: u32) -> Uuid {
        self.files.get(place as usize).copied().unwrap_or_default()
    }

    /// Identities with more than one row.
    fn twice(&self) -> impl Iterator<Item = (Identity, usize)> {
        self.keys
            .chunk_by(|a, b| a.0 == b.0)
            .filter(|rows| rows.len() > 1)
            .map(|rows| (Identity(rows[0].0), rows.len()))
    }
}

/// Walks sorted rows and index entries, which come in key order, side by side.
struct Merge<'a> {
    rows: &'a Rows,
    next: usize,
    late: &'a HashSet<Uuid>,
    version: u64,
    lane: u32,
    report: &'a mut TableReport,
}

impl Merge<'_> {
    fn entries(&mut self, entries: &[(Identity, Location)]) {
        for (identity, location) in entries {
            self.rows_before(Some(identity));
            self.entry(identity, location);
        }
    }

    fn end(&mut self) {
        self.rows_before(None);
    }

    /// Rows of identities that the index passed over.
    fn rows_before(&mut self, identity: Option<&Identity>) {
        while let Some((key, file, row)) = self.rows.keys.get(self.next)
            && identity.is_none_or(|identity| *key < identity.0)
        {
            self.next += 1;
            let file = self.rows.file(*file);
            if !self.late.contains(&file) {
                let key = hex(&Identity(*key));
                self.report.find(format!("lane {}: the index has no entry for {key} (row {row} of {file})", self.lane));
            }
        }
    }

    fn entry(&mut self, identity: &Identity, location: &Location) {
        self.report.index_entries += 1;
        let rest = self.rows.keys.get(self.next..).unwrap_or_default();
        let rows = &rest[..rest.iter().take_while(|(key, ..)| *key == identity.0).count()];
        self.next += rows.len();
        if location.table_version > self.version {
            self.report.newer_entries += 1;
            return;
        }
        let points_at =
            |(_, file, row): &([u8; 16], u32, u32)| self.rows.file(*file) == location.file && *row == location.row;
        let late = rows.iter().any(|(_, file, _)| self.late.contains(&self.rows.file(*file)));
        if !late && !rows.iter().any(points_at) {
            let what = if rows.is_empty() { "has no live row" } else { "is elsewhere" };
            let (key, Location { row, file, .. }) = (hex(identity), location);
            self.report.find(format!("lane {}: the index has {key} in row {row} of {file}, which {what}", self.lane));
        }
    }
}

fn hex(identity: &Identity) -> String {
    format!("{:032x}", u128::from_be_bytes(identity.0))
}
