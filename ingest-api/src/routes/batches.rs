//! `GET /api/v1/ingest/batches`.

use crate::{Api, failure::Failure, routes, view};
use axum::{
    Json,
    extract::{Request, State},
};
use serde::Deserialize;
use tributary_backends::tables::{BatchPosition, Permission};
use tributary_schemas::api::BatchPage;

/// A page wanted.
#[derive(Debug, Deserialize)]
pub struct PageQuery {
    /// How many.
    pub limit: Option<String>,
    /// From where.
    pub cursor: Option<String>,
}

/// Lists the batches of the key's workspace.
#[utoipa::path(
    get,
    path = "/api/v1/ingest/batches",
    operation_id = "listBatches",
    tag = "ingest",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 20"),
        ("cursor" = Option<String>, Query, description = "nextCursor of the page before"),
    ),
    responses(
        (status = 200, description = "Newest first", body = tributary_schemas::api::BatchPage),
        (status = "default", description = "`error` says why not", body = tributary_schemas::api::ApiError),
    ),
    security(("api_key" = [])),
)]
pub async fn get(State(api): State<Api>, request: Request) -> Result<Json<BatchPage>, Failure> {
    let (mut parts, _) = request.into_parts();
    let key = api.gate.admit(&parts.headers, Permission::Read).await?;
    let query: PageQuery = routes::query(&mut parts).await?;
    let limit = view::limit(query.limit.as_deref())?;
    let before = query.cursor.as_deref().map(view::batch_position).transpose()?;
    // One more than is shown says whether there is a next page.
    let mut batches = api.tables.batches(&key.workspace, limit + 1, before.as_ref()).await?;
    let more = batches.len() > limit;
    batches.truncate(limit);
    let next_cursor = batches.last().filter(|_| more).map(|last| {
        view::batch_cursor(&BatchPosition { created_at: last.row.created_at, batch_id: last.row.batch_id.clone() })
    });
    Ok(Json(BatchPage { batches: batches.into_iter().map(view::batch).collect(), next_cursor }))
}
