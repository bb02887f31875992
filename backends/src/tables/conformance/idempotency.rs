//! Idempotency keys: races, leases, expiry.

use super::{Factory, reopen};
use crate::tables::{Hold, Reservation, Tables};
use futures::future::try_join_all;
use uuid::Uuid;

const NOW: i64 = 1_000_000_000;
const LEASE: i64 = 60_000_000;
const DAY: i64 = 86_400_000_000;

/// All checks of idempotency keys.
pub async fn run(factory: &dyn Factory) {
    one_of_many_twins_is_fresh(factory).await;
    answers_from_the_store(factory).await;
    gives_up(factory).await;
    ends_leases(factory).await;
    survives_clock_jumps(factory).await;
    completes_late(factory).await;
    expires(factory).await;
    survives_reopening(factory).await;
}

fn hold(key: &str, body: u8, owner: u128) -> Hold {
    Hold { workspace: "w".to_owned(), key: key.to_owned(), body_hash: [body; 32], owner: Uuid::from_u128(owner) }
}

async fn reserve(tables: &dyn Tables, hold: &Hold, now: i64) -> Reservation {
    tables.reserve(hold, now, now + LEASE).await.unwrap()
}

async fn one_of_many_twins_is_fresh(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    for round in 0..5 {
        let key = format!("key {round}");
        let twins: Vec<_> = (1..=40).map(|owner| hold(&key, 1, owner)).collect();
        let answers = try_join_all(twins.iter().map(|twin| tables.reserve(twin, NOW, NOW + LEASE))).await.unwrap();
        let fresh = answers.iter().filter(|answer| **answer == Reservation::Fresh).count();
        let waiting = answers.iter().filter(|answer| **answer == Reservation::InFlight).count();
        assert_eq!((fresh, waiting), (1, 39));
    }
}

async fn answers_from_the_store(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let (first, twin, other) = (hold("k", 1, 1), hold("k", 1, 2), hold("k", 2, 3));
    assert_eq!(reserve(&*tables, &first, NOW).await, Reservation::Fresh);
    assert_eq!(reserve(&*tables, &first, NOW).await, Reservation::Fresh, "the same call again");
    assert_eq!(reserve(&*tables, &other, NOW).await, Reservation::Mismatch);
    let response = [0, 1, 0xFF];
    assert!(tables.complete(&first, &response, NOW + DAY).await.unwrap());
    assert!(tables.complete(&first, &response, NOW + DAY).await.unwrap(), "the same call again");
    assert_eq!(reserve(&*tables, &twin, NOW + 1).await, Reservation::Stored(response.to_vec()));
    assert_eq!(reserve(&*tables, &other, NOW + 1).await, Reservation::Mismatch);
    tables.release(&first).await.unwrap();
    assert_eq!(reserve(&*tables, &twin, NOW + 1).await, Reservation::Stored(response.to_vec()), "done is done");
    let elsewhere = Hold { workspace: "v".to_owned(), ..other.clone() };
    assert_eq!(reserve(&*tables, &elsewhere, NOW).await, Reservation::Fresh, "keys belong to a workspace");
    // Names that would run into each other when merely put together.
    let (left, right) = (Hold { workspace: "wk".to_owned(), ..hold("x", 1, 1) }, hold("kx", 2, 2));
    assert_eq!(reserve(&*tables, &left, NOW).await, Reservation::Fresh);
    assert_eq!(reserve(&*tables, &right, NOW).await, Reservation::Fresh);
}

async fn gives_up(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let (first, twin) = (hold("k", 1, 1), hold("k", 1, 2));
    assert_eq!(reserve(&*tables, &first, NOW).await, Reservation::Fresh);
    tables.release(&twin).await.unwrap();
    assert_eq!(reserve(&*tables, &twin, NOW).await, Reservation::InFlight, "only the holder gives up");
    tables.release(&first).await.unwrap();
    tables.release(&first).await.unwrap();
    assert_eq!(reserve(&*tables, &hold("k", 2, 3), NOW).await, Reservation::Fresh, "as if never used");
}

