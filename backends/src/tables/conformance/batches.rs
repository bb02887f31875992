//! Batches, facts, rejects, attachments.

use super::{Factory, reopen};
use crate::tables::{AttachmentPosition, Batch, BatchPosition, BatchRow, Tables};
use tributary_schemas::{
    api::RecordError,
    batch::Fact,
    frame::{Attachment, BatchEvent, Reject, RejectError},
    identity::Identity,
};

/// All checks of batches, facts, rejects and attachments.
pub async fn run(factory: &dyn Factory) {
    keeps_batches(factory).await;
    pages_while_batches_arrive(factory).await;
    keeps_facts_in_any_order(factory).await;
    knows_what_is_landing(factory).await;
    pages_rejects(factory).await;
    pages_attachments(factory).await;
}

fn row(workspace: &str, id: &str, created_at: i64) -> BatchRow {
    let error = RecordError { index: 3, code: "VALIDATION_ERROR".to_owned(), message: "/_type: ü".to_owned() };
    BatchRow {
        workspace: workspace.to_owned(),
        batch_id: id.to_owned(),
        created_at,
        accepted: 7,
        rejected: 1,
        total_errors: 1,
        errors: vec![error],
        source: "crm".to_owned(),
        kind: "email".to_owned(),
        format: Some("text".to_owned()),
        attachments: 2,
    }
}

fn event(id: &str, at: i64, fact: Fact) -> BatchEvent {
    BatchEvent { workspace: "w".to_owned(), batch_id: id.to_owned(), at, fact }
}

fn landed(lane: u32, lanes_in_batch: u32) -> Fact {
    Fact::Landed { lane, lanes_in_batch }
}

fn failed() -> Fact {
    Fact::Failed { reason: "the deadline passed".to_owned() }
}

async fn keeps_batches(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    tables.put_batch(row("w", "b", 5)).await.unwrap();
    tables.put_batch(row("w", "b", 5)).await.unwrap();
    let tables = reopen(&*place, tables).await;
    let batch = Batch { row: row("w", "b", 5), facts: Vec::new() };
    assert_eq!(tables.batch("w", "b").await.unwrap(), Some(batch.clone()));
    assert_eq!(tables.batch("v", "b").await.unwrap(), None, "another workspace's");
    assert_eq!(tables.batch("w", "c").await.unwrap(), None);
    assert_eq!(tables.batches("w", 10, None).await.unwrap(), [batch], "put twice, listed once");
    assert_eq!(tables.batches("v", 10, None).await.unwrap(), []);
}

/// Reads all pages; `between` runs after each.
async fn all_pages(tables: &dyn Tables, limit: usize, mut between: impl AsyncFnMut(usize)) -> Vec<BatchPosition> {
    let (mut seen, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = tables.batches("w", limit, before.as_ref()).await.unwrap();
        let positions = page
            .into_iter()
            .map(|batch| BatchPosition { created_at: batch.row.created_at, batch_id: batch.row.batch_id });
        seen.extend(positions);
        if seen.last() == before.as_ref() {
            return seen;
        }
        before = seen.last().cloned();
        between(pages).await;
        pages += 1;
    }
}

/// Several batches share a time, ids have different lengths, times are also negative, and newer batches arrive
/// between the pages.
async fn pages_while_batches_arrive(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let mut wanted = Vec::new();
    for n in 0..50_i64 {
        let position =
            BatchPosition { created_at: n / 4 - 3, batch_id: format!("{}{n}", "x".repeat((n % 3) as usize)) };
        tables.put_batch(row("w", &position.batch_id, position.created_at)).await.unwrap();
        // A neighbour by name, which must not be seen.
        tables.put_batch(row("w\0", &position.batch_id, position.created_at)).await.unwrap();
        wanted.push(position);
    }
    wanted.sort();
    wanted.reverse();
    for limit in [1, 3, 7, 50, 100] {
        let newer = async |page| {
            tables.put_batch(row("w", &format!("new-{limit}-{page}"), 1_000)).await.unwrap();
        };
        let seen = all_pages(&*tables, limit, newer).await;
        let old: Vec<_> = seen.into_iter().filter(|position| position.created_at < 1_000).collect();
        assert_eq!(old, wanted, "pages of {limit}");
    }
    assert_eq!(tables.batches("w", 0, None).await.unwrap(), []);
}

async fn keeps_facts_in_any_order(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let processed = Fact::Processed { processor: "p".to_owned() };
    // Before the row, twice, the earlier time last, and several batches in one call.
    tables
        .add_facts(&[event("b", 9, landed(1, 2)), event("b", 8, processed.clone()), event("c", 1, failed())])
        .await
        .unwrap();
    assert_eq!(tables.batch("w", "b").await.unwrap(), None, "facts alone make no batch");
    tables.put_batch(row("w", "b", 5)).await.unwrap();
    tables.add_facts(&[event("b", 7, landed(1, 2)), event("b", 11, landed(1, 2))]).await.unwrap();
    tables.add_facts(&[event("b", 12, landed(0, 2)), event("b", 12, landed(0, 2))]).await.unwrap();
    tables.add_facts(&[]).await.unwrap();
    let tables = reopen(&*place, tables).await;
    let mut batch = tables.batch("w", "b").await.unwrap().unwrap();
    batch.facts.sort_by_key(|(_, at)| *at);
    assert_eq!(batch.facts, [(landed(1, 2), 7), (processed, 8), (landed(0, 2), 12)]);
    assert_eq!(tables.batches("w", 10, None).await.unwrap()[0].facts.len(), 3, "pages carry the facts");
}

