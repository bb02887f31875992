//! Processes that come and go, are killed, paused and replaced, while four writers write.

use super::{Fleet, balancer::Balancer, process::Process};
use crate::{
    harness::Http,
    kills::setting,
    writers::{Work, Writer},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longer than the session of a consumer group that has not been heard of.
const PAST_ITS_SESSION: Duration = Duration::from_secs(5);

/// How long `serve` goes on by default when it is told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Lets the writers work for a while.
async fn for_a_while(random: &mut StdRng) {
    tokio::time::sleep(Duration::from_millis(random.random_range(300..1_500))).await;
}

async fn ends_well(process: &mut Process) {
    let (status, took) = process.terminate().await;
    assert!(status.success(), "{}: {status:?}", process.role);
    let drain = if process.role == "serve" { DRAIN } else { Duration::ZERO };
    assert!((drain..drain + Duration::from_secs(10)).contains(&took), "{} took {took:?}", process.role);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_each() {
    let mut fleet = Fleet::new().await;
    let mut random = StdRng::seed_from_u64(1);
    let serves = [fleet.serve().await, fleet.serve().await];
    let mut pipelines = vec![fleet.pipeline().await, fleet.pipeline().await];
    let servers = fleet.clients(&serves);
    let work = Work::start(Writer::four(1), &servers);
    for _ in 0..2 {
        for_a_while(&mut random).await;
        pipelines.push(fleet.pipeline().await);
    }
    while pipelines.len() > 1 {
        for_a_while(&mut random).await;
        ends_well(&mut pipelines.remove(0)).await;
    }
    let writers = work.finish().await;
    fleet.check(&servers, &writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments() {
    let (rounds, seed) = (setting("TRIBUTARY_KILL_ROUNDS", 5), setting("TRIBUTARY_KILL_SEED", 1));
    let mut fleet = Fleet::new().await;
    let mut random = StdRng::seed_from_u64(seed);
    let mut processes = [fleet.serve().await, fleet.serve().await, fleet.pipeline().await, fleet.pipeline().await];
    let servers = fleet.clients(&processes[..2]);
    let mut writers = Writer::four(seed);
    for round in 1..=rounds {
        let work = Work::start(writers, &servers);
        for _ in 0..random.random_range(1..=3) {
            for_a_while(&mut random).await;
            let victim = random.random_range(0..processes.len());
            processes[victim].kill();
            processes[victim] = fleet.again(&processes[victim]).await;
        }
        writers = work.finish().await;
        if round % 5 == 0 || round == rounds {
            fleet.check(&servers, &writers).await;
        }
    }
}

/// Asks a server again and again while the balancer lets it; how often there was no answer.
async fn ask_on(http: Http, stop: CancellationToken) -> usize {
    let mut unanswered = 0;
    while !stop.is_cancelled() {
        if http.is_in_use() && http.try_get("/batches?limit=1").await.is_err() {
            unanswered += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unanswered
}

/// One after the other, as an orchestrator replaces them, behind a balancer that heeds `/readyz`: each request is answered,
/// and nobody who tries again loses anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing() {
    let mut fleet = Fleet::new().await;
    let mut random = StdRng::seed_from_u64(2);
    let mut processes = [fleet.serve().await, fleet.serve().await, fleet.pipeline().await, fleet.pipeline().await];
    let balancer = Balancer::of(&processes[..2]);
    let servers = balancer.before(fleet.clients(&processes[..2]));
    let work = Work::start(Writer::four(2), &servers);
    let stop = CancellationToken::new();
    let askers: JoinSet<usize> = servers.iter().map(|http| ask_on(http.clone(), stop.clone())).collect();
    for process in &mut processes {
        for_a_while(&mut random).await;
        ends_well(process).await;
        *process = fleet.again(process).await;
    }
    for_a_while(&mut random).await;
    let writers = work.finish().await;
    stop.cancel();
    let unanswered = askers.join_all().await.into_iter().sum::<usize>();
    fleet.check(&servers, &writers).await;
    let lost = unanswered + writers.iter().map(|writer| writer.unanswered).sum::<usize>();
    assert_eq!(lost, 0, "requests without an answer");
    assert!(balancer.noticed() >= 2, "each of the servers was away for a while");
}

/// Told again while it drains, it waits no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_cuts_the_draining_short() {
    let mut fleet = Fleet::new().await;
    let mut serve = fleet.start("serve", "127.0.0.1:0", vec![("TRIBUTARY_DRAIN", "10m".to_owned())]).await;
    serve.signal("-TERM");
    while serve.is_ready().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let http = fleet.clients([&serve]).remove(0);
    assert_eq!(http.get("/batches").await.status, 200, "new connections are taken, and requests answered");
    let (status, took) = serve.terminate().await;
    assert!(status.success() && took < Duration::from_secs(10), "{status:?} after {took:?}");
}

/// It sleeps through its session with chunks in hand, and wakes up when its lanes are another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_paused_does_no_harm_and_goes_on() {
    let mut fleet = Fleet::new().await;
    let mut random = StdRng::seed_from_u64(3);
    let serve = fleet.serve().await;
    let pipelines = [fleet.pipeline().await, fleet.pipeline().await];
    let servers = fleet.clients([&serve]);
    let mut writers = Writer::four(3);
    for paused in &pipelines {
        let work = Work::start(writers, &servers);
        for_a_while(&mut random).await;
        paused.signal("-STOP");
        tokio::time::sleep(PAST_ITS_SESSION).await;
        paused.signal("-CONT");
        for_a_while(&mut random).await;
        writers = work.finish().await;
        fleet.check(&servers, &writers).await;
        paused.until_ready().await;
    }
    // Each of them can do all of it.
    let [mut first, _second] = pipelines;
    ends_well(&mut first).await;
    for writer in &mut writers {
        writer.write(&servers).await;
    }
    fleet.check(&servers, &writers).await;
}

/// A third one comes, and two of the three die while the lanes are being divided anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_killed_in_the_middle_of_a_rebalance() {
    let mut fleet = Fleet::new().await;
    let mut random = StdRng::seed_from_u64(4);
    let serve = fleet.serve().await;
    let mut pipelines = [fleet.pipeline().await, fleet.pipeline().await];
    let servers = fleet.clients([&serve]);
    let mut writers = Writer::four(4);
    for _ in 0..2 {
        let work = Work::start(writers, &servers);
        for_a_while(&mut random).await;
        let third = fleet.command("pipeline --admin 127.0.0.1:0 --json");
        let log = fleet.directory.path().join("third.log");
        let mut third = Process::start("pipeline", third, &log).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        pipelines[0].kill();
        third.kill();
        writers = work.finish().await;
        pipelines[0] = fleet.again(&pipelines[0]).await;
        fleet.check(&servers, &writers).await;
    }
}
