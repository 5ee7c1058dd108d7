//! What comes again from a copy that `copytruncate` left has the uid that it had when it was sent from the original.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    copytruncate::{Log, compress, number},
    harness::{World, body, in_every_mode},
    receiver::{Fault, Receiver},
};

in_every_mode!(
    after_a_kill_lines_of_a_plain_copy_keep_their_uids,
    after_a_kill_lines_of_a_compressed_copy_keep_their_uids,
    after_kills_lines_of_a_copy_that_is_compressed_later_keep_their_uids,
    sinks_that_are_not_equally_far_get_a_copys_lines_by_the_same_uids,
    a_line_that_the_copy_has_in_part_has_another_uid,
    a_copy_is_cut_where_its_original_was,
    a_message_that_a_truncation_ended_ends_there_in_the_copy_too,
);

/// The checkpoint knows what the first sink has.
fn wait_until_durable() {
    std::thread::sleep(Duration::from_millis(1_500));
}

fn by_uid(records: &[Value]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut bodies = BTreeMap::<_, BTreeSet<_>>::new();
    for record in records {
        let uid = record["log.record.uid"].as_str().unwrap();
        bodies.entry(uid).or_default().insert(body(record));
    }
    bodies
}

fn assert_named_once(world: &World, receiver: &Receiver, log: &Log) {
    let records = receiver.wait_until("all lines", |records| {
        records.iter().map(number).collect::<BTreeSet<_>>().len() == log.written
    });
    assert!(records.len() > log.written, "nothing came again");
    let mut uids = BTreeMap::<usize, BTreeSet<&str>>::new();
    for record in &records {
        let uid = record["log.record.uid"].as_str().unwrap();
        uids.entry(number(record)).or_default().insert(uid);
    }
    let several: Vec<_> = uids.iter().filter(|(_, uids)| uids.len() > 1).collect();
    assert!(several.is_empty(), "{several:?}\n{}", world.log());
    assert_eq!(by_uid(&records).len(), log.written, "a uid stands for one line");
}

/// A sink takes lines without the agent hearing of it. They come again from the copy.
fn killed_around_copytruncate(mut world: World, compressed: bool) {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::ReplyLost));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    let mut log = Log::new(&world);
    log.write(100);
    let agent = world.start();
    world.wait_for(100);
    receiver.wait_until("what was there", |records| records.len() >= 100);
    wait_until_durable();
    agent.signal(Signal::STOP);
    log.rotate_unseen(compressed);
    agent.kill();
    let agent = world.start();
    receiver.always(None);
    world.wait_for(log.written);
    assert_named_once(&world, &receiver, &log);
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
    let (code, audit) = world.audit();
    assert_eq!((code, &audit["lost_bytes"]), (0, &0.into()), "{audit}\n{}", world.log());
}

fn after_a_kill_lines_of_a_plain_copy_keep_their_uids(world: World) {
    killed_around_copytruncate(world, false);
}

fn after_a_kill_lines_of_a_compressed_copy_keep_their_uids(world: World) {
    killed_around_copytruncate(world, true);
}

/// Two kills, and the copy is moved and compressed between them.
fn after_kills_lines_of_a_copy_that_is_compressed_later_keep_their_uids(mut world: World) {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::ReplyLost));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    world.sinks += "  store:\n    type: archive\n";
    let mut log = Log::new(&world);
    log.write(100);
    let agent = world.start();
    world.wait_for(100);
    receiver.wait_until("what was there", |records| records.len() >= 100);
    wait_until_durable();
    agent.signal(Signal::STOP);
    log.rotate_unseen(false);
    agent.kill();
    let agent = world.start();
    world.wait_for(log.written);
    wait_until_durable();
    agent.signal(Signal::STOP);
    log.rotate_unseen(false);
    compress(&log.former(2, ""), &log.former(2, ".gz"));
    agent.kill();
    let agent = world.start();
    world.wait_for(log.written);
    wait_until_durable();
    agent.kill();
    let agent = world.start();
    receiver.always(None);
    world.wait_for(log.written);
    assert_named_once(&world, &receiver, &log);
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
    let found = world.everyline(&["search", "line", "-o", "json"]);
    let found = String::from_utf8(found.stdout).unwrap();
    let archived: Vec<Value> = found.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let mut numbers: Vec<_> = archived.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..log.written).collect::<Vec<_>>());
    let (archived, filed) = (by_uid(&archived), world.records());
    assert_eq!(archived, by_uid(&filed), "the same uids for every sink");
    assert_eq!(archived, by_uid(&receiver.records()));
}

fn sinks_that_are_not_equally_far_get_a_copys_lines_by_the_same_uids(mut world: World) {
    let (behind, ahead) = (Receiver::start(&[]), Receiver::start(&[]));
    world.sinks += &behind.sink().replace("  out:", "  web:");
    world.sinks += &ahead.sink().replace("  out:", "  other:");
    let mut log = Log::new(&world);
    log.write(40);
    let agent = world.start();
    world.wait_for(40);
    behind.wait_until("the beginning", |records| records.len() == 40);
    ahead.wait_until("the beginning", |records| records.len() == 40);
    wait_until_durable();
    behind.always(Some(Fault::ReplyLost));
    log.write(30);
    world.wait_for(70);
    ahead.wait_until("more", |records| records.len() == 70);
    wait_until_durable();
    ahead.always(Some(Fault::ReplyLost));
    log.write(30);
    world.wait_for(100);
    ahead.wait_until("all", |records| records.len() >= 100);
    behind.wait_until("all", |records| records.len() > 40);
    wait_until_durable();
    agent.signal(Signal::STOP);
    log.rotate_unseen(false);
    agent.kill();
    let agent = world.start();
    behind.always(None);
    ahead.always(None);
    world.wait_for(log.written);
    assert_named_once(&world, &behind, &log);
    assert_named_once(&world, &ahead, &log);
    let (behind, ahead) = (behind.records(), ahead.records());
    assert_eq!(by_uid(&behind), by_uid(&ahead));
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
}

