//! Copies that are made over the former copy, in the same inode (`cp app.log app.log.1; : > app.log`).

use std::{fs, time::Duration};

use rustix::process::Signal;

use crate::{
    copytruncate::{Log, REST, number, pack},
    harness::{Agent, World, in_every_mode},
};

in_every_mode!(
    a_copy_over_one_that_was_told_is_told,
    a_copy_over_one_that_is_still_looked_at_is_told,
    a_copy_as_long_as_the_one_before_is_told,
    a_copy_made_while_no_agent_ran_is_told,
    a_copy_made_before_a_kill_is_told,
    what_only_such_a_copy_holds_is_read,
    what_only_such_a_copy_of_the_same_length_holds_is_read,
    a_compressed_copy_over_the_former_one_is_told,
    what_only_such_a_compressed_copy_holds_is_read,
    a_rotated_file_that_is_written_anew_is_read_anew,
);

fn copy_over(log: &Log) {
    fs::copy(&log.live, log.former(1, "")).unwrap();
    log.truncate();
}

/// Four lives of some lines each, each copied over the copy of the one before after so long a rest.
fn copied_over_after(world: &World, rest: Duration) {
    let lines = |life: usize| 30 + 10 * (life % 3);
    let mut log = Log::new(world);
    log.write(lines(0));
    let agent = world.start();
    world.wait_for(log.written);
    for life in 1..4 {
        std::thread::sleep(rest);
        copy_over(&log);
        log.write(lines(life));
        world.wait_for(log.written);
    }
    log.assert_done(world);
    let numbers: Vec<usize> = world.records().iter().map(number).collect();
    assert!(numbers.is_sorted(), "out of order: {numbers:?}");
    assert_eq!(agent.stop(), Some(0));
}

fn a_copy_over_one_that_was_told_is_told(world: World) {
    copied_over_after(&world, REST);
}

fn a_copy_over_one_that_is_still_looked_at_is_told(world: World) {
    copied_over_after(&world, Duration::from_millis(150));
}

fn a_copy_as_long_as_the_one_before_is_told(world: World) {
    // All numbers have as many digits.
    let mut log = Log::new(&world);
    log.write(1_000);
    let agent = world.start();
    world.wait_for(log.written);
    for _ in 0..2 {
        std::thread::sleep(REST);
        copy_over(&log);
        log.write(200);
        world.wait_for(log.written);
    }
    log.assert_done(&world);
    assert_eq!(agent.stop(), Some(0));
}

/// A copy is made over the former one after an agent ended so, and before the next one starts.
fn copied_over_between_agents(world: &World, end: impl Fn(Agent)) {
    let mut log = Log::new(world);
    log.write(100);
    let mut agent = world.start();
    world.wait_for(log.written);
    for life in 1..3 {
        copy_over(&log);
        log.write(50 + life);
        world.wait_for(log.written);
        std::thread::sleep(REST);
        end(agent);
        copy_over(&log);
        log.write(70 - life);
        agent = world.start();
        world.wait_for(log.written);
    }
    log.assert_done(world);
    assert_eq!(agent.stop(), Some(0));
}

fn a_copy_made_while_no_agent_ran_is_told(world: World) {
    copied_over_between_agents(&world, |agent| assert_eq!(agent.stop(), Some(0)));
}

fn a_copy_made_before_a_kill_is_told(world: World) {
    copied_over_between_agents(&world, |agent| agent.kill());
}

/// What was written before a copy while the agent did not look stands in nothing but the copy.
fn what_only_such_a_copy_holds_is_read(world: World) {
    let mut log = Log::new(&world);
    log.write(40);
    let agent = world.start();
    world.wait_for(log.written);
    for life in 1..3 {
        std::thread::sleep(REST);
        agent.signal(Signal::STOP);
        log.write(40 + life);
        copy_over(&log);
        log.write(3);
        agent.signal(Signal::CONT);
        world.wait_for(log.written);
    }
    log.assert_done(&world);
    assert_eq!(agent.stop(), Some(0));
}

fn what_only_such_a_copy_of_the_same_length_holds_is_read(world: World) {
    let mut log = Log::new(&world);
    log.write(1_000);
    let agent = world.start();
    world.wait_for(log.written);
    copy_over(&log);
    log.write(100);
    world.wait_for(log.written);
    std::thread::sleep(REST);
    copy_over(&log);
    log.write(90);
    world.wait_for(log.written);
    std::thread::sleep(REST);
    agent.signal(Signal::STOP);
    log.write(10);
    copy_over(&log);
    log.write(3);
    agent.signal(Signal::CONT);
    world.wait_for(log.written);
    log.assert_done(&world);
    assert_eq!(agent.stop(), Some(0));
}

/// `gzip -c app.log > app.log.1.gz; : > app.log`
fn compress_over(log: &Log) {
    pack(&log.live, &log.former(1, ".gz"));
    log.truncate();
}

fn compressed(world: &World, unseen: usize) {
    let mut log = Log::new(world);
    log.write(100);
    let agent = world.start();
    world.wait_for(log.written);
    for life in 1..3 {
        std::thread::sleep(REST);
        agent.signal(Signal::STOP);
        if unseen > 0 {
            log.write(unseen);
        }
        compress_over(&log);
        log.write(40 + life);
        agent.signal(Signal::CONT);
        world.wait_for(log.written);
    }
    log.assert_done(world);
    assert_eq!(agent.stop(), Some(0));
}

fn a_compressed_copy_over_the_former_one_is_told(world: World) {
    compressed(&world, 0);
}

fn what_only_such_a_compressed_copy_holds_is_read(world: World) {
    compressed(&world, 20);
}

/// Not with a copy: with lines that nobody has.
fn a_rotated_file_that_is_written_anew_is_read_anew(world: World) {
    let mut log = Log::new(&world);
    log.write(100);
    let agent = world.start();
    world.wait_for(log.written);
    log.move_up();
    fs::rename(&log.live, log.former(1, "")).unwrap();
    log.write(20);
    world.wait_for(log.written);
    for _ in 0..2 {
        std::thread::sleep(REST);
        let aside = Log { live: log.former(1, ""), written: log.written };
        aside.truncate();
        log.written = write_as(aside, 30);
        world.wait_for(log.written);
    }
    log.assert_done(&world);
    assert_eq!(agent.stop(), Some(0));
}

fn write_as(mut log: Log, lines: usize) -> usize {
    log.write(lines);
    log.written
}
