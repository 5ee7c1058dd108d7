//! Copies that are made long before the log is truncated, or without a truncation
//! (`gzip -c app.log > app.log.1.gz`, and `: > app.log` seconds later).

use std::{collections::BTreeSet, fs, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    copytruncate::{Log, REST, go_on, number, pack},
    harness::{Agent, World, in_every_mode},
    receiver::{Fault, Receiver},
};

in_every_mode!(
    early_copies_are_told,
    early_packed_copies_are_told,
    early_copies_are_told_after_a_restart,
    early_packed_copies_are_told_after_a_restart,
    early_packed_copies_are_told_after_a_kill,
    what_an_early_copy_has_beyond_what_was_read_comes_once,
    what_an_early_packed_copy_has_beyond_what_was_read_comes_once,
    a_sink_that_is_down_gets_the_lines_of_an_early_copy_once,
    a_sink_that_is_down_gets_the_lines_of_an_early_packed_copy_once,
    a_rotated_file_like_the_live_one_is_read,
    a_packed_copy_of_a_log_that_waits_for_an_older_file_is_told,
    a_packed_copy_of_a_life_that_nobody_read_is_told,
    a_packed_copy_that_is_much_shorter_than_its_life_is_told,
    after_a_kill_a_packed_copy_that_is_much_shorter_than_its_life_is_told,
);

fn copy(log: &Log, packed: bool) {
    log.move_up();
    if packed {
        pack(&log.live, &log.former(1, ".gz"));
    } else {
        fs::copy(&log.live, log.former(1, "")).unwrap();
    }
}

/// Two lives, each copied twice before it is truncated. `again`: ends an agent and starts the next, or not.
fn copied_early(world: &World, packed: bool, again: impl Fn(Agent) -> Agent) {
    let mut log = Log::new(world);
    let mut agent = world.start();
    for life in 1..3 {
        for _ in 0..2 {
            log.write(50 + life);
            world.wait_for(log.written);
            copy(&log, packed);
            std::thread::sleep(REST);
            agent = again(agent);
        }
        log.write(20);
        world.wait_for(log.written);
        std::thread::sleep(REST);
        log.truncate();
        log.write(10);
        world.wait_for(log.written);
    }
    log.assert_done(world);
    assert_eq!(agent.stop(), Some(0));
}

fn early_copies_are_told(world: World) {
    copied_early(&world, false, |agent| agent);
}

fn early_packed_copies_are_told(world: World) {
    copied_early(&world, true, |agent| agent);
}

fn restarted(world: &World, packed: bool) {
    copied_early(world, packed, |agent| {
        assert_eq!(agent.stop(), Some(0));
        world.start()
    });
}

fn early_copies_are_told_after_a_restart(world: World) {
    restarted(&world, false);
}

fn early_packed_copies_are_told_after_a_restart(world: World) {
    restarted(&world, true);
}

fn early_packed_copies_are_told_after_a_kill(world: World) {
    copied_early(&world, true, |agent| {
        agent.kill();
        world.start()
    });
}

/// Neither the copy nor the log was read as far when the copy was made.
fn beyond_what_was_read(world: &World, packed: bool) {
    let mut log = Log::new(world);
    log.write(100);
    let agent = world.start();
    world.wait_for(log.written);
    for life in 1..3 {
        std::thread::sleep(REST);
        agent.signal(Signal::STOP);
        log.write(40 + life);
        copy(&log, packed);
        agent.signal(Signal::CONT);
        world.wait_for(log.written);
        std::thread::sleep(REST);
        log.truncate();
        log.write(10);
        world.wait_for(log.written);
    }
    log.assert_done(world);
    assert_eq!(agent.stop(), Some(0));
}

fn what_an_early_copy_has_beyond_what_was_read_comes_once(world: World) {
    beyond_what_was_read(&world, false);
}

fn what_an_early_packed_copy_has_beyond_what_was_read_comes_once(world: World) {
    beyond_what_was_read(&world, true);
}

/// The copy waits longer than one whose original was truncated does.
fn into_a_sink_that_is_down(mut world: World, packed: bool) {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    let mut log = Log::new(&world);
    log.write(100);
    let agent = world.start();
    world.wait_for(log.written);
    receiver.wait_for_requests(1);
    copy(&log, packed);
    std::thread::sleep(Duration::from_secs(13));
    log.write(30);
    world.wait_for(log.written);
    log.truncate();
    log.write(10);
    world.wait_for(log.written);
    std::thread::sleep(REST);
    receiver.always(None);
    let all = |records: &[Value]| records.iter().map(number).collect::<BTreeSet<_>>().len();
    let sent = receiver.wait_until("all lines", |records| all(records) == log.written);
    assert_eq!(sent.len(), log.written, "{}", world.log());
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
}

