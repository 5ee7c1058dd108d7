//! Several copies of one life of a log: its rest, which stands in nothing but the copies, comes once.

use std::{collections::BTreeSet, fs, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    copytruncate::{Log, REST, number, pack},
    harness::{Agent, World, in_every_mode},
    receiver::{Fault, Receiver},
};

in_every_mode!(
    the_rest_in_two_copies_that_are_made_at_once_comes_once,
    the_rest_in_two_packed_copies_that_are_made_at_once_comes_once,
    the_rest_in_a_copy_that_is_packed_and_kept_comes_once,
    the_rest_in_a_copy_that_is_packed_and_kept_comes_once_after_a_restart,
    the_rest_in_a_copy_that_is_packed_and_kept_comes_once_after_a_kill,
    the_rest_in_copies_that_come_one_after_the_other_comes_once,
    what_a_longer_copy_has_beyond_a_shorter_one_comes_once,
    what_a_longer_packed_copy_has_beyond_a_shorter_one_comes_once,
    a_sink_that_is_down_gets_the_rest_in_two_copies_once,
);

/// Each of some lives ends with lines that nobody read before it was truncated. `copy` is called before
/// the truncation, `then` when all was read.
fn copied(world: &World, copy: impl Fn(&Log), then: impl Fn(&Log, Agent) -> Agent) {
    let mut log = Log::new(world);
    log.write(100);
    let mut agent = world.start();
    world.wait_for(log.written);
    for life in 1..3 {
        std::thread::sleep(REST);
        agent.signal(Signal::STOP);
        log.write(40 + life);
        copy(&log);
        log.truncate();
        log.write(10);
        agent.signal(Signal::CONT);
        world.wait_for(log.written);
        std::thread::sleep(REST);
        agent = then(&log, agent);
    }
    log.assert_done(world);
    assert_eq!(agent.stop(), Some(0));
}

fn the_rest_in_two_copies_that_are_made_at_once_comes_once(world: World) {
    let copy = |log: &Log| {
        log.move_up();
        log.move_up();
        fs::copy(&log.live, log.former(2, "")).unwrap();
        fs::copy(&log.live, log.former(1, "")).unwrap();
    };
    copied(&world, copy, |_, agent| agent);
}

fn the_rest_in_two_packed_copies_that_are_made_at_once_comes_once(world: World) {
    let copy = |log: &Log| {
        log.move_up();
        log.move_up();
        pack(&log.live, &log.former(2, ".gz"));
        pack(&log.live, &log.former(1, ".gz"));
    };
    copied(&world, copy, |_, agent| agent);
}

/// `gzip -k app.log.1; mv app.log.1 app.log.2`
fn packed_and_kept(world: &World, again: impl Fn(Agent) -> Agent) {
    let then = |log: &Log, agent: Agent| {
        pack(&log.former(1, ""), &log.former(1, ".gz"));
        fs::rename(log.former(1, ""), log.former(2, "")).unwrap();
        std::thread::sleep(REST);
        let agent = again(agent);
        std::thread::sleep(REST);
        log.move_up();
        agent
    };
    copied(world, Log::copy, then);
}

fn the_rest_in_a_copy_that_is_packed_and_kept_comes_once(world: World) {
    packed_and_kept(&world, |agent| agent);
}

fn the_rest_in_a_copy_that_is_packed_and_kept_comes_once_after_a_restart(world: World) {
    packed_and_kept(&world, |agent| {
        assert_eq!(agent.stop(), Some(0));
        world.start()
    });
}

fn the_rest_in_a_copy_that_is_packed_and_kept_comes_once_after_a_kill(world: World) {
    packed_and_kept(&world, |agent| {
        agent.kill();
        world.start()
    });
}

/// The second copy is one of the first, and is made when that was read.
fn the_rest_in_copies_that_come_one_after_the_other_comes_once(world: World) {
    let then = |log: &Log, agent: Agent| {
        fs::copy(log.former(1, ""), log.former(2, "")).unwrap();
        std::thread::sleep(REST);
        assert_eq!(agent.stop(), Some(0));
        fs::copy(log.former(1, ""), log.former(3, "")).unwrap();
        let agent = world.start();
        std::thread::sleep(REST);
        log.move_up();
        log.move_up();
        agent
    };
    copied(&world, Log::copy, then);
}

/// The log is copied, written to, and copied once more before it is truncated; nobody reads it meanwhile.
fn longer(world: &World, packed: bool) {
    let mut log = Log::new(world);
    log.write(100);
    let agent = world.start();
    world.wait_for(log.written);
    for life in 1..3 {
        std::thread::sleep(REST);
        agent.signal(Signal::STOP);
        for _ in 0..2 {
            log.write(40 + life);
            copy(&log, packed);
        }
        log.truncate();
        log.write(10);
        agent.signal(Signal::CONT);
        world.wait_for(log.written);
    }
    log.assert_done(world);
    assert_eq!(agent.stop(), Some(0));
}

fn copy(log: &Log, packed: bool) {
    if packed {
        log.move_up();
        pack(&log.live, &log.former(1, ".gz"));
    } else {
        log.copy();
    }
}

fn what_a_longer_copy_has_beyond_a_shorter_one_comes_once(world: World) {
    longer(&world, false);
}

fn what_a_longer_packed_copy_has_beyond_a_shorter_one_comes_once(world: World) {
    longer(&world, true);
}

fn a_sink_that_is_down_gets_the_rest_in_two_copies_once(mut world: World) {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    let mut log = Log::new(&world);
    log.write(100);
    let agent = world.start();
    world.wait_for(log.written);
    receiver.wait_for_requests(1);
    log.copy();
    log.copy();
    log.truncate();
    log.write(10);
    world.wait_for(log.written);
    // Longer than a copy is waited for.
    std::thread::sleep(Duration::from_secs(13));
    receiver.always(None);
    let all = |records: &[Value]| records.iter().map(number).collect::<BTreeSet<_>>().len();
    receiver.wait_until("all lines", |records| all(records) == log.written);
    std::thread::sleep(REST);
    let sent = receiver.records().len();
    assert_eq!(sent, log.written, "{}", world.log());
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
}
