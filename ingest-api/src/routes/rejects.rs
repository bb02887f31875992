//! `GET /api/v1/ingest/batches/{batchId}/rejects`.

use super::batch::{batch_id, find};
use crate::{Api, failure::Failure, routes, routes::batches::PageQuery, view};
use axum::{
    Json,
    extract::{Request, State},
};
use tributary_backends::tables::Permission;
use tributary_schemas::api::RejectPage;

/// Lists the rejected records of a batch.
#[utoipa::path(
    get,
    path = "/api/v1/ingest/batches/{batchId}/rejects",
    operation_id = "listRejects",
    tag = "ingest",
    params(
        ("batchId" = String, Path, description = "As answered by ingest"),
        ("limit" = Option<u32>, Query, description = "1 to 100, default 20"),
        ("cursor" = Option<String>, Query, description = "nextCursor of the page before"),
    ),
    responses(
        (status = 200, description = "In the batch's order; they appear shortly after the 202", body = tributary_schemas::api::RejectPage),
        (status = "default", description = "`error` says why not", body = tributary_schemas::api::ApiError),
    ),
    security(("api_key" = [])),
)]
pub async fn get(State(api): State<Api>, request: Request) -> Result<Json<RejectPage>, Failure> {
    let (mut parts, _) = request.into_parts();
    let key = api.gate.admit(&parts.headers, Permission::Read).await?;
    let batch_id = batch_id(&mut parts).await?;
    let query: PageQuery = routes::query(&mut parts).await?;
    let limit = view::limit(query.limit.as_deref())?;
    let after = query.cursor.as_deref().map(view::reject_position).transpose()?;
    find(&api, &key.workspace, &batch_id).await?;
    let mut rejects = api.tables.rejects(&key.workspace, &batch_id, after, limit + 1).await?;
    let more = rejects.len() > limit;
    rejects.truncate(limit);
    let next_cursor = rejects.last().filter(|_| more).map(|last| view::reject_cursor(last.record_index));
    Ok(Json(RejectPage { rejects: rejects.into_iter().map(view::reject).collect(), next_cursor }))
}
