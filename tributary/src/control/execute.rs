//! The one implementation of every command on embedded state.

use super::{Answer, CheckedTable, CreatedKey, KeyView, NewKey, Progress, RebuiltIndex, Request};
use crate::{dead_letters::desk, lag::watch::Watch, state::State, up::pipeline::PipelineHandle};
use anyhow::{Context, ensure};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tributary_backends::log::RecordLog;
use tributary_ingest_api::keys::{self, check_name};
use tributary_pipeline::{check, rebuild_index};
use tributary_schemas::limits::MAX_LIVE_KEYS;

/// Longest label of a key, in characters.
const MAX_LABEL: usize = 128;

/// Who asks for the lag waits a little longer.
const LAG_WITHIN: Duration = Duration::from_secs(4);

/// What runs in this process.
#[derive(Debug, Clone)]
pub struct Running {
    pub pipeline: PipelineHandle,
    pub watch: Arc<Watch>,
    pub log: Arc<dyn RecordLog>,
}

/// Does it. `running`: in the process that has the lanes.
///
/// # Errors
/// What went wrong, for people.
pub async fn execute(
    state: &State,
    running: Option<&Running>,
    request: Request,
    progress: Progress<'_>,
) -> anyhow::Result<Answer> {
    match request {
        Request::CreateKey(new) => create_key(state, new).await.map(Answer::KeyCreated),
        Request::ListKeys { workspace } => {
            let keys = state.tables.keys(workspace.as_deref()).await.context("cannot read the keys")?;
            Ok(Answer::Keys(keys.into_iter().map(KeyView::from).collect()))
        }
        Request::Lag => {
            let watch = &running.context("nothing runs that could say how far it is")?.watch;
            watch.look(Instant::now() + LAG_WITHIN).await.map(Answer::Lag)
        }
        Request::DeadLetters(order) => {
            let log = &running.context("nothing runs that has the log open")?.log;
            let backends = (&**log, &*state.tables, &*state.world);
            desk::serve(backends, &order, progress).await.map(Answer::DeadLetters)
        }
        Request::RevokeKey { id } => {
            let at = state.world.now_micros();
            let known = state.tables.revoke_key(&id, at).await.context("cannot revoke the key")?;
            ensure!(known, "there is no key with the id {id} (see `tributary keys list`)");
            Ok(Answer::KeyRevoked)
        }
        Request::TableUrl { workspace } => {
            check_name(&workspace)?;
            Ok(Answer::TableUrl(state.lake.table_url(&workspace).to_string()))
        }
        Request::CheckLake { workspace } => {
            let mut checked = Vec::new();
            for workspace in chosen(state, workspace).await? {
                let report = check::run(&state.lake, &*state.tables, Some(&workspace)).await;
                let report = report.with_context(|| format!("cannot check the table of workspace {workspace}"))?;
                checked.extend(report.tables.into_iter().map(CheckedTable::from));
            }
            Ok(Answer::Checked(checked))
        }
        Request::RebuildIndex { workspace } => {
            let chosen = chosen(state, workspace).await?;
            // Lanes that run rely on the index that is being replaced.
            let _paused = match running {
                Some(running) => Some(running.pipeline.pause().await?),
                None => None,
            };
            let mut rebuilt = Vec::new();
            for workspace in chosen {
                let entries = rebuild_index(&state.lake, &*state.tables, Some(&workspace)).await;
                let entries = entries.with_context(|| format!("cannot rebuild the index of workspace {workspace}"))?;
                rebuilt.push(RebuiltIndex { workspace, entries });
            }
            Ok(Answer::IndexRebuilt(rebuilt))
        }
    }
}

/// Creates a key; what [`Request::CreateKey`] and the first start of `up` share.
pub async fn create_key(state: &State, new: NewKey) -> anyhow::Result<CreatedKey> {
    check_name(&new.workspace).context("--workspace")?;
    check_name(&new.source).context("--source")?;
    ensure!(
        !new.label.trim().is_empty() && new.label.chars().count() <= MAX_LABEL,
        "--label: a label has 1 to {MAX_LABEL} characters and is not blank"
    );
    ensure!(!new.label.chars().any(char::is_control), "--label: a label holds no control characters");
    ensure!(!new.permissions.is_empty(), "a key needs at least one --permission");
    let (row, key) = keys::mint(
        &*state.world,
        keys::NewKey {
            workspace: new.workspace,
            label: new.label,
            source: new.source,
            permissions: new.permissions,
            rate_limit: new.rate_limit,
        },
    );
    let created = CreatedKey { id: row.id.clone(), key, workspace: row.workspace.clone() };
    state.tables.create_key(row, MAX_LIVE_KEYS).await.context("cannot create the key")?;
    Ok(created)
}

/// The workspace named, which must have a table, or all that have one.
async fn chosen(state: &State, workspace: Option<String>) -> anyhow::Result<Vec<String>> {
    let all = state.lake.workspaces().await.with_context(|| format!("cannot list the lake at {}", state.lake_url))?;
    let Some(workspace) = workspace else { return Ok(all) };
    check_name(&workspace)?;
    ensure!(all.contains(&workspace), "workspace {workspace} has no table in {}", state.lake_url);
    Ok(vec![workspace])
}
