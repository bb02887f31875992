//! What `up` says when it is ready: to people with lines to paste, to programs as one line of JSON.

use super::Listeners;
use crate::{
    backends::Backends,
    control::{NewKey, execute::create_key},
    output,
    state::State,
};
use anyhow::Context;
use serde::Serialize;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};
use tributary_backends::tables::Permission;
use url::Url;

/// The workspace of the first start.
pub const FIRST_WORKSPACE: &str = "default";

/// A record that the API accepts.
const EXAMPLE_RECORD: &str = concat!(
    r#"{"_type":"message","_schema_version":"1.0.0","_event_at":"2026-01-31T09:30:00Z","#,
    r#""_vendor_ids":{"chat":"m-1"},"_product_id":"demo","_project_id":"first-steps","#,
    r#""data":{"text":"Hello, lake!"}}"#
);

/// Whether this is the first start; then the workspace's table is there now, so that it can be queried at once.
pub async fn is_first(state: &State) -> anyhow::Result<bool> {
    if !state.tables.keys(None).await.context("cannot read the keys")?.is_empty() {
        return Ok(false);
    }
    state.lake.table(FIRST_WORKSPACE).await.with_context(|| format!("cannot create a table in {}", state.lake_url))?;
    Ok(true)
}

/// Makes the key of the first start.
pub async fn first_key(state: &State) -> anyhow::Result<String> {
    let new = NewKey {
        workspace: FIRST_WORKSPACE.to_owned(),
        label: "first key".to_owned(),
        source: "api".to_owned(),
        permissions: vec![Permission::Read, Permission::Write],
        rate_limit: None,
    };
    Ok(create_key(state, new).await?.key)
}

/// Everything that it says.
#[derive(Debug, Serialize)]
pub struct Announcement {
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    admin: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    lake: Url,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip)]
    table: Url,
}

impl Announcement {
    /// Of this process; `key` on the first start only.
    pub fn new(listeners: &Listeners, backends: &Backends, key: Option<String>) -> anyhow::Result<Self> {
        let (listen, admin) = listeners.addresses()?;
        let state = &backends.state;
        let (lake, table) = (state.lake_url.clone(), state.lake.table_url(FIRST_WORKSPACE));
        Ok(Self { listen, admin, data: backends.data.clone(), lake, key, table })
    }

    /// Says it on stdout.
    pub fn say(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return output::json(self);
        }
        self.lines().iter().for_each(|line| output::line(line));
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("tributary {} is ready", env!("CARGO_PKG_VERSION"))];
        lines.extend(self.listen.map(|listen| format!("  API      http://{listen}/api/v1")));
        lines.push(format!("  metrics  http://{}/metrics", self.admin));
        lines.extend(self.data.as_ref().map(|data| format!("  data     {}", data.display())));
        lines.push(format!("  lake     {}", self.lake));
        if let (Some(key), Some(listen)) = (&self.key, self.listen) {
            lines.push(String::new());
            lines.push(format!("First start. The key of workspace `{FIRST_WORKSPACE}`, shown only now:\n\n  {key}"));
            lines.push(format!("\nSend a record:\n\n  {}", curl(key, listen)));
            lines.push(format!("\nRead it a second later:\n\n  {}\n", self.duckdb()));
        }
        lines
    }

    fn duckdb(&self) -> String {
        let table = self.table.as_str().trim_end_matches('/').replace('\'', "''");
        let sql = format!("INSTALL delta; LOAD delta; SELECT event_at, type, data FROM delta_scan('{table}')");
        // What a shell would read inside double quotes.
        let quoted = sql.replace('\\', "\\\\").replace('$', "\\$").replace('`', "\\`").replace('"', "\\\"");
        format!("duckdb -c \"{quoted}\"")
    }
}

fn curl(key: &str, listen: SocketAddr) -> String {
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    format!(
        "curl -sS http://{address}/api/v1/ingest -H 'x-api-key: {key}' -H 'content-type: application/json' \
         -d '{EXAMPLE_RECORD}'"
    )
}

/// An address to call when the listener takes all of them.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(table: &str, key: Option<&str>) -> Announcement {
        Announcement {
            listen: Some("0.0.0.0:8080".parse().expect("an address")),
            admin: "127.0.0.1:9090".parse().expect("an address"),
            data: Some("/srv/t".into()),
            lake: "file:///srv/t/lake/".parse().expect("a URL"),
            key: key.map(str::to_owned),
            table: table.parse().expect("a URL"),
        }
    }

    #[test]
    fn the_example_record_is_accepted() {
        let record = tributary_schemas::record::parse(EXAMPLE_RECORD.as_bytes()).expect("valid");
        assert_eq!(record.product_id, "demo");
        assert!(!EXAMPLE_RECORD.contains('\''), "it stands in single quotes");
    }

    #[test]
    fn the_key_is_told_on_the_first_start_only() {
        let first = announcement("file:///srv/t/lake/default/records", Some("em_sk_x"));
        let text = first.lines().join("\n");
        assert!(text.contains("http://127.0.0.1:8080/api/v1/ingest -H 'x-api-key: em_sk_x'"), "{text}");
        assert!(text.contains("delta_scan('file:///srv/t/lake/default/records')"), "{text}");
        let later = announcement("file:///srv/t/lake/default/records", None);
        assert!(!later.lines().join("\n").contains("curl"));
        assert!(!serde_json::to_string(&later).expect("json").contains("key"));
    }

    #[test]
    fn the_statement_survives_the_shell() {
        let odd = announcement("file:///srv/it's%20$HOME/records/", None);
        let wanted = "FROM delta_scan('file:///srv/it''s%20\\$HOME/records')\"";
        assert!(odd.duckdb().ends_with(wanted), "{}", odd.duckdb());
    }
}
