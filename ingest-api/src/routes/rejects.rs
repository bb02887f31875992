//! `GET /api/v1/ingest/batches/{batchId}/rejects`.

use super::page::Listing;
use crate::{Api, failure::Failure, view};
use axum::{
    Json,
    extract::{Request, State},
};
use tributary_schemas::api::RejectPage;

/// Lists the rejected records of a batch.
#[utoipa::path(
    get,
    path = "/api/v1/ingest/batches/{batchId}/rejects",
    operation_id = "listRejects",
    tag = "ingest",
    params(
        ("batchId" = String, Path, description = "As answered by ingest"),
        ("limit" = Option<u32>, Query, description = "1 to 100, default 20; a page also ends after 1 MiB of payloads"),
        ("cursor" = Option<String>, Query, description = "nextCursor of the page before"),
    ),
    responses(
        (status = 200, description = "In the batch's order; they appear shortly after the 202", body = tributary_schemas::api::RejectPage),
        (status = "default", description = "`error` says why not", body = tributary_schemas::api::ApiError),
    ),
    security(("api_key" = [])),
)]
pub async fn get(State(api): State<Api>, request: Request) -> Result<Json<RejectPage>, Failure> {
    let Listing { workspace, batch_id, page } = Listing::of(&api, request, view::reject_position).await?;
    let mut rejects = api.tables.rejects(&workspace, &batch_id, page.after, page.rows()).await?;
    let next_cursor =
        page.cut_sized(&mut rejects, |row| row.payload.len(), |last| view::reject_cursor(last.record_index));
    Ok(Json(RejectPage { rejects: rejects.into_iter().map(view::reject).collect(), next_cursor }))
}