/// The original went on with a line while it was copied. The copy's part of it is another record: a receiver that
/// keeps the last of a uid would have it in the line's place.
fn a_line_that_the_copy_has_in_part_has_another_uid(mut world: World) {
    let receiver = Receiver::start(&[]);
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    let mut log = Log::new(&world);
    log.write(100);
    let mut agent = world.start();
    for compressed in [false, true] {
        let last = log.written - 1;
        receiver
            .wait_until("what was there", |records| records.iter().any(|it| number(it) == last));
        wait_until_durable();
        receiver.always(Some(Fault::ReplyLost));
        let mut live = File::options().append(true).open(&log.live).unwrap();
        live.write_all(format!("line {} of a", log.written).as_bytes()).unwrap();
        log.copy();
        live.write_all(b" log that copytruncate rotates\n").unwrap();
        log.written += 1;
        log.write(1);
        let whole = format!("line {} of a log", log.written - 2);
        let has = |records: &[Value]| records.iter().any(|it| body(it).starts_with(&whole));
        receiver.wait_until("the whole line", has);
        agent.signal(Signal::STOP);
        log.truncate();
        if compressed {
            log.compress();
        }
        log.write(3);
        agent.kill();
        agent = world.start();
        receiver.always(None);
        receiver.wait_until("what followed", |records| {
            records.iter().any(|record| number(record) + 1 == log.written)
        });
        // Longer than it takes to tell a copy.
        std::thread::sleep(Duration::from_secs(4));
        let records = receiver.records();
        let of_several: Vec<_> =
            by_uid(&records).into_iter().filter(|(_, bodies)| bodies.len() > 1).collect();
        assert!(of_several.is_empty(), "{of_several:?}\n{}", world.log());
    }
    assert_eq!(agent.stop(), Some(0));
}

/// A line was ended while nobody went on with it, and then somebody did: so it is read from the copy.
fn a_copy_is_cut_where_its_original_was(mut world: World) {
    let receiver = Receiver::start(&[]);
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    let mut log = Log::new(&world);
    log.write(100);
    let agent = world.start();
    receiver.wait_until("what was there", |records| records.len() == 100);
    wait_until_durable();
    receiver.always(Some(Fault::ReplyLost));
    let mut live = File::options().append(true).open(&log.live).unwrap();
    live.write_all(b"line 100 of a").unwrap();
    let has = |part: &'static str| {
        move |records: &[Value]| records.iter().any(|record| body(record) == part)
    };
    receiver.wait_until("the first part", has("line 100 of a"));
    live.write_all(b" line 101 that goes on\n").unwrap();
    // The agent hears of neither, so it sends the second when it has given up on the first.
    agent.signal(Signal::STOP);
    log.copy();
    log.truncate();
    fs::write(&log.live, "line 102 of a log\n").unwrap();
    agent.kill();
    let agent = world.start();
    receiver.always(None);
    receiver.wait_until("the second part", has(" line 101 that goes on"));
    receiver.wait_until("what followed", has("line 102 of a log"));
    let records = receiver.records();
    let of_several: Vec<_> =
        by_uid(&records).into_iter().filter(|(_, bodies)| bodies.len() > 1).collect();
    assert!(of_several.is_empty(), "{of_several:?}\n{}", world.log());
    let first = records.iter().filter(|record| body(record) == "line 100 of a");
    let uids: BTreeSet<_> = first.map(|record| record["log.record.uid"].to_string()).collect();
    assert_eq!(uids.len(), 1, "{}", world.log());
    assert_eq!(agent.stop(), Some(0));
}

/// A message was unfinished when its file was truncated, and was sent as it was. The copy has the rest of it.
fn a_message_that_a_truncation_ended_ends_there_in_the_copy_too(mut world: World) {
    world.extra = "read:\n  unfinished_after: 24h\n".into();
    let receiver = Receiver::start(&[]);
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    let mut container = world.container("app");
    container.write(100);
    let agent = world.start();
    receiver.wait_until("what was there", |records| records.len() == 100);
    let has = |part: &'static str| {
        move |records: &[Value]| records.iter().any(|record| body(record) == part)
    };
    container.raw(b"2026-11-22T01:02:04Z stdout P the first part\n");
    container.raw(b"2026-11-22T01:02:04Z stderr F another\n");
    receiver.wait_until("another stream's", has("another"));
    wait_until_durable();
    receiver.always(Some(Fault::ReplyLost));
    agent.signal(Signal::STOP);
    container.raw(b"2026-11-22T01:02:04Z stdout F , and the second\n");
    let live = container.live();
    fs::copy(&live, live.with_extension("log.20261122-000001")).unwrap();
    File::options().write(true).open(&live).unwrap().set_len(0).unwrap();
    container.raw(b"2026-11-22T01:02:05Z stdout F what followed\n");
    agent.signal(Signal::CONT);
    receiver.wait_until("the first part", has("the first part"));
    // Nothing of the copy is sent yet.
    agent.kill();
    let agent = world.start();
    receiver.always(None);
    receiver.wait_until("the second part", has(", and the second"));
    receiver.wait_until("what followed", has("what followed"));
    let records = receiver.records();
    let of_several: Vec<_> =
        by_uid(&records).into_iter().filter(|(_, bodies)| bodies.len() > 1).collect();
    assert!(of_several.is_empty(), "{of_several:?}\n{}", world.log());
    assert_eq!(agent.stop(), Some(0));
}
