//! `--wait`: until every batch of the run is `COMPLETE`.

use super::client::{Client, SendError};
use anyhow::bail;
use std::{collections::BTreeSet, time::Duration};
use tributary_schemas::{api::BatchView, batch::BatchStatus};

const BETWEEN: Duration = Duration::from_millis(500);

/// Asks for pages of batches, a hundred at a time, until all of `ids` are complete; takes those out that are.
///
/// # Errors
/// A batch has failed or is not known, or the server does not answer.
pub async fn until_complete(client: &Client, ids: &mut BTreeSet<String>) -> anyhow::Result<()> {
    loop {
        look(client, ids).await?;
        if ids.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

async fn look(client: &Client, ids: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let mut unseen = ids.clone();
    let mut cursor = None;
    while !unseen.is_empty() {
        let page = client.batches(cursor.as_deref()).await.map_err(with_permission)?;
        for batch in page.batches.iter().filter(|batch| unseen.remove(&batch.batch_id)) {
            match batch.status {
                BatchStatus::Complete => drop(ids.remove(&batch.batch_id)),
                BatchStatus::Failed => bail!("batch {} has failed: {}", batch.batch_id, reason(batch)),
                BatchStatus::Landing | BatchStatus::Landed | BatchStatus::Processing => {}
            }
        }
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None if unseen.is_empty() => {}
            None => bail!("the server does not know the batches {unseen:?}"),
        }
    }
    Ok(())
}

fn with_permission(error: SendError) -> anyhow::Error {
    anyhow::Error::new(error).context("all records are sent, but the state of their batches cannot be read")
}

fn reason(batch: &BatchView) -> String {
    let errors = batch.errors.iter().flatten();
    errors.last().map_or_else(|| "no reason given".to_owned(), |error| error.message.clone())
}
