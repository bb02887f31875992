//! API keys mean the same to every process.

use super::Fleet;
use crate::{
    harness::{Http, finish},
    model::record,
};
use std::time::{Duration, Instant};

/// Makes a key with further flags; the key and its id.
async fn create(fleet: &Fleet, flags: &str) -> (String, String) {
    let words = format!("keys create --workspace default --label l --source s --permission api:write --json {flags}");
    let created = finish(fleet.command(&words)).await.ok().json();
    let text = |name: &str| created[name].as_str().expect("text").to_owned();
    (text("key"), text("id"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_stops_working_everywhere_within_five_seconds() {
    let mut fleet = Fleet::new().await;
    let serves = [fleet.serve().await, fleet.serve().await];
    let (key, id) = create(&fleet, "").await;
    let clients: Vec<Http> = serves.iter().map(|serve| Http::new(serve.listen.expect("an API"), &key)).collect();
    let body = record("r", 1_600_000_000, "{}");
    for client in &clients {
        assert_eq!(client.ndjson(body.as_str()).await.status, 202);
    }
    finish(fleet.command(&format!("keys revoke {id}"))).await.ok();
    let revoked = Instant::now();
    for client in &clients {
        while client.ndjson(body.as_str()).await.status != 401 {
            assert!(revoked.elapsed() < Duration::from_secs(5), "it still works");
        }
    }
}

/// Two processes give out one rate: what docs/ARCHITECTURE.md states, under more requests than that at both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_holds_over_all_processes() {
    const RATE: u32 = 20;
    const MEASURED: Duration = Duration::from_secs(10);
    let mut fleet = Fleet::new().await;
    let serves = [fleet.serve().await, fleet.serve().await];
    let (key, _) = create(&fleet, &format!("--rate-limit {RATE}")).await;
    let hammer = |begun: Instant, until: Duration| {
        let clients = serves.iter().map(|serve| Http::new(serve.listen.expect("an API"), &key));
        futures::future::join_all(clients.map(|client| async move {
            let mut taken = 0;
            while begun.elapsed() < until {
                // Reading costs what writing does, and nothing else.
                let status = client.get("/batches?limit=1").await.status;
                assert!(matches!(status, 200 | 429), "{status}");
                taken += u32::from(status == 200);
            }
            taken
        }))
    };
    // Until they know of each other.
    hammer(Instant::now(), Duration::from_secs(4)).await;
    let taken: Vec<u32> = hammer(Instant::now(), MEASURED).await;
    let (all, wanted) = (taken.iter().sum::<u32>(), RATE * MEASURED.as_secs() as u32);
    // A tenth of it, and a burst of one second in which it began.
    assert!(all <= wanted + wanted / 10 + RATE, "{taken:?} of {wanted}");
    assert!(all >= wanted / 2, "{taken:?} of {wanted}: none is held back for nothing");
}
