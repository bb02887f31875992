//! `tributary batches …`: what the API says about batches, for people (tables) and scripts (`--json`).

use crate::{cli::Remote, output};
use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum, builder::BoolishValueParser};
use client::{Client, Trouble};
use std::{process::ExitCode, time::Duration};
use tokio::time::Instant;
use tributary_schemas::{
    api::{BatchPage, BatchView, RejectPage, RejectedRecord},
    batch::BatchStatus,
};

mod client;

const LIST_EXAMPLES: &str = "Examples:
  tributary batches list
  tributary batches list --limit 100 --json
  tributary batches list --all";
const SHOW_EXAMPLES: &str = "Examples:
  tributary batches show 0198c0de-0000-7000-8000-000000000000
  tributary batches show 0198c0de-0000-7000-8000-000000000000 --json";
const REJECTS_EXAMPLES: &str = "Examples:
  tributary batches rejects 0198c0de-0000-7000-8000-000000000000
  tributary batches rejects 0198c0de-0000-7000-8000-000000000000 --json";
const WAIT_EXAMPLES: &str = "Examples:
  tributary batches wait 0198c0de-0000-7000-8000-000000000000
  tributary batches wait 0198c0de-0000-7000-8000-000000000000 --until landed --timeout 5m

Exit code 0 once it is so, 1 when the batch failed or the time is up.";
const EXAMPLES: &str = "Examples:
  tributary batches list --key em_sk_0123
  tributary batches show 0198c0de-0000-7000-8000-000000000000 --key em_sk_0123
  tributary batches wait 0198c0de-0000-7000-8000-000000000000 --key em_sk_0123

The key may stand in TRIBUTARY_KEY, the address of the API in TRIBUTARY_URL.";

/// Longest that one long poll waits; the API allows no more.
const LONG_POLL: Duration = Duration::from_secs(30);

/// Follow batches and read their rejected records.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum BatchesCommand {
    /// List batches, newest first
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one batch
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// List the rejected records of a batch with all their errors
    #[command(after_help = REJECTS_EXAMPLES)]
    Rejects(ShowArgs),
    /// Wait until a batch has landed or is complete
    #[command(after_help = WAIT_EXAMPLES)]
    Wait(WaitArgs),
}

/// How many batches to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// At most this many
    #[arg(long, env = "TRIBUTARY_LIMIT", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// All there are
    #[arg(long, env = "TRIBUTARY_ALL", value_parser = BoolishValueParser::new())]
    pub all: bool,
    /// Print one JSON object per line
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub remote: Remote,
}

/// Which batch.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The batch's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print JSON: one object (of rejects: one per line)
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub remote: Remote,
}

/// What to wait for.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The batch's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// What to wait for
    #[arg(long, env = "TRIBUTARY_UNTIL", value_name = "STATUS", default_value = "complete", ignore_case = true)]
    pub until: Goal,
    /// How long, for example 30s or 5m
    #[arg(long, env = "TRIBUTARY_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = crate::cli::duration)]
    pub timeout: Duration,
    /// Print the batch as JSON
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub remote: Remote,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Goal {
    /// Every accepted record can be read in the lake
    Landed,
    /// Landed, and every processor has done its work
    Complete,
}

impl Goal {
    /// The name that the API knows it by.
    fn name(self) -> &'static str {
        match self {
            Self::Landed => "LANDED",
            Self::Complete => "COMPLETE",
        }
    }

    fn reached(self, status: BatchStatus) -> bool {
        match status {
            BatchStatus::Landing | BatchStatus::Failed => false,
            BatchStatus::Landed | BatchStatus::Processing => self == Self::Landed,
            BatchStatus::Complete => true,
        }
    }
}