async fn landing(tables: &dyn Tables, before: i64, limit: usize) -> Vec<String> {
    let mut found: Vec<_> =
        tables.landing_before(before, limit).await.unwrap().into_iter().map(|batch| batch.row.batch_id).collect();
    found.sort();
    found
}

async fn knows_what_is_landing(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    // These landed, or failed, before their rows came.
    tables.add_facts(&[event("early", 1, landed(0, 1)), event("lost", 1, failed())]).await.unwrap();
    for (n, id) in ["early", "lost", "half", "whole", "failed", "open", "new"].into_iter().enumerate() {
        tables.put_batch(row("w", id, n as i64)).await.unwrap();
    }
    tables.put_batch(row("v", "other", 4)).await.unwrap();
    tables
        .add_facts(&[
            event("half", 1, landed(0, 2)),
            event("whole", 1, landed(1, 2)),
            event("whole", 1, landed(0, 2)),
            event("failed", 1, failed()),
        ])
        .await
        .unwrap();
    let tables = reopen(&*place, tables).await;
    assert_eq!(landing(&*tables, 6, 10).await, ["half", "open", "other"]);
    assert_eq!(landing(&*tables, 7, 10).await, ["half", "new", "open", "other"]);
    assert_eq!(landing(&*tables, 7, 2).await.len(), 2);
    assert_eq!(landing(&*tables, i64::MIN, 10).await, [""; 0]);
    // What lands after it failed is no longer failed, and does not come back either way.
    tables.add_facts(&[event("half", 2, failed())]).await.unwrap();
    tables.add_facts(&[event("half", 3, landed(1, 2)), event("failed", 3, landed(0, 1))]).await.unwrap();
    tables.put_batch(row("w", "half", 2)).await.unwrap();
    assert_eq!(landing(&*tables, 6, 10).await, ["open", "other"]);
}

fn reject(id: &str, index: u32, payload: &str) -> Reject {
    Reject {
        workspace: "w".to_owned(),
        batch_id: id.to_owned(),
        record_index: index,
        line: Some(index + 1),
        received_at: 5,
        errors: vec![RejectError {
            code: "INVALID_JSON".to_owned(),
            pointer: String::new(),
            message: "expected an object".to_owned(),
        }],
        payload: payload.to_owned(),
        payload_cut: false,
    }
}

async fn pages_rejects(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let stored: Vec<_> = [300, 0, 2, 255, u32::MAX - 1].map(|index| reject("b", index, "{\0\u{FFFD}")).into();
    tables.put_rejects(&stored).await.unwrap();
    tables.put_rejects(&[reject("b1", 1, "other"), reject("b", 2, "again")]).await.unwrap();
    let tables = reopen(&*place, tables).await;
    let page = async |after, limit| {
        let page = tables.rejects("w", "b", after, limit).await.unwrap();
        page.into_iter().map(|reject| reject.record_index).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 10).await, [0, 2, 255, 300, u32::MAX - 1]);
    assert_eq!(page(None, 2).await, [0, 2]);
    assert_eq!(page(Some(2), 2).await, [255, 300]);
    assert_eq!(page(Some(u32::MAX), 2).await, [0; 0]);
    assert_eq!(tables.rejects("w", "b", Some(0), 1).await.unwrap(), [reject("b", 2, "again")]);
    assert_eq!(tables.rejects("v", "b", None, 1).await.unwrap(), []);
}

fn attachment(id: &str, (record_index, n): (u32, u32), filename: Option<&str>) -> Attachment {
    Attachment {
        workspace: "w".to_owned(),
        batch_id: id.to_owned(),
        record_index,
        n,
        key: Identity([0xFF; 16]),
        kind: "file".to_owned(),
        filename: filename.map(str::to_owned),
        size: Some(i64::MAX),
        mime_type: Some("text/plain".to_owned()),
        sha1: Some("1".to_owned()),
        md5: Some("5".to_owned()),
        vendor_url: Some("https://example.org/\u{FFFD}".to_owned()),
        upload_intent_id: filename.map(str::to_owned),
    }
}

async fn pages_attachments(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let wanted = [(0, 0), (0, 1), (0, 256), (1, 0), (255, 9), (256, 0), (u32::MAX, 0), (u32::MAX, u32::MAX)];
    let stored: Vec<_> = [5, 2, 7, 0, 3, 6, 1, 4].map(|nth: usize| attachment("b", wanted[nth], None)).into();
    tables.put_attachments(&stored).await.unwrap();
    // Neighbours by name, one that overwrites, and nothing at all.
    let again = attachment("b", (0, 1), Some("a\0b"));
    let neighbours = ["b0", "a", "b\0"].map(|id| attachment(id, (0, 0), None));
    tables.put_attachments(&[&neighbours[..], std::slice::from_ref(&again)].concat()).await.unwrap();
    tables.put_attachments(&[]).await.unwrap();
    let tables = reopen(&*place, tables).await;
    for limit in [1, 3, 8, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = tables.attachments("w", "b", after, limit).await.unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= limit);
            after = Some(AttachmentPosition { record_index: last.record_index, n: last.n });
            seen.extend(page.iter().map(|attachment| (attachment.record_index, attachment.n)));
        }
        assert_eq!(seen, wanted, "pages of {limit}");
    }
    let first = Some(AttachmentPosition { record_index: 0, n: 0 });
    assert_eq!(tables.attachments("w", "b", first, 1).await.unwrap(), [again]);
    assert_eq!(tables.attachments("w", "b", None, 1).await.unwrap(), [attachment("b", (0, 0), None)]);
    assert_eq!(tables.attachments("v", "b", None, 1).await.unwrap(), [], "another workspace's");
    assert_eq!(tables.attachments("w", "c", None, 1).await.unwrap(), []);
}