async fn ends_leases(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let (dead, heir) = (hold("k", 1, 1), hold("k", 1, 2));
    assert_eq!(reserve(&*tables, &dead, NOW).await, Reservation::Fresh);
    assert_eq!(reserve(&*tables, &heir, NOW + LEASE - 1).await, Reservation::InFlight);
    assert_eq!(reserve(&*tables, &heir, NOW + LEASE).await, Reservation::Fresh);
    // The one thought dead was only slow: it must neither take the key away nor answer for the heir.
    tables.release(&dead).await.unwrap();
    assert!(!tables.complete(&dead, b"late", NOW + DAY).await.unwrap(), "and it is told");
    assert_eq!(reserve(&*tables, &hold("k", 1, 3), NOW + LEASE).await, Reservation::InFlight);
    assert!(tables.complete(&heir, b"heir", NOW + DAY).await.unwrap());
    assert!(!tables.complete(&dead, b"later", NOW + DAY).await.unwrap());
    assert_eq!(reserve(&*tables, &dead, NOW + LEASE).await, Reservation::Stored(b"heir".to_vec()));
}

/// Taken when the clock was a day ahead: the hold ends a lease after it is next asked for.
async fn survives_clock_jumps(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let (dead, heir) = (hold("k", 1, 1), hold("k", 1, 2));
    assert_eq!(reserve(&*tables, &dead, NOW + DAY).await, Reservation::Fresh);
    assert_eq!(reserve(&*tables, &heir, NOW).await, Reservation::InFlight);
    assert_eq!(reserve(&*tables, &heir, NOW + LEASE - 1).await, Reservation::InFlight);
    assert_eq!(reserve(&*tables, &heir, NOW + LEASE).await, Reservation::Fresh);
}

/// A lease that has ended takes nothing away as long as nobody has the key.
async fn completes_late(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let (slow, heir) = (hold("k", 1, 1), hold("k", 1, 2));
    assert_eq!(reserve(&*tables, &slow, NOW).await, Reservation::Fresh);
    assert_eq!(tables.expire(NOW + LEASE + 1).await.unwrap(), 1);
    assert!(tables.complete(&slow, b"slow", NOW + DAY).await.unwrap());
    assert_eq!(reserve(&*tables, &heir, NOW + LEASE + 1).await, Reservation::Stored(b"slow".to_vec()));
}

async fn expires(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let response = b"done";
    for n in 0..30_u8 {
        let hold = hold(&format!("k{n}"), 1, 1);
        assert_eq!(reserve(&*tables, &hold, NOW).await, Reservation::Fresh);
        // Ten are done, ten are held, ten were given up.
        match n % 3 {
            0 => assert!(tables.complete(&hold, response, NOW + DAY + i64::from(n)).await.unwrap()),
            1 => {}
            _ => tables.release(&hold).await.unwrap(),
        }
    }
    let twin = hold("k0", 1, 2);
    assert_eq!(tables.expire(NOW).await.unwrap(), 0);
    assert_eq!(tables.expire(NOW + LEASE + 1).await.unwrap(), 10, "the holds");
    assert_eq!(reserve(&*tables, &twin, NOW + DAY - 1).await, Reservation::Stored(response.to_vec()));
    assert_eq!(reserve(&*tables, &twin, NOW + DAY).await, Reservation::Fresh, "expired, though not yet swept");
    assert_eq!(tables.expire(NOW + DAY + 28).await.unwrap(), 9, "the rest of the responses, not the new hold");
    assert_eq!(reserve(&*tables, &hold("k0", 1, 3), NOW + DAY).await, Reservation::InFlight);
    assert_eq!(reserve(&*tables, &hold("k3", 2, 3), NOW).await, Reservation::Fresh);
}

async fn survives_reopening(factory: &dyn Factory) {
    let place = factory.place().await;
    let tables = place.open().await;
    let (done, held, given) = (hold("done", 1, 1), hold("held", 1, 1), hold("given", 1, 1));
    for hold in [&done, &held, &given] {
        assert_eq!(reserve(&*tables, hold, NOW).await, Reservation::Fresh);
    }
    tables.complete(&done, b"done", NOW + DAY).await.unwrap();
    tables.release(&given).await.unwrap();
    let tables = reopen(&*place, tables).await;
    let twin = |hold: &Hold| Hold { owner: Uuid::from_u128(2), ..hold.clone() };
    assert_eq!(reserve(&*tables, &twin(&done), NOW).await, Reservation::Stored(b"done".to_vec()));
    assert_eq!(reserve(&*tables, &twin(&given), NOW).await, Reservation::Fresh);
    // Where only one process can run, its end is known at once; elsewhere the lease must run out.
    let early = reserve(&*tables, &twin(&held), NOW).await;
    assert!(matches!(early, Reservation::InFlight | Reservation::Fresh), "{early:?}");
    let third = Hold { owner: Uuid::from_u128(3), ..held };
    assert_eq!(reserve(&*tables, &third, NOW + LEASE).await, Reservation::Fresh);
}
