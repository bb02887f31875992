//! Disks that are full, read-only or damaged, and a clock that jumps back.

use crate::{
    harness::{Finished, Home, SmallDisk, Up, World, is_root, may_mount, query},
    model::{MESSAGES, NOTES, TRANSCRIPTS, Table, record, with_data},
};
use std::{os::unix::fs::PermissionsExt, process::Command, time::Duration};

/// Posts until the server says 503, and gives that answer.
async fn until_refused(up: &Up, table: &mut Table) -> crate::harness::Answer {
    for n in 0..10_000 {
        let line = record(&format!("fill-{n}"), 1_600_000_000, &format!("{{\"text\":\"{}\"}}", "x".repeat(100_000)));
        let answer = up.http.ndjson(line.as_str()).await;
        match answer.status {
            202 => table.take(&line),
            _ => return answer,
        }
    }
    panic!("the disk is never full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_recovers() {
    if !World::has_embedded("log and tables on a disk of ours") {
        return;
    }
    if !may_mount("faults::a_full_disk_refuses_and_recovers") {
        return;
    }
    let disk = SmallDisk::new(256);
    let lake = tempfile::tempdir().expect("a directory");
    let mut home = Home::with_data(&disk.path().join("data")).flags(&["--lake", &lake.path().display().to_string()]);
    let up = home.start();
    let mut table = Table::default();
    up.http.land(NOTES).await;
    table.take(NOTES);
    disk.leave(1024 * 1024);
    let refused = until_refused(&up, &mut table).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.retry_after.is_some() && refused.json["retryAfter"].is_u64(), "{refused:?}");
    disk.make_room();
    // It comes back by itself, without a restart.
    let body = TRANSCRIPTS.as_bytes().to_vec();
    let mut answer = up.http.ndjson(body.clone()).await;
    for _ in 0..600 {
        if answer.status == 202 {
            break;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer = up.http.ndjson(body.clone()).await;
    }
    up.http.complete(&answer.batch_id()).await;
    table.take(TRANSCRIPTS);
    let scan = format!("delta_scan('{}/default/records')", lake.path().display());
    // What was refused may have been kept or not, but what was accepted is there.
    let found = crate::harness::read_table(&scan);
    for (key, data) in &table.0 {
        assert_eq!(found.0.get(key), Some(data));
    }
    drop(up);
    let up = home.start();
    up.http.land(MESSAGES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lake_makes_the_lane_wait_at_every_step() {
    if !may_mount("faults::a_full_lake_makes_the_lane_wait_at_every_step") {
        return;
    }
    let disk = SmallDisk::new(64);
    let lake = disk.path().join("lake");
    // What fails again and again is said once a minute; here each of them is wanted.
    let mut home =
        Home::new().flags(&["--lake", &lake.display().to_string(), "--log", "info,tributary_pipeline=debug"]);
    let up = home.start();
    let scan = format!("delta_scan('{}/default/records')", lake.display());
    let mut table = Table::default();
    up.http.land(MESSAGES).await;
    table.take(MESSAGES);
    // A little more room each time, so that each of Parquet, deletion vectors and commit is the first not to fit.
    for (round, free) in [0, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76].into_iter().enumerate() {
        let changed =
            |line: &str| with_data(line, &format!("{{\"round\":{round},\"was\":{}}}", crate::model::read(line).1));
        let body: String = MESSAGES.lines().skip(round).step_by(7).map(|line| changed(line) + "\n").collect();
        disk.leave(free * 1024);
        let logged = home.log().len();
        let id = up.http.ndjson(body.as_str()).await.batch_id();
        // Either it does not fit, which is said, or it does.
        loop {
            let batch = up.http.get(&format!("/batches/{id}?wait=COMPLETE&timeout=1")).await;
            if batch.json["status"] == "COMPLETE" || home.log()[logged..].contains("no space left") {
                break;
            }
        }
        disk.make_room();
        up.http.complete(&id).await;
        table.take(&body);
        crate::harness::read_table(&scan).assert_is(&table);
    }
    let check = home.lake(&["check", "--lake", &lake.display().to_string()]).await;
    assert_eq!(check.code, 0, "{check:?}");
    let log = home.log();
    for step in [".parquet", "deletion_vector_", "_delta_log/"] {
        let full = |line: &str| line.contains(step) && line.contains("no space left");
        assert!(log.lines().any(full), "no {step} met a full disk: {log}");
    }
}

/// Runs `up` as somebody who may not write to what root owns.
async fn up_as_another_user(home: &Home) -> Finished {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let up = home.command();
    command.arg(up.get_program()).args(up.get_args()).current_dir("/");
    crate::harness::finish(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_ours_is_refused_with_its_name() {
    let mut home = Home::new();
    drop(home.start());
    // Readable, but nobody else may write.
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    std::fs::set_permissions(home.data(), PermissionsExt::from_mode(0o755)).expect("ours");
    let refused = if is_root() {
        up_as_another_user(&home).await
    } else {
        std::fs::set_permissions(home.data(), PermissionsExt::from_mode(0o555)).expect("ours");
        crate::harness::finish(home.command()).await
    };
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains(&home.data().display().to_string()), "{refused:?}");
    let reason = if is_root() { "65534" } else { "Permission denied" };
    assert!(refused.err.contains(reason), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_file_system_is_refused_with_its_name() {
    if !may_mount("faults::a_read_only_file_system_is_refused_with_its_name") {
        return;
    }
    let disk = SmallDisk::new(256);
    let mut home = Home::with_data(&disk.path().join("data"));
    drop(home.start());
    let remount = |how: &str| {
        let status = Command::new("mount").args(["-o", &format!("remount,bind,{how}")]).arg(disk.path()).status();
        assert!(status.expect("mount").success());
    };
    remount("ro");
    let refused = home.try_start(&[]).err().expect("refused");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains(&home.data().display().to_string()), "{refused:?}");
    assert!(refused.err.to_lowercase().contains("read-only"), "{refused:?}");
    remount("rw");
    home.start().http.land(NOTES).await;
}

/// Damages a file of the lake and expects `lake check` to name it.
async fn damaged(up: Up, home: &mut Home, victim: &str, damage: fn(Vec<u8>) -> Vec<u8>) {
    let files = up.files();
    assert!(up.terminate().await.0.success());
    let whole = files.read(victim).await;
    files.write(victim, damage(whole.clone())).await;
    let name = victim.rsplit('/').next().expect("a name");

    let check = home.lake(&["check"]).await;
    assert_eq!(check.code, 1, "{check:?}");
    assert!(format!("{}{}", check.out, check.err).contains(name), "names {name}: {check:?}");

    // Put back, all is well again: nothing was thrown away or written over the damage.
    files.write(victim, whole).await;
    let up = home.start();
    up.http.land(NOTES).await;
    up.table().assert_is(&Table::of(&[MESSAGES, NOTES].concat()));
    home.lake(&["check"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_delta_log_entry_is_named() {
    let cut: fn(Vec<u8>) -> Vec<u8> = |bytes| bytes[..bytes.len() / 2].to_vec();
    let zeroed: fn(Vec<u8>) -> Vec<u8> = |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 8].fill(0);
        bytes
    };
    for damage in [cut, zeroed] {
        let mut home = Home::new();
        let up = home.start();
        up.http.land(MESSAGES).await;
        let victim = up.files().newest_entry().await;
        damaged(up, &mut home, &victim, damage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_parquet_file_is_named() {
    let mut home = Home::new();
    let up = home.start();
    up.http.land(MESSAGES).await;
    let (victim, _) = up.files().data().await.pop_first().expect("a file");
    damaged(up, &mut home, &victim, |bytes| bytes[..bytes.len() - 20].to_vec()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_up_names_a_damaged_log_entry_and_refuses_to_write_over_it() {
    let mut home = Home::new();
    let up = home.start();
    let files = up.files();
    up.http.land(MESSAGES).await;
    drop(up);
    let victim = files.newest_entry().await;
    let whole = files.read(&victim).await;
    files.write(&victim, whole[..whole.len() / 2].to_vec()).await;
    let name = victim.rsplit('/').next().expect("a name");
    let told = match home.try_start(&[]) {
        Err(refused) => refused.err,
        Ok(mut up) => {
            let _ = up.http.ndjson(NOTES).await;
            for _ in 0..600 {
                if home.log().contains(name) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            up.kill();
            home.log()
        }
    };
    assert!(told.contains(name), "names {name}: {told}");
    assert_eq!(files.read(&victim).await.len(), whole.len() / 2, "left as it was, for the operator");
    assert_eq!(files.newest_entry().await, victim, "nothing committed on top");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_back_an_hour_changes_nothing() {
    let mut home = Home::new();
    let mut table = Table::default();
    // The 90th reading of the clock and all after it are an hour early.
    let up = home.try_start(&[("TRIBUTARY_CLOCK_JUMP", "-3600:90")]).expect("it starts");
    let mut ids = Vec::new();
    for round in 0..60 {
        let body: String =
            (0..20).map(|n| record(&format!("r{n}"), 1_600_000_000, &format!("{{\"v\":{round}}}")) + "\n").collect();
        let answer = up.http.ndjson(body.as_str()).await;
        ids.push(answer.batch_id());
        table.take(&body);
    }
    up.until_landed().await;
    up.table().assert_is(&table);
    let early = query(&format!("SELECT (epoch(now()) - epoch(min(received_at)))::BIGINT FROM {}", up.scan()));
    assert!(early[0][0].as_i64() > Some(3_000), "the clock did jump: {early:?}");

    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = up.http.get(&format!("/batches?limit=7{cursor}")).await;
        let batches = page.json["batches"].as_array().expect("batches").clone();
        listed.extend(batches.iter().map(|batch| batch["batchId"].as_str().expect("batchId").to_owned()));
        match page.json["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    listed.reverse();
    assert_eq!(listed, ids, "newest first, none skipped or repeated");
    home.lake(&["check"]).await.ok();
    // The key still works after a restart into the past, and versions still win by order, not by time.
    assert!(up.terminate().await.0.success());
    let up = home.try_start(&[("TRIBUTARY_CLOCK_JUMP", "-7200:0")]).expect("it starts");
    let last = record("r0", 1_600_000_000, "{\"v\":\"last\"}");
    up.http.land(last.as_str()).await;
    table.take(&last);
    up.table().assert_is(&table);
}
