//! `GET /api/v1/ingest/batches`.

use super::page::Page;
use crate::{Api, failure::Failure, view};
use axum::{
    Json,
    extract::{Request, State},
};
use tributary_backends::tables::{BatchPosition, Permission};
use tributary_schemas::api::BatchPage;

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
    let page = Page::of(&mut parts, view::batch_position).await?;
    let mut batches = api.tables.batches(&key.workspace, page.rows(), page.after.as_ref()).await?;
    let next_cursor = page.cut(&mut batches, |last| {
        view::batch_cursor(&BatchPosition { created_at: last.row.created_at, batch_id: last.row.batch_id.clone() })
    });
    Ok(Json(BatchPage { batches: batches.into_iter().map(view::batch).collect(), next_cursor }))
}
