//! The key index: lookup, last write wins, watermark, scan, clear.

use super::{Factory, reopen};
use crate::tables::{IndexPart, Location, Tables};
use std::collections::BTreeMap;
use tributary_schemas::identity::Identity;
use uuid::Uuid;

type Entry = (Identity, Location);

/// All checks of the key index.
pub async fn run(factory: &dyn Factory) {
    looks_up_in_the_order_asked(factory).await;
    the_last_table_version_wins(factory).await;
    keeps_parts_apart(factory).await;
    moves_the_watermark(factory).await;
    scans_in_key_order(factory).await;
    clears(factory).await;
    what_is_half_there_never_goes_for_all(factory).await;
}

fn part(workspace: &str, lane: u32) -> IndexPart {
    IndexPart { workspace: workspace.to_owned(), lane }
}

fn identity(n: u32) -> Identity {
    let hash = blake3::hash(&n.to_le_bytes());
    Identity(*hash.as_bytes().first_chunk().unwrap())
}

fn location(n: u32, table_version: u64) -> Location {
    Location {
        file: Uuid::from_u128(u128::from(table_version) << 64 | 7),
        row: n,
        version: i64::MIN + i64::from(n),
        digest: -i64::from(n),
        table_version,
    }
}

fn entries(numbers: impl IntoIterator<Item = u32>, table_version: u64) -> Vec<Entry> {
    numbers.into_iter().map(|n| (identity(n), location(n, table_version))).collect()
}

async fn all(tables: &dyn Tables, part: &IndexPart) -> Vec<Entry> {
    let mut all = Vec::new();
    tables.scan(part, &mut |slice| all.extend_from_slice(slice)).await.unwrap();
    all
}

async fn looks_up_in_the_order_asked(factory: &dyn Factory) {
    let place = factory.place().await;
    let (tables, part) = (place.open().await, part("w", 0));
    let asked = [5, 1_000, 2, 5, 999].map(identity);
    assert_eq!(tables.lookup(&part, &asked).await.unwrap().locations, [None; 5]);
    tables.upsert(&part, &entries(0..1_000, 3)).await.unwrap();
    tables.upsert(&part, &[]).await.unwrap();
    let found = [Some(location(5, 3)), None, Some(location(2, 3)), Some(location(5, 3)), Some(location(999, 3))];
    assert_eq!(tables.lookup(&part, &asked).await.unwrap().locations, found);
    assert_eq!(tables.lookup(&part, &[]).await.unwrap().locations, []);
    let tables = reopen(&*place, tables).await;
    assert_eq!(tables.lookup(&part, &asked).await.unwrap().locations, found);
}

async fn the_last_table_version_wins(factory: &dyn Factory) {
    let place = factory.place().await;
    let (tables, part) = (place.open().await, part("w", 0));
    tables.upsert(&part, &entries([1, 2, 3], 5)).await.unwrap();
    // Twice in one call, in both orders.
    let twice = [(identity(2), location(20, 7)), (identity(2), location(21, 6)), (identity(4), location(4, 4))];
    tables.upsert(&part, &twice).await.unwrap();
    let tables = reopen(&*place, tables).await;
    // Older ones come late; an equal one is the same commit, written again.
    let late = [(identity(1), location(10, 4)), (identity(2), location(22, 6)), (identity(4), location(40, 6))];
    tables.upsert(&part, &late).await.unwrap();
    tables.upsert(&part, &[(identity(3), location(30, 5))]).await.unwrap();
    let found = tables.lookup(&part, &[1, 2, 3, 4, 5].map(identity)).await.unwrap().locations;
    let won = [Some(location(1, 5)), Some(location(20, 7)), Some(location(30, 5)), Some(location(40, 6)), None];
    assert_eq!(found, won);
}

async fn keeps_parts_apart(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let parts = [part("w", 0), part("w", 1), part("v", 0), part("w\0", 0)];
    for (n, part) in (1..).zip(&parts) {
        tables.upsert(part, &entries(0..n * 10, u64::from(n))).await.unwrap();
        tables.set_watermark(part, u64::from(n)).await.unwrap();
    }
    tables.clear(&parts[1]).await.unwrap();
    let tables = reopen(&*place, tables).await;
    for (n, wanted) in [(0, 10), (1, 0), (2, 30), (3, 40)] {
        assert_eq!(all(&*tables, &parts[n]).await.len(), wanted);
        let watermark = (wanted > 0).then_some(n as u64 + 1);
        assert_eq!(tables.watermark(&parts[n]).await.unwrap(), watermark);
    }
}

