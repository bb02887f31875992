//! API keys: create, limit, list, revoke, use.

use super::{Factory, reopen};
use crate::tables::{ApiKey, Permission, TablesError};
use futures::future::join_all;

/// All checks of keys.
pub async fn run(factory: &dyn Factory) {
    finds_lists_and_keeps(factory).await;
    limits_live_keys(factory).await;
    limits_concurrent_creators(factory).await;
    revokes_once(factory).await;
    notes_use(factory).await;
}

fn key(workspace: &str, n: u8) -> ApiKey {
    ApiKey {
        id: format!("key-{workspace}-{n}"),
        hash: *blake3::hash(format!("{workspace}/{n}").as_bytes()).as_bytes(),
        workspace: workspace.to_owned(),
        label: format!("label {n}"),
        source: "crm".to_owned(),
        permissions: vec![Permission::Read, Permission::Write],
        rate_limit: Some(u32::from(n)),
        created_at: i64::from(n) * 1_000,
        last_used_at: None,
        revoked_at: None,
    }
}

async fn finds_lists_and_keeps(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    // One workspace's name begins with the other's, and the older key is created last.
    let stored = [key("a", 2), key("ab", 3), key("a", 1)];
    for key in &stored {
        tables.create_key(key.clone(), 10).await.unwrap();
    }
    // Repeated after an unclear answer.
    tables.create_key(stored[0].clone(), 10).await.unwrap();
    let tables = reopen(&*place, tables).await;
    assert_eq!(tables.keys(Some("a")).await.unwrap(), [key("a", 1), key("a", 2)]);
    assert_eq!(tables.keys(Some("ab")).await.unwrap(), [key("ab", 3)]);
    assert_eq!(tables.keys(Some("b")).await.unwrap(), []);
    assert_eq!(tables.keys(None).await.unwrap(), [key("a", 1), key("a", 2), key("ab", 3)]);
    assert_eq!(tables.key_by_hash(&key("ab", 3).hash).await.unwrap(), Some(key("ab", 3)));
    assert_eq!(tables.key_by_hash(&[0; 32]).await.unwrap(), None);
}

async fn limits_live_keys(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    tables.create_key(key("w", 1), 2).await.unwrap();
    tables.create_key(key("w", 2), 2).await.unwrap();
    let refused = tables.create_key(key("w", 3), 2).await.unwrap_err();
    assert!(matches!(&refused, TablesError::KeyLimit { workspace, limit: 2 } if workspace == "w"), "{refused}");
    assert_eq!(tables.key_by_hash(&key("w", 3).hash).await.unwrap(), None, "a refused key must not work");
    // The same call again is not one more key; another workspace has its own limit; a revoked key does not count.
    tables.create_key(key("w", 2), 2).await.unwrap();
    tables.create_key(key("v", 1), 2).await.unwrap();
    assert!(tables.revoke_key(&key("w", 1).id, 5).await.unwrap());
    tables.create_key(key("w", 3), 2).await.unwrap();
}

async fn limits_concurrent_creators(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let outcomes = join_all((0..40).map(|n| tables.create_key(key("w", n), 10))).await;
    let created = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(TablesError::KeyLimit { .. }))).count();
    assert_eq!((created, refused), (10, 30));
    assert_eq!(tables.keys(Some("w")).await.unwrap().len(), 10);
}

async fn revokes_once(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    tables.create_key(key("w", 1), 10).await.unwrap();
    assert!(!tables.revoke_key("nobody", 7).await.unwrap());
    assert!(tables.revoke_key(&key("w", 1).id, 7).await.unwrap());
    assert!(tables.revoke_key(&key("w", 1).id, 8).await.unwrap());
    tables.create_key(key("w", 1), 10).await.unwrap();
    let tables = reopen(&*place, tables).await;
    let found = tables.key_by_hash(&key("w", 1).hash).await.unwrap().unwrap();
    assert_eq!(found.revoked_at, Some(7), "the first time stays, and creating again does not undo it");
}

async fn notes_use(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    tables.create_key(key("w", 1), 10).await.unwrap();
    tables.touch_key("nobody", 9).await.unwrap();
    assert_eq!(tables.keys(None).await.unwrap().len(), 1, "use makes no key");
    let minute = 60_000_000;
    for at in [5 * minute, 5 * minute + 1, 9 * minute] {
        tables.touch_key(&key("w", 1).id, at).await.unwrap();
        let found = tables.key_by_hash(&key("w", 1).hash).await.unwrap().unwrap();
        let noted = found.last_used_at.unwrap();
        assert!((at - noted).abs() <= minute, "used at {at}, noted {noted}");
    }
}
