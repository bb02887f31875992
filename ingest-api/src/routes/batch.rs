//! `GET /api/v1/ingest/batches/{batchId}`, at once or when it has got far enough.

use crate::{Api, failure::Failure, routes, view};
use axum::{
    Json, RequestPartsExt,
    extract::{Path, Request, State},
    http::request::Parts,
};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;
use tributary_backends::tables::{Batch, Permission};
use tributary_schemas::{api::BatchView, batch::BatchStatus};

/// How often a waiting request looks: at first, and at most after a while.
const FIRST_POLL: Duration = Duration::from_millis(10);
const LONGEST_POLL: Duration = Duration::from_millis(80);
/// How long a request waits when it does not say.
const DEFAULT_TIMEOUT: u64 = 30;
const MAX_BATCH_ID_CHARS: usize = 128;

#[derive(Debug, Deserialize)]
struct WaitQuery {
    wait: Option<String>,
    timeout: Option<String>,
}

/// Shows one batch.
#[utoipa::path(
    get,
    path = "/api/v1/ingest/batches/{batchId}",
    operation_id = "getBatch",
    tag = "ingest",
    params(
        ("batchId" = String, Path, description = "As answered by ingest"),
        ("wait" = Option<String>, Query, description = "LANDED, PROCESSING or COMPLETE: answer when the batch has got so far, or has FAILED, or the timeout is over"),
        ("timeout" = Option<u32>, Query, description = "Seconds to wait, 1 to 60, default 30"),
    ),
    responses(
        (status = 200, description = "The batch as it is now", body = tributary_schemas::api::BatchView),
        (status = "default", description = "`error` says why not", body = tributary_schemas::api::ApiError),
    ),
    security(("api_key" = [])),
)]
pub async fn get(State(api): State<Api>, request: Request) -> Result<Json<BatchView>, Failure> {
    let (mut parts, _) = request.into_parts();
    let key = api.gate.admit(&parts.headers, Permission::Read).await?;
    let batch_id = batch_id(&mut parts).await?;
    let query: WaitQuery = routes::query(&mut parts).await?;
    let goal = query.wait.as_deref().map(goal).transpose()?;
    let timeout = timeout(query.timeout.as_deref())?;
    let batch = find(&api, &key.workspace, &batch_id).await?;
    let batch = match goal {
        Some(goal) => wait_for(&api, &key.workspace, batch, goal, timeout).await?,
        None => batch,
    };
    Ok(Json(view::batch(batch)))
}

/// The id in the path. What cannot be an id is an id that does not exist.
pub(super) async fn batch_id(parts: &mut Parts) -> Result<String, Failure> {
    let Path(id): Path<String> = parts.extract().await.map_err(|_| Failure::no_such_batch())?;
    if id.chars().count() > MAX_BATCH_ID_CHARS { Err(Failure::no_such_batch()) } else { Ok(id) }
}

/// A batch of the workspace; another workspace's does not exist.
pub(super) async fn find(api: &Api, workspace: &str, batch_id: &str) -> Result<Batch, Failure> {
    api.tables.batch(workspace, batch_id).await?.ok_or_else(Failure::no_such_batch)
}

/// Looks at the batch until it has got as far as `goal`, failed, the time is over, or the server stops.
async fn wait_for(
    api: &Api,
    workspace: &str,
    mut batch: Batch,
    goal: BatchStatus,
    timeout: Duration,
) -> Result<Batch, Failure> {
    let deadline = Instant::now() + timeout;
    let mut pause = FIRST_POLL;
    while rank(view::status_of(&batch)) < rank(goal) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || api.stopping.is_cancelled() {
            break;
        }
        let stopped = api.stopping.cancelled();
        let _ = tokio::time::timeout(pause.min(left), stopped).await;
        pause = (pause * 2).min(LONGEST_POLL);
        batch = find(api, workspace, &batch.row.batch_id).await?;
    }
    Ok(batch)
}

/// How far a status is. Failing ends every wait.
fn rank(status: BatchStatus) -> u8 {
    match status {
        BatchStatus::Landing => 0,
        BatchStatus::Landed => 1,
        BatchStatus::Processing => 2,
        BatchStatus::Complete => 3,
        BatchStatus::Failed => 4,
    }
}

fn goal(text: &str) -> Result<BatchStatus, Failure> {
    match text {
        "LANDED" => Ok(BatchStatus::Landed),
        "PROCESSING" => Ok(BatchStatus::Processing),
        "COMPLETE" => Ok(BatchStatus::Complete),
        _ => Err(Failure::bad_parameter("wait", "LANDED, PROCESSING or COMPLETE")),
    }
}

fn timeout(text: Option<&str>) -> Result<Duration, Failure> {
    let seconds = match text {
        None => Some(DEFAULT_TIMEOUT),
        Some(text) => text.parse().ok().filter(|n| (1..=60).contains(n) && !text.starts_with('+')),
    };
    seconds.map(Duration::from_secs).ok_or_else(|| Failure::bad_parameter("timeout", "whole seconds from 1 to 60"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_wait() {
        assert_eq!(timeout(None), Ok(Duration::from_secs(30)));
        assert_eq!(timeout(Some("60")), Ok(Duration::from_secs(60)));
        for bad in ["0", "61", "+1", "-1", "", "1.5"] {
            assert!(timeout(Some(bad)).is_err(), "{bad}");
        }
        assert!(goal("LANDED").is_ok() && goal("landed").is_err() && goal("LANDING").is_err());
    }

    #[test]
    fn failing_ends_every_wait() {
        for goal in [BatchStatus::Landed, BatchStatus::Processing, BatchStatus::Complete] {
            assert!(rank(BatchStatus::Failed) >= rank(goal));
            assert!(rank(BatchStatus::Landing) < rank(goal));
        }
    }
}
