//! `tributary lake …`: the upkeep of the Delta tables.

use crate::{
    cli::Place,
    control::{self, Answer, CheckedTable, Request},
    keys::parse_name,
    output,
};
use anyhow::bail;
use clap::{Args, Subcommand, builder::BoolishValueParser};
use std::process::ExitCode;

const PATH_EXAMPLES: &str = "Examples:
  tributary lake path
  tributary lake path --workspace acme";
const CHECK_EXAMPLES: &str = "Examples:
  tributary lake check
  tributary lake check --workspace acme --json

Exit code 1 when something disagrees.";
const REBUILD_EXAMPLES: &str = "Examples:
  tributary lake rebuild-index
  tributary lake rebuild-index --workspace acme

The index is derived from the lake and can always be made anew. While `tributary up` runs, its lanes
rest until that is done; the API goes on accepting.";
const EXAMPLES: &str = "Examples:
  tributary lake path --workspace acme
  tributary lake check
  tributary lake rebuild-index

They work whether or not `tributary up` runs on the data directory.";

/// Find, check and repair the lake's tables.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum LakeCommand {
    /// Print the URL of a workspace's table
    #[command(after_help = PATH_EXAMPLES)]
    Path(PathArgs),
    /// Prove that files, deletion vectors, counters and key index agree
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Make the key index anew from the lake
    #[command(after_help = REBUILD_EXAMPLES)]
    RebuildIndex(RebuildArgs),
}

/// Whose table.
#[derive(Debug, Args)]
pub struct PathArgs {
    /// The workspace
    #[arg(long, env = "TRIBUTARY_WORKSPACE", value_name = "NAME", default_value = "default", value_parser = parse_name)]
    pub workspace: String,
    #[command(flatten)]
    pub place: Place,
}

/// Which tables to check.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Only the table of this workspace
    #[arg(long, env = "TRIBUTARY_WORKSPACE", value_name = "NAME", value_parser = parse_name)]
    pub workspace: Option<String>,
    /// Print one JSON array
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

/// Which indexes to make anew.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// Only the index of this workspace
    #[arg(long, env = "TRIBUTARY_WORKSPACE", value_name = "NAME", value_parser = parse_name)]
    pub workspace: Option<String>,
    /// Print one JSON array
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

/// Runs `tributary lake …`.
pub async fn run(command: LakeCommand) -> anyhow::Result<ExitCode> {
    match command {
        LakeCommand::Path(args) => path(args).await,
        LakeCommand::Check(args) => check(args).await,
        LakeCommand::RebuildIndex(args) => rebuild_index(args).await,
    }
}

async fn path(args: PathArgs) -> anyhow::Result<ExitCode> {
    let request = Request::TableUrl { workspace: args.workspace };
    let Answer::TableUrl(url) = control::ask(&args.place, request).await? else { bail!(control::OTHER_VERSION) };
    output::line(&url);
    Ok(ExitCode::SUCCESS)
}

async fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let request = Request::CheckLake { workspace: args.workspace };
    let Answer::Checked(tables) = control::ask(&args.place, request).await? else { bail!(control::OTHER_VERSION) };
    if args.json {
        output::json(&tables)?;
    } else {
        tables.iter().flat_map(report).for_each(|line| output::line(&line));
        if tables.is_empty() {
            output::note("the lake has no tables yet");
        }
    }
    let sound = tables.iter().all(|table| table.finding_count == 0);
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The lines about one table.
fn report(table: &CheckedTable) -> Vec<String> {
    let verdict = match table.finding_count {
        0 => "all agrees".to_owned(),
        1 => "1 finding".to_owned(),
        many => format!("{many} findings"),
    };
    let CheckedTable { workspace, version, files, live_rows, newer_entries, .. } = table;
    let entries = table.index_entries.saturating_sub(*newer_entries);
    let newer = if *newer_entries > 0 { format!(" ({newer_entries} more of later versions)") } else { String::new() };
    // A table that cannot be read has no figures.
    let unread = (*version, *files, table.finding_count > 0) == (0, 0, true);
    let head = if unread {
        format!("{workspace}: {verdict}")
    } else {
        format!(
            "{workspace}: version {version}, {files} files, {live_rows} rows, {entries} index entries{newer}: {verdict}"
        )
    };
    let unlisted = table.finding_count.saturating_sub(table.findings.len() as u64);
    let more = (unlisted > 0).then(|| format!("  - and {unlisted} more"));
    let findings = table.findings.iter().map(|finding| format!("  - {finding}"));
    std::iter::once(head).chain(findings).chain(more).collect()
}

async fn rebuild_index(args: RebuildArgs) -> anyhow::Result<ExitCode> {
    let request = Request::RebuildIndex { workspace: args.workspace };
    let Answer::IndexRebuilt(rebuilt) = control::ask(&args.place, request).await? else {
        bail!(control::OTHER_VERSION);
    };
    if args.json {
        output::json(&rebuilt)?;
    } else {
        for index in &rebuilt {
            output::line(&format!("{}: {} identities indexed", index.workspace, index.entries));
        }
        if rebuilt.is_empty() {
            output::note("the lake has no tables yet");
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_lists_every_finding() {
        let mut table = CheckedTable {
            workspace: "acme".to_owned(),
            version: 7,
            files: 3,
            live_rows: 40,
            deleted_rows: 2,
            index_entries: 40,
            newer_entries: 0,
            landed: 40,
            finding_count: 0,
            findings: Vec::new(),
        };
        assert_eq!(report(&table), ["acme: version 7, 3 files, 40 rows, 40 index entries: all agrees"]);
        // Lanes go on meanwhile.
        table.index_entries = 43;
        table.newer_entries = 3;
        let later = "acme: version 7, 3 files, 40 rows, 40 index entries (3 more of later versions): all agrees";
        assert_eq!(report(&table), [later]);
        table.finding_count = 3;
        table.findings = vec!["one".to_owned(), "two".to_owned()];
        let lines = report(&table);
        assert!(lines[0].ends_with(": 3 findings"));
        assert_eq!(lines[1..], ["  - one", "  - two", "  - and 1 more"]);
    }
}
