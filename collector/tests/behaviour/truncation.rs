//! Truncation: seen at every entry into a file, after a start, a reload and while no agent ran.

use std::{fs, io::Write, os::unix::fs::FileExt, path::Path, time::Duration};

use rustix::process::Signal;

use crate::harness::{World, append, body, in_every_mode, lines};

in_every_mode!(
    truncated_after_a_start_and_regrown_past_the_offset,
    truncated_after_a_start_and_shorter,
    truncated_after_a_reload,
    truncated_while_down_with_the_same_beginning,
    truncated_while_down_with_the_same_beginning_and_lines_that_end_alike,
    truncated_while_down_inside_a_message,
    truncated_to_nothing_after_a_start,
    a_state_without_guards_is_taken_over,
    a_copy_that_copytruncate_left_is_not_read_again,
    copytruncated_while_down_the_copy_is_read_on,
    a_truncation_while_down_makes_a_loss_the_least,
    a_copy_of_a_living_file_is_not_read_again,
);

/// Truncates and writes anew; nobody sees it in between.
fn rewrite(path: &Path, text: &str) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(text.as_bytes(), 0).unwrap();
}

/// Every line of both lives once, under ids of their own.
fn assert_lives(world: &World, first: usize, second: usize) {
    world.wait_for(first + second);
    std::thread::sleep(Duration::from_millis(300));
    let records = world.records();
    let bodies: Vec<&str> = records.iter().map(body).collect();
    let wanted = lines("first", first) + &lines("second", second);
    assert_eq!(bodies, wanted.lines().collect::<Vec<_>>());
    let uids: std::collections::HashSet<_> =
        records.iter().map(|record| record["log.record.uid"].to_string()).collect();
    assert_eq!(uids.len(), records.len(), "a truncated file's offsets must not repeat a uid");
}

/// An agent that has read the first life, ended, and was followed by another that has nothing to read.
fn restarted(world: &World, path: &Path) -> crate::harness::Agent {
    append(path, lines("first", 100));
    let agent = world.start();
    world.wait_for(100);
    assert_eq!(agent.stop(), Some(0));
    let looks = world.log().matches("first look for logs is done").count();
    let agent = world.start();
    while world.log().matches("first look for logs is done").count() == looks {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(200));
    agent
}

fn truncated_after_a_start_and_regrown_past_the_offset(world: World) {
    let path = world.path("plain/app.log");
    let agent = restarted(&world, &path);
    agent.signal(Signal::STOP);
    rewrite(&path, &lines("second", 150));
    agent.signal(Signal::CONT);
    assert_lives(&world, 100, 150);
    assert_eq!(agent.stop(), Some(0));
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
}

