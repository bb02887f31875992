//! Processes that come and go, are killed, paused and replaced, while four writers write.

use super::{Fleet, process::Process};
use crate::{
    kills::setting,
    writers::{Work, Writer},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// Longer than the session of a consumer group that has not been heard of.
const PAST_ITS_SESSION: Duration = Duration::from_secs(5);

/// Lets the writers work for a while.
async fn for_a_while(random: &mut StdRng) {
    tokio::time::sleep(Duration::from_millis(random.random_range(300..1_500))).await;
}

async fn ends_well(process: &mut Process) {
    let (status, took) = process.terminate().await;
    assert!(status.success(), "{}: {status:?}", process.role);
    assert!(took < Duration::from_secs(10), "{} took {took:?}", process.role);
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

/// One after the other, as an orchestrator replaces them: nobody who tries again loses anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing() {
    let mut fleet = Fleet::new().await;
    let mut random = StdRng::seed_from_u64(2);
    let mut processes = [fleet.serve().await, fleet.serve().await, fleet.pipeline().await, fleet.pipeline().await];
    let servers = fleet.clients(&processes[..2]);
    let work = Work::start(Writer::four(2), &servers);
    for process in &mut processes {
        for_a_while(&mut random).await;
        ends_well(process).await;
        *process = fleet.again(process).await;
    }
    for_a_while(&mut random).await;
    let writers = work.finish().await;
    fleet.check(&servers, &writers).await;
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