async fn moves_the_watermark(factory: &dyn Factory) {
    let place = factory.place().await;
    let (tables, part) = (place.open().await, part("w", 0));
    assert_eq!(tables.watermark(&part).await.unwrap(), None);
    tables.upsert(&part, &entries([1], 1)).await.unwrap();
    assert_eq!(tables.watermark(&part).await.unwrap(), None);
    tables.set_watermark(&part, 0).await.unwrap();
    assert_eq!(tables.watermark(&part).await.unwrap(), Some(0));
    tables.set_watermark(&part, u64::MAX).await.unwrap();
    tables.upsert(&part, &entries([2], 2)).await.unwrap();
    let tables = reopen(&*place, tables).await;
    assert_eq!(tables.watermark(&part).await.unwrap(), Some(u64::MAX));
}

async fn scans_in_key_order(factory: &dyn Factory) {
    let place = factory.place().await;
    let (tables, part) = (place.open().await, part("w", 0));
    assert_eq!(all(&*tables, &part).await, []);
    let mut wanted: BTreeMap<Identity, Location> = BTreeMap::new();
    // The first and the last identity there can be, and more than one slice of others.
    for identity in [Identity([0; 16]), Identity([0xFF; 16])] {
        wanted.insert(identity, location(1, 1));
    }
    wanted.extend(entries(0..20_000, 1));
    let entries: Vec<Entry> = wanted.iter().map(|(identity, location)| (*identity, *location)).collect();
    tables.upsert(&part, &entries).await.unwrap();
    assert_eq!(all(&*tables, &part).await, entries);
}

async fn clears(factory: &dyn Factory) {
    let place = factory.place().await;
    let (tables, part) = (place.open().await, part("w", 0));
    tables.clear(&part).await.unwrap();
    tables.upsert(&part, &entries(0..20_000, 9)).await.unwrap();
    tables.set_watermark(&part, 9).await.unwrap();
    tables.clear(&part).await.unwrap();
    assert_eq!(tables.watermark(&part).await.unwrap(), None);
    assert_eq!(all(&*tables, &part).await, []);
    // A rebuilt index may hold lower versions than the one before it.
    tables.upsert(&part, &entries([1], 2)).await.unwrap();
    let tables = reopen(&*place, tables).await;
    assert_eq!(all(&*tables, &part).await, entries([1], 2));
    assert_eq!(tables.watermark(&part).await.unwrap(), None);
}

/// While a part is dropped and filled again, whoever looks finds all of it, or is told that nobody says so.
async fn what_is_half_there_never_goes_for_all(factory: &dyn Factory) {
    let place = factory.place().await;
    let (tables, part) = (place.open().await, part("w", 0));
    let all = entries(0..300, 1);
    let keys: Vec<_> = all.iter().map(|entry| entry.0).collect();
    let rebuild = async {
        for _ in 0..5 {
            tables.clear(&part).await.unwrap();
            tables.upsert(&part, &all[..100]).await.unwrap();
            tables.upsert(&part, &all[100..]).await.unwrap();
            tables.set_watermark(&part, 1).await.unwrap();
        }
    };
    let look = async {
        loop {
            let found = tables.lookup(&part, &keys).await.unwrap();
            assert!(found.complete_to.is_none() || found.locations.iter().all(Option::is_some), "{found:?}");
            let mut count = 0;
            let complete_to = tables.scan(&part, &mut |slice| count += slice.len()).await.unwrap();
            assert!(complete_to.is_none() || count == all.len(), "{count} entries, complete to {complete_to:?}");
        }
    };
    tokio::select! {
        () = rebuild => {}
        () = look => {}
    }
    let found = tables.lookup(&part, &keys).await.unwrap();
    assert_eq!(found.complete_to, Some(1));
    assert!(found.locations.iter().eq(all.iter().map(|entry| Some(entry.1)).collect::<Vec<_>>().iter()));
}
