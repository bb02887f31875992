//! `tributary keys …`: API keys. The key itself is shown once, when it is made; only its hash is stored.

use crate::{
    cli::Place,
    control::{self, Answer, KeyView, NewKey, Request},
    output,
};
use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum, builder::BoolishValueParser};
use std::process::ExitCode;
use tributary_backends::tables::Permission;
use tributary_ingest_api::keys::check_name;

const CREATE_EXAMPLES: &str = "Examples:
  tributary keys create --workspace acme --label loader --source crm --permission api:write
  tributary keys create --workspace acme --label dashboard --source crm --permission api:read --json
  tributary keys create --workspace acme --label backfill --source crm --permission api:write --permission api:read --rate-limit 0";
const LIST_EXAMPLES: &str = "Examples:
  tributary keys list
  tributary keys list --workspace acme --json";
const REVOKE_EXAMPLES: &str = "Examples:
  tributary keys revoke key_0123456789abcdef
  tributary keys revoke key_0123456789abcdef --data /var/lib/tributary";
const EXAMPLES: &str = "Examples:
  tributary keys create --workspace acme --label loader --source crm --permission api:write
  tributary keys list
  tributary keys revoke key_0123456789abcdef

They work whether or not `tributary up` runs on the data directory.";

/// Create, list and revoke API keys.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum KeysCommand {
    /// Create a key and show it once
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// List keys, without their secrets
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Revoke a key: within seconds it works no more, and never again
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(RevokeArgs),
}

/// What a new key is.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The workspace that its records go to
    #[arg(long, env = "TRIBUTARY_WORKSPACE", value_name = "NAME", value_parser = parse_name)]
    pub workspace: String,
    /// What it is for, in words
    #[arg(long, env = "TRIBUTARY_LABEL", value_name = "TEXT")]
    pub label: String,
    /// The source that its records are marked with
    #[arg(long, env = "TRIBUTARY_SOURCE", value_name = "NAME", value_parser = parse_name)]
    pub source: String,
    /// What it may do (again for more than one); api:write may also read
    #[arg(
        long = "permission",
        env = "TRIBUTARY_PERMISSION",
        value_name = "PERMISSION",
        value_delimiter = ',',
        required = true
    )]
    pub permissions: Vec<PermissionName>,
    /// Requests per second that it may make, 0 for any number [default: what `up` was given]
    #[arg(long, env = "TRIBUTARY_RATE_LIMIT", value_name = "N")]
    pub rate_limit: Option<u32>,
    /// Print {"id","key","workspace"}
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

/// Which keys to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those of this workspace
    #[arg(long, env = "TRIBUTARY_WORKSPACE", value_name = "NAME", value_parser = parse_name)]
    pub workspace: Option<String>,
    /// Print one JSON array
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

/// Which key to revoke.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Its id, from `tributary keys list`
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub place: Place,
}

/// A permission by its name in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PermissionName {
    /// GET
    #[value(name = "api:read")]
    Read,
    /// POST and GET
    #[value(name = "api:write")]
    Write,
}

impl PermissionName {
    fn permission(self) -> Permission {
        match self {
            Self::Read => Permission::Read,
            Self::Write => Permission::Write,
        }
    }
}

/// A workspace or source name, for clap.
pub fn parse_name(text: &str) -> Result<String, String> {
    check_name(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Runs `tributary keys …`.
pub async fn run(command: KeysCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeysCommand::Create(args) => create(args).await,
        KeysCommand::List(args) => list(args).await,
        KeysCommand::Revoke(args) => revoke(args).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let mut permissions: Vec<Permission> = args.permissions.iter().map(|name| name.permission()).collect();
    permissions.dedup();
    let new = NewKey {
        workspace: args.workspace,
        label: args.label,
        source: args.source,
        permissions,
        rate_limit: args.rate_limit,
    };
    let Answer::KeyCreated(created) = control::ask(&args.place, Request::CreateKey(new)).await? else {
        bail!(control::OTHER_VERSION);
    };
    if args.json {
        return output::json(&created);
    }
    output::line(&format!("created key {} of workspace {}", created.id, created.workspace));
    output::line(&format!("\n  {}\n", created.key));
    output::line("It is shown only now: keep it where secrets are kept.");
    Ok(())
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let request = Request::ListKeys { workspace: args.workspace };
    let Answer::Keys(keys) = control::ask(&args.place, request).await? else { bail!(control::OTHER_VERSION) };
    if args.json {
        return output::json(&keys);
    }
    if keys.is_empty() {
        output::note("no keys");
        return Ok(());
    }
    let headings = ["ID", "WORKSPACE", "LABEL", "SOURCE", "PERMISSIONS", "RATE", "CREATED", "LAST USED", "STATE"];
    output::table(&headings, keys.iter().map(row));
    Ok(())
}

fn row(key: &KeyView) -> Vec<String> {
    let permissions = key.permissions.iter().map(|permission| match permission {
        Permission::Read => "api:read",
        Permission::Write => "api:write",
    });
    let rate = match key.rate_limit {
        None => "default".to_owned(),
        Some(0) => "off".to_owned(),
        Some(rate) => format!("{rate}/s"),
    };
    vec![
        key.id.clone(),
        key.workspace.clone(),
        key.label.clone(),
        key.source.clone(),
        permissions.collect::<Vec<_>>().join(","),
        rate,
        output::time(key.created_at),
        key.last_used_at.map_or_else(|| "never".to_owned(), output::time),
        key.revoked_at.map_or_else(|| "live".to_owned(), |at| format!("revoked {}", output::time(at))),
    ]
}

async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let request = Request::RevokeKey { id: args.id.clone() };
    let Answer::KeyRevoked = control::ask(&args.place, request).await? else { bail!(control::OTHER_VERSION) };
    output::line(&format!("revoked key {}", args.id));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_a_key_is_and_never_its_hash() {
        let key = KeyView {
            id: "key_1".to_owned(),
            workspace: "acme".to_owned(),
            label: "loader".to_owned(),
            source: "crm".to_owned(),
            permissions: vec![Permission::Write, Permission::Read],
            rate_limit: Some(0),
            created_at: 0,
            last_used_at: None,
            revoked_at: Some(1_000),
        };
        let expected =
            "key_1 acme loader crm api:write,api:read off 1970-01-01T00:00:00Z never revoked 1970-01-01T00:00:01Z";
        assert_eq!(row(&key).join(" "), expected);
        assert!(!serde_json::to_string(&key).expect("json").contains("hash"));
    }

    #[test]
    fn names_are_checked_on_the_command_line() {
        assert_eq!(parse_name("acme-1.eu"), Ok("acme-1.eu".to_owned()));
        for bad in ["", "..", ".hidden", "a/b", "a b", "ä"] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }
}
