//! `GET /api/v1/ingest/batches/{batchId}/attachments`.

use super::page::Listing;
use crate::{Api, failure::Failure, view};
use axum::{
    Json,
    extract::{Request, State},
};
use tributary_backends::tables::AttachmentPosition;
use tributary_schemas::api::AttachmentPage;

/// Lists the attachments of a batch's accepted records, also of those that others overwrote.
#[utoipa::path(
    get,
    path = "/api/v1/ingest/batches/{batchId}/attachments",
    operation_id = "listAttachments",
    tag = "ingest",
    params(
        ("batchId" = String, Path, description = "As answered by ingest"),
        ("limit" = Option<u32>, Query, description = "1 to 100, default 20"),
        ("cursor" = Option<String>, Query, description = "nextCursor of the page before"),
    ),
    responses(
        (status = 200, description = "In the batch's order; those of a record appear shortly after it has landed", body = tributary_schemas::api::AttachmentPage),
        (status = "default", description = "`error` says why not", body = tributary_schemas::api::ApiError),
    ),
    security(("api_key" = [])),
)]
pub async fn get(State(api): State<Api>, request: Request) -> Result<Json<AttachmentPage>, Failure> {
    let Listing { workspace, batch_id, page } = Listing::of(&api, request, view::attachment_position).await?;
    let mut attachments = api.tables.attachments(&workspace, &batch_id, page.after, page.rows()).await?;
    let next_cursor = page.cut(&mut attachments, |last| {
        view::attachment_cursor(AttachmentPosition { record_index: last.record_index, n: last.n })
    });
    Ok(Json(AttachmentPage { attachments: attachments.into_iter().map(view::attachment).collect(), next_cursor }))
}