fn a_sink_that_is_down_gets_the_lines_of_an_early_copy_once(world: World) {
    into_a_sink_that_is_down(world, false);
}

fn a_sink_that_is_down_gets_the_lines_of_an_early_packed_copy_once(world: World) {
    into_a_sink_that_is_down(world, true);
}

/// A program that is restarted writes the same lines, and its logs are renamed and compressed.
fn a_rotated_file_like_the_live_one_is_read(mut world: World) {
    world.files = format!("    - paths: [\"{}/*.log*\"]\n", world.path("plain").display());
    let log = Log::new(&world);
    let write = || fs::write(&log.live, "started\nstopped\n").unwrap();
    let rotate = || {
        log.move_up();
        fs::rename(&log.live, log.former(1, "")).unwrap();
        write();
        log.compress();
    };
    write();
    rotate();
    let agent = world.start();
    world.wait_for(4);
    std::thread::sleep(REST);
    rotate();
    world.wait_for(6);
    std::thread::sleep(REST);
    assert_eq!(agent.stop(), Some(0));
    rotate();
    let agent = world.start();
    world.wait_for(8);
    std::thread::sleep(REST);
    assert_eq!(world.records().len(), 8, "{}", world.log());
    assert_eq!(agent.stop(), Some(0));
}

/// After a start the log waits for a file that cannot be told, and is copied and truncated meanwhile.
fn a_packed_copy_of_a_log_that_waits_for_an_older_file_is_told(world: World) {
    let mut log = Log::new(&world);
    log.write(100);
    let agent = world.start();
    world.wait_for(log.written);
    assert_eq!(agent.stop(), Some(0));
    copy(&log, true);
    let whole = fs::read(log.former(1, ".gz")).unwrap();
    fs::remove_file(log.former(1, ".gz")).unwrap();
    fs::write(log.former(3, ".gz"), &whole[..whole.len() / 2]).unwrap();
    let agent = world.start();
    std::thread::sleep(Duration::from_secs(1));
    log.write(20);
    copy(&log, true);
    log.truncate();
    log.write(10);
    std::thread::sleep(Duration::from_secs(1));
    fs::remove_file(log.former(4, ".gz")).unwrap();
    world.wait_for(log.written);
    log.assert_done(&world);
    assert_eq!(agent.stop(), Some(0));
}

/// The life began and was copied while no agent ran: log and copy are found in the same look.
fn a_packed_copy_of_a_life_that_nobody_read_is_told(mut world: World) {
    world.files = format!("    - paths: [\"{}/*.log*\"]\n", world.path("plain").display());
    let mut log = Log::new(&world);
    log.write(50);
    let agent = world.start();
    world.wait_for(log.written);
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(agent.stop(), Some(0));
    log.truncate();
    log.write(80);
    copy(&log, true);
    let agent = world.start();
    world.wait_for(log.written);
    std::thread::sleep(REST);
    log.write(20);
    log.truncate();
    log.write(10);
    std::thread::sleep(REST);
    let seen = world.records().iter().map(number).collect::<BTreeSet<_>>().len();
    assert!(seen >= log.written - 20, "{seen} of {}", log.written);
    assert_eq!(world.records().len(), seen, "{}", world.log());
    assert_eq!(agent.stop(), Some(0));
}

/// Nothing but the first lines of what was read is in the copy, and what is known of them is little: the life was read a
/// few lines at a time.
fn much_shorter(world: &mut World, killed: bool) {
    world.files = format!("    - paths: [\"{}/*.log*\"]\n", world.path("plain").display());
    let mut log = Log::new(world);
    let agent = world.start();
    world.wait_for_first_look();
    log.write(20);
    world.wait_for(log.written);
    copy(&log, true);
    std::thread::sleep(REST);
    for _ in 0..30 {
        log.write(4);
        world.wait_for(log.written);
    }
    std::thread::sleep(Duration::from_millis(1_500));
    agent.signal(Signal::STOP);
    log.truncate();
    log.write(10);
    let agent = go_on(world, agent, killed);
    world.wait_for(log.written);
    log.assert_done(world);
    assert_eq!(agent.stop(), Some(0));
    let agent = world.start();
    log.write(1);
    log.assert_collected(world);
    assert_eq!(agent.stop(), Some(0));
}

fn a_packed_copy_that_is_much_shorter_than_its_life_is_told(mut world: World) {
    much_shorter(&mut world, false);
}

fn after_a_kill_a_packed_copy_that_is_much_shorter_than_its_life_is_told(mut world: World) {
    much_shorter(&mut world, true);
}