/// Runs `tributary batches …`.
pub async fn run(command: BatchesCommand) -> anyhow::Result<ExitCode> {
    match command {
        BatchesCommand::List(args) => list(args).await,
        BatchesCommand::Show(args) => show(args).await,
        BatchesCommand::Rejects(args) => rejects(args).await,
        BatchesCommand::Wait(args) => wait(args).await,
    }
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let mut left = if args.all { u64::MAX } else { args.limit };
    let (mut cursor, mut rows) = (None, Vec::new());
    while left > 0 {
        let mut query = vec![("limit", left.min(100).to_string())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: BatchPage = client.get(&["ingest", "batches"], &query).await?;
        left = left.saturating_sub(page.batches.len() as u64);
        for batch in page.batches {
            if args.json {
                output::json(&batch)?;
            } else {
                rows.push(row(&batch));
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if !args.json {
        output::table(&["BATCH", "STATUS", "CREATED", "TYPE", "SOURCE", "ACCEPTED", "REJECTED", "ERRORS"], rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn row(batch: &BatchView) -> Vec<String> {
    vec![
        batch.batch_id.clone(),
        status_name(batch.status).to_owned(),
        output::time(batch.created_at),
        batch.kind.clone().unwrap_or_default(),
        batch.source.clone().unwrap_or_default(),
        batch.accepted_count.to_string(),
        batch.rejected_count.to_string(),
        batch.total_error_count.to_string(),
    ]
}

fn status_name(status: BatchStatus) -> &'static str {
    match status {
        BatchStatus::Landing => "LANDING",
        BatchStatus::Landed => "LANDED",
        BatchStatus::Processing => "PROCESSING",
        BatchStatus::Complete => "COMPLETE",
        BatchStatus::Failed => "FAILED",
    }
}

async fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let batch: BatchView = client.get(&["ingest", "batches", &args.id], &[]).await?;
    print(&batch, args.json)?;
    Ok(ExitCode::SUCCESS)
}

fn print(batch: &BatchView, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(batch);
    }
    let mut lines = vec![
        ("batch", batch.batch_id.clone()),
        ("status", status_name(batch.status).to_owned()),
        ("created", output::time(batch.created_at)),
        ("type", batch.kind.clone().unwrap_or_default()),
        ("source", batch.source.clone().unwrap_or_default()),
        ("accepted", batch.accepted_count.to_string()),
        ("rejected", batch.rejected_count.to_string()),
        ("errors", batch.total_error_count.to_string()),
    ];
    if let Some(total) = batch.attachment_download_total {
        let part = |count: Option<u32>| count.unwrap_or(0);
        let state = batch.attachment_download_status.as_deref().unwrap_or("unknown");
        let (complete, failed) = (part(batch.attachment_download_complete), part(batch.attachment_download_failed));
        lines.push(("attachments", format!("{state}: {complete} of {total}, {failed} failed")));
    }
    for (name, value) in lines {
        output::line(&format!("{name:<12}{value}"));
    }
    for error in batch.errors.iter().flatten() {
        output::line(&format!("  record {}: {}: {}", error.index, error.code, error.message));
    }
    Ok(())
}

async fn rejects(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let (mut cursor, mut count): (Option<String>, u64) = (None, 0);
    loop {
        let query: Vec<_> = cursor.map(|cursor| ("cursor", cursor)).into_iter().collect();
        let page: RejectPage = client.get(&["ingest", "batches", &args.id, "rejects"], &query).await?;
        for reject in &page.rejects {
            count += 1;
            if args.json {
                output::json(reject)?;
            } else {
                described(reject).iter().for_each(|line| output::line(line));
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if !args.json {
        output::note(&format!("{count} rejected"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The lines about one rejected record.
fn described(reject: &RejectedRecord) -> Vec<String> {
    let line = reject.line.map(|line| format!(" (line {line})")).unwrap_or_default();
    let cut = if reject.payload_cut { "…" } else { "" };
    let mut lines = vec![format!("record {}{line}: {}{cut}", reject.index, reject.payload)];
    lines.extend(reject.errors.iter().map(|error| format!("  - {}: {}", error.code, error.message)));
    lines
}

async fn wait(args: WaitArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let deadline = Instant::now() + args.timeout;
    let mut seen: Option<BatchView> = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let poll = left.min(LONG_POLL).as_secs();
        let query = [("wait", args.until.name().to_owned()), ("timeout", poll.to_string())];
        match client.get_within::<BatchView>(&["ingest", "batches", &args.id], &query, poll).await {
            Ok(batch) if args.until.reached(batch.status) => {
                print(&batch, args.json)?;
                return Ok(ExitCode::SUCCESS);
            }
            Ok(batch) if batch.status == BatchStatus::Failed => {
                print(&batch, args.json)?;
                bail!("batch {} failed", args.id);
            }
            Ok(batch) => seen = Some(batch),
            // A server that restarts under a wait that had begun is waited for; a wrong address is not.
            Err(Trouble::Passing { error, after }) if seen.is_some() || after.is_some() => {
                tracing::warn!("{error:#}: trying again");
                tokio::time::sleep(after.unwrap_or(Duration::from_millis(500)).min(left)).await;
            }
            Err(trouble) => return Err(trouble.into_error()),
        }
        if Instant::now() >= deadline {
            let status = seen.map_or("unknown", |batch| status_name(batch.status));
            bail!("batch {} is still {status} after {:?}", args.id, args.timeout);
        }
        if poll == 0 {
            tokio::time::sleep(left.min(Duration::from_millis(100))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_schemas::api::PointedError;

    #[test]
    fn complete_is_more_than_landed() {
        use BatchStatus::{Complete, Failed, Landed, Landing, Processing};
        let reached = |goal: Goal| [Landing, Landed, Processing, Complete, Failed].map(|status| goal.reached(status));
        assert_eq!(reached(Goal::Landed), [false, true, true, true, false]);
        assert_eq!(reached(Goal::Complete), [false, false, false, true, false]);
    }

    #[test]
    fn a_rejected_record_is_shown_with_every_error() {
        let error = |message: &str| PointedError {
            pointer: "/_type".to_owned(),
            code: "VALIDATION_ERROR".to_owned(),
            message: message.to_owned(),
        };
        let reject = RejectedRecord {
            index: 3,
            line: Some(5),
            errors: vec![error("one"), error("two")],
            payload: "{}".to_owned(),
            payload_cut: true,
        };
        let expected = ["record 3 (line 5): {}…", "  - VALIDATION_ERROR: one", "  - VALIDATION_ERROR: two"];
        assert_eq!(described(&reject), expected);
    }
}
