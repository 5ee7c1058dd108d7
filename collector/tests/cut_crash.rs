//! The agent killed at each point in the life of a cut (feature `failpoints`): before it is durable,
//! after, with its record on the way, and with its record in the sink. Whatever is written afterwards,
//! no record is made twice with another body, and nothing is missing.
#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "the whole crate is tests")]

#[path = "behaviour/harness.rs"]
#[expect(dead_code, unused_macros, unused_imports, reason = "shared with the behaviour tests")]
mod harness;

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use harness::{Container, World};
use serde_json::Value;

const PART: &[u8] = b"2026-11-22T01:02:03.2Z stdout P last words\n";
const REST: &[u8] = b"2026-11-22T01:02:03.3Z stdout F and more\n";

/// Records as they stand in the output, whether committed or not: uid and body.
fn written(world: &World) -> Vec<(String, String)> {
    let text = fs::read_to_string(world.path("out/out.ndjson")).unwrap_or_default();
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let field = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
    records.map(|record| (field(&record, "log.record.uid"), field(&record, "body"))).collect()
}

/// Lets the agent die at `point`, at the `passes + 1`st time it gets there, goes on writing, and starts
/// it again. The bodies that the output had at the crash, and those that it has in the end.
fn crash_at(point: &str, passes: u32) -> (Vec<String>, Vec<String>) {
    let mut world = World::new("auto");
    world.extra = "read:\n  unfinished_after: 600ms\n".into();
    let mut container: Container = world.container("a");
    container.write(2);
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    command.env("FAILPOINTS", format!("{point}={passes}*off->panic"));
    let agent = world.start_by(command);
    std::thread::sleep(Duration::from_millis(300));
    container.raw(PART);
    // It is dead by now, unless it gets there less often.
    std::thread::sleep(Duration::from_millis(3000));
    agent.kill();
    let before = written(&world);
    container.raw(REST);
    container.write(1);
    let agent = world.start();
    world.wait_for(4);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
    let after = written(&world);
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for (uid, body) in before.iter().chain(&after) {
        let first = known.entry(uid).or_insert(body);
        assert_eq!(first, body, "{point}: one uid, two bodies");
    }
    let bodies = |records: &[(String, String)]| -> Vec<String> {
        records.iter().map(|(_, body)| body.clone()).collect()
    };
    (bodies(&before), bodies(&after))
}

const CUT: [&str; 5] = ["message 0", "message 1", "last words", "and more", "message 2"];

#[test]
fn killed_before_the_cut_is_durable() {
    let (before, after) = crash_at("cut.requested", 0);
    assert!(!before.contains(&"last words".to_owned()), "sent before it was durable");
    assert_eq!(after, ["message 0", "message 1", "last wordsand more", "message 2"]);
}

#[test]
fn killed_while_the_cut_is_made_durable() {
    for point in ["checkpoint.appended", "checkpoint.synced"] {
        for passes in 0..5 {
            let mut world = World::new("auto");
            world.extra = "read:\n  unfinished_after: 600ms\n".into();
            let mut container = world.container("a");
            container.write(2);
            container.raw(PART);
            let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
            command.env("FAILPOINTS", format!("{point}={passes}*off->panic"));
            let agent = world.start_by(command);
            // It is dead by now, unless it commits less often.
            std::thread::sleep(Duration::from_millis(2500));
            agent.kill();
            let before = written(&world);
            container.raw(REST);
            let agent = world.start();
            world.wait_for(3);
            std::thread::sleep(Duration::from_millis(1200));
            assert_eq!(agent.stop(), Some(0));
            let after = written(&world);
            let known: BTreeMap<_, _> = after.iter().cloned().collect();
            assert_eq!(known.len(), after.len(), "{point} {passes}: doubled: {after:?}");
            for (uid, body) in before {
                assert_eq!(known.get(&uid), Some(&body), "{point} {passes}: {after:?}");
            }
            let all = after.iter().map(|(_, body)| body.as_str()).collect::<String>();
            assert_eq!(all, "message 0message 1last wordsand more", "{point} {passes}");
        }
    }
}

#[test]
fn killed_after_the_cut_is_durable() {
    assert_eq!(crash_at("cut.durable", 0).1, CUT);
}

#[test]
fn killed_with_the_cut_messages_record_on_the_way() {
    assert_eq!(crash_at("cut.applied", 0).1, CUT);
}

#[test]
fn killed_with_the_cut_messages_record_in_the_sink() {
    for passes in 1..5 {
        let (before, after) = crash_at("settle.receipt", passes);
        let sent = before.contains(&"last words".to_owned());
        if sent {
            assert_eq!(after, CUT);
            return;
        }
    }
    panic!("never killed behind the record");
}