fn truncated_after_a_start_and_shorter(world: World) {
    let path = world.path("plain/app.log");
    let agent = restarted(&world, &path);
    rewrite(&path, &lines("second", 20));
    assert_lives(&world, 100, 20);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// Nothing new is written for a while: what comes then is the new life's all the same.
fn truncated_to_nothing_after_a_start(world: World) {
    let path = world.path("plain/app.log");
    let agent = restarted(&world, &path);
    rewrite(&path, "");
    world.wait_for_log("was truncated");
    append(&path, lines("second", 150));
    assert_lives(&world, 100, 150);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

fn truncated_after_a_reload(mut world: World) {
    let path = world.path("plain/app.log");
    append(&path, lines("first", 100));
    let agent = world.start();
    world.wait_for(100);
    world.max_age = "51ms";
    world.write_config();
    agent.signal(Signal::HUP);
    world.wait_for_log("configuration was reloaded");
    std::thread::sleep(Duration::from_millis(300));
    agent.signal(Signal::STOP);
    rewrite(&path, &lines("second", 150));
    agent.signal(Signal::CONT);
    assert_lives(&world, 100, 150);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// A header that is longer than the fingerprint says nothing of what follows it.
fn truncated_while_down_with_the_same_beginning(world: World) {
    let path = world.path("plain/app.log");
    let header = format!("{}\n", "=".repeat(300));
    append(&path, &(header.clone() + &lines("first", 100)));
    let agent = world.start();
    world.wait_for(101);
    assert_eq!(agent.stop(), Some(0));
    rewrite(&path, &(header.clone() + &lines("second", 150)));
    let agent = world.start();
    let records = world.wait_for(252);
    assert_eq!(agent.stop(), Some(0));
    let bodies: Vec<&str> = records.iter().map(body).collect();
    let wanted = format!("{header}{}{header}{}", lines("first", 100), lines("second", 150));
    assert_eq!(bodies, wanted.lines().collect::<Vec<_>>());
    assert_eq!(world.audit().0, 0);
}

/// A program that begins with the same banner each time, and says the same at other times.
fn truncated_while_down_with_the_same_beginning_and_lines_that_end_alike(world: World) {
    let path = world.path("plain/app.log");
    let banner = format!("{}\n", "=".repeat(300));
    let text = "INFO  healthcheck ok path=/healthz status=200 duration=1ms client=kube-probe/1.29";
    let lines = |from: usize, count: usize| -> String {
        (from..from + count).map(|n| format!("{:08} {text}\n", n * 37)).collect()
    };
    append(&path, &(banner.clone() + &lines(0, 40)));
    let agent = world.start();
    world.wait_for(41);
    assert_eq!(agent.stop(), Some(0));
    let anew = banner.clone() + &lines(40, 60);
    rewrite(&path, &anew);
    let agent = world.start();
    append(&path, lines(100, 1));
    let records = world.wait_for(103);
    assert_eq!(agent.stop(), Some(0));
    let bodies: Vec<&str> = records.iter().map(body).collect();
    let wanted = format!("{banner}{}{anew}{}", lines(0, 40), lines(100, 1));
    assert_eq!(bodies, wanted.lines().collect::<Vec<_>>());
    assert_eq!(world.audit().0, 0);
}

/// The offset to resume at lies before what is settled; both are another file's.
fn truncated_while_down_inside_a_message(world: World) {
    let mut container = world.container("a");
    container.write(50);
    container.raw(b"2026-11-22T01:02:04Z stdout P a message without\n");
    container.raw(b"2026-11-22T01:02:05Z stderr F the last line of its life\n");
    let agent = world.start();
    world.wait_for(51);
    agent.kill();
    // The message's first half stands where it stood; what was settled behind it is not there.
    let kept = fs::read(container.live()).unwrap();
    let half = kept.windows(6).position(|bytes| bytes == b"stderr").unwrap() - 21;
    let mut anew = kept[..half].to_vec();
    for n in 0..50 {
        writeln!(anew, "2026-11-22T01:02:06.{n:09}Z stdout F second {n}").unwrap();
    }
    let file = fs::OpenOptions::new().write(true).open(container.live()).unwrap();
    file.set_len(half as u64).unwrap();
    file.write_all_at(&anew[half..], half as u64).unwrap();
    let agent = world.start();
    let wanted = format!("second {}", 49);
    let deadline = std::time::Instant::now() + crate::harness::patience();
    while !world.records().iter().any(|record| body(record) == wanted) {
        assert!(std::time::Instant::now() < deadline, "{}", world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(agent.stop(), Some(0));
    let records = world.records();
    for n in 0..50 {
        let wanted = format!("second {n}");
        let found = records.iter().filter(|record| body(record).ends_with(&wanted)).count();
        assert_eq!(found, 1, "{wanted}");
    }
}

/// As a version left it that kept no guards: the size tells, and from there on the guard does.
fn a_state_without_guards_is_taken_over(world: World) {
    let path = world.path("plain/app.log");
    append(&path, lines("first", 60));
    let agent = world.start();
    world.wait_for(60);
    assert_eq!(agent.stop(), Some(0));
    without_guards(&world.path("state/checkpoint"));
    append(&path, &lines("first", 100)[lines("first", 60).len()..]);
    let agent = world.start();
    world.wait_for(100);
    agent.signal(Signal::STOP);
    rewrite(&path, &lines("second", 150));
    agent.signal(Signal::CONT);
    assert_lives(&world, 100, 150);
    assert_eq!(agent.stop(), Some(0));
    without_guards(&world.path("state/checkpoint"));
    rewrite(&path, "third\n");
    let agent = world.start();
    let records = world.wait_for(251);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(body(&records[250]), "third");
}

/// Writes a checkpoint's records anew without guards.
fn without_guards(path: &Path) {
    let mut written = String::new();
    let mut dropped = 0;
    for line in fs::read_to_string(path).unwrap().lines() {
        let mut json: serde_json::Value =
            serde_json::from_str(line.splitn(3, ' ').nth(2).unwrap()).unwrap();
        for change in json.as_array_mut().into_iter().flatten() {
            if let Some(offset) = change.get_mut("offset").and_then(|it| it.as_array_mut()) {
                dropped += offset.len() - 7;
                offset.truncate(7);
            }
            let sinks = change.pointer_mut("/file/sinks").and_then(|it| it.as_object_mut());
            for offset in sinks.into_iter().flat_map(|sinks| sinks.values_mut()) {
                let guard = offset.as_object_mut().unwrap().remove("guard");
                dropped += usize::from(guard.is_some());
            }
        }
        let json = json.to_string();
        written += &format!("{:08x} {} {json}\n", crc32c::crc32c(json.as_bytes()), json.len());
    }
    assert!(dropped > 0, "there was no guard to take out");
    fs::write(path, written).unwrap();
}

/// `copytruncate` as logrotate does it: the copy's name is collected too.
fn copy_and_truncate(path: &Path, copy: &Path) {
    fs::copy(path, copy).unwrap();
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
}

/// The bodies once each, in whatever order of files.
fn assert_once(world: &World, wanted: &[(&str, usize)]) {
    let count = wanted.iter().map(|(_, count)| count).sum();
    world.wait_for(count);
    std::thread::sleep(Duration::from_secs(4));
    let records = world.records();
    let mut bodies: Vec<&str> = records.iter().map(body).collect();
    bodies.sort_unstable();
    let wanted: String = wanted.iter().map(|(life, count)| lines(life, *count)).collect();
    let mut wanted: Vec<&str> = wanted.lines().collect();
    wanted.sort_unstable();
    assert_eq!(bodies, wanted, "{}", world.log());
}

fn a_copy_that_copytruncate_left_is_not_read_again(mut world: World) {
    world.files = world.files.replace("*.log", "*.log*");
    let (path, copy) = (world.path("plain/app.log"), world.path("plain/app.log.1"));
    append(&path, lines("first", 100));
    let agent = world.start();
    world.wait_for(100);
    copy_and_truncate(&path, &copy);
    append(&path, lines("second", 150));
    assert_once(&world, &[("first", 100), ("second", 150)]);
    // Once more, and the copy of before gets the next number.
    fs::rename(&copy, world.path("plain/app.log.2")).unwrap();
    copy_and_truncate(&path, &copy);
    append(&path, lines("third", 10));
    assert_once(&world, &[("first", 100), ("second", 150), ("third", 10)]);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
    // What they are is known to the next agent.
    let agent = world.start();
    append(&path, lines("fourth", 10));
    assert_once(&world, &[("first", 100), ("second", 150), ("third", 10), ("fourth", 10)]);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

/// The copy holds what was written after the last look at the original.
fn copytruncated_while_down_the_copy_is_read_on(world: World) {
    let (path, copy) = (world.path("plain/app.log"), world.path("plain/app.log.1"));
    append(&path, lines("first", 100));
    let agent = world.start();
    world.wait_for(100);
    assert_eq!(agent.stop(), Some(0));
    append(&path, lines("more", 40));
    copy_and_truncate(&path, &copy);
    append(&path, lines("second", 300));
    let agent = world.start();
    assert_once(&world, &[("first", 100), ("more", 40), ("second", 300)]);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
    assert!(!world.log().contains("was truncated while no agent ran"), "{}", world.log());
}

/// Nobody saw what was written before it.
fn a_truncation_while_down_makes_a_loss_the_least(world: World) {
    let path = world.path("plain/app.log");
    append(&path, lines("first", 100));
    let agent = world.start();
    world.wait_for(100);
    assert_eq!(agent.stop(), Some(0));
    append(&path, lines("lost", 40));
    rewrite(&path, &lines("second", 300));
    let agent = world.start();
    assert_once(&world, &[("first", 100), ("second", 300)]);
    assert_eq!(agent.stop(), Some(0));
    let (_, audit) = world.audit();
    assert_eq!(audit["at_least"], true, "{audit}");
    assert!(world.log().contains("was truncated while no agent ran"), "{}", world.log());
}

/// Somebody copied a log and did not truncate it; a third file only looks like a copy.
fn a_copy_of_a_living_file_is_not_read_again(mut world: World) {
    world.files = world.files.replace("*.log", "*.log*");
    let path = world.path("plain/app.log");
    append(&path, &(format!("{}\n", "=".repeat(300)) + &lines("first", 100)));
    let agent = world.start();
    world.wait_for(101);
    fs::copy(&path, world.path("plain/app.log.1")).unwrap();
    let other = format!("{}\n", "=".repeat(300)) + &lines("other", 200);
    fs::write(world.path("plain/app.log.2"), other).unwrap();
    append(&path, lines("second", 20));
    world.wait_for(101 + 201 + 20);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(world.records().len(), 101 + 201 + 20, "{}", world.log());
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}
