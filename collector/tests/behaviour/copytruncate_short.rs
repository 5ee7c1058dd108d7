//! Copies that `copytruncate` leaves and that end well before what was read of their original: of lives
//! of a few lines, and of lives that another run of the agent began to read.

use std::{
    fs::{self, File},
    io::Write,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    copytruncate::{Log, compress, go_on, pack},
    harness::{Agent, World, in_every_mode},
};

in_every_mode!(
    a_plain_copy_of_the_first_of_three_lines_is_told,
    a_compressed_copy_of_the_first_of_three_lines_is_told,
    a_plain_copy_made_after_a_kill_is_told,
    a_compressed_copy_made_after_a_kill_is_told,
    a_plain_copy_made_before_a_kill_is_told,
    a_compressed_copy_made_before_a_kill_is_told,
    a_copy_that_begins_like_a_short_life_is_read,
    a_plain_copy_of_one_line_is_read_though_most_of_it_is_in_another_life,
    a_compressed_copy_of_one_line_is_read_though_most_of_it_is_in_another_life,
    after_a_start_a_plain_copy_of_one_line_is_read_though_most_of_it_is_in_another_life,
    after_a_start_a_compressed_copy_of_one_line_is_read_though_most_of_it_is_in_another_life,
);

/// As long as a copy is waited for, and some time to send it.
const TOLD: Duration = Duration::from_secs(13);

fn append(log: &mut Log, lengths: &[usize]) {
    let mut text = String::new();
    for length in lengths {
        text += &format!("line {} of a log {}\n", log.written, "x".repeat(*length));
        log.written += 1;
    }
    let mut file = File::options().create(true).append(true).open(&log.live).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// The log as it is now, where nobody looks for logs: a copy that is not in its place yet.
fn copy_aside(world: &World, log: &Log) {
    fs::copy(&log.live, world.path("copy")).unwrap();
}

/// Truncates the log and puts the copy in its place; the agent has read to the log's end before.
fn truncate_beside(world: &World, log: &Log, compressed: bool) {
    log.truncate();
    log.move_up();
    if compressed {
        compress(&world.path("copy"), &world.path("copy.gz"));
        fs::rename(world.path("copy.gz"), log.former(1, ".gz")).unwrap();
    } else {
        fs::rename(world.path("copy"), log.former(1, "")).unwrap();
    }
}

fn assert_told(world: &World, agent: Agent, log: &mut Log) {
    append(log, &[3]);
    std::thread::sleep(TOLD);
    log.assert_collected(world);
    assert_eq!(agent.stop(), Some(0));
    let agent = world.start();
    append(log, &[5]);
    log.assert_collected(world);
    assert_eq!(agent.stop(), Some(0));
}

/// Most of what was read of a life was written after its copy was made.
fn the_first_of_three(world: World, compressed: bool) {
    let mut log = Log::new(&world);
    append(&mut log, &[10]);
    copy_aside(&world, &log);
    append(&mut log, &[40, 400]);
    let agent = world.start();
    world.wait_for(log.written);
    truncate_beside(&world, &log, compressed);
    assert_told(&world, agent, &mut log);
}

fn a_plain_copy_of_the_first_of_three_lines_is_told(world: World) {
    the_first_of_three(world, false);
}

fn a_compressed_copy_of_the_first_of_three_lines_is_told(world: World) {
    the_first_of_three(world, true);
}

/// What was read at once after a start is mostly what was written after the copy was made.
fn after_a_kill(world: World, compressed: bool) {
    let mut log = Log::new(&world);
    append(&mut log, &[60; 100]);
    let agent = world.start();
    world.wait_for(log.written);
    std::thread::sleep(Duration::from_millis(1_500));
    agent.kill();
    append(&mut log, &[20]);
    copy_aside(&world, &log);
    append(&mut log, &[90; 8]);
    let agent = world.start();
    world.wait_for(log.written);
    truncate_beside(&world, &log, compressed);
    assert_told(&world, agent, &mut log);
}

fn a_plain_copy_made_after_a_kill_is_told(world: World) {
    after_a_kill(world, false);
}

fn a_compressed_copy_made_after_a_kill_is_told(world: World) {
    after_a_kill(world, true);
}

/// The copy ends before what a former run had read.
fn before_a_kill(world: World, compressed: bool) {
    let mut log = Log::new(&world);
    append(&mut log, &[60; 100]);
    let agent = world.start();
    world.wait_for(log.written);
    copy_aside(&world, &log);
    append(&mut log, &[90; 8]);
    world.wait_for(log.written);
    std::thread::sleep(Duration::from_millis(1_500));
    agent.kill();
    let agent = world.start();
    append(&mut log, &[90; 4]);
    world.wait_for(log.written);
    truncate_beside(&world, &log, compressed);
    assert_told(&world, agent, &mut log);
}

fn a_plain_copy_made_before_a_kill_is_told(world: World) {
    before_a_kill(world, false);
}

fn a_compressed_copy_made_before_a_kill_is_told(world: World) {
    before_a_kill(world, true);
}

/// A life that nobody saw began with the same two lines, and its copy is the only place that has its third.
fn a_copy_that_begins_like_a_short_life_is_read(mut world: World) {
    world.files = format!("    - paths: [\"{}/*.log*\"]\n", world.path("plain").display());
    let mut log = Log::new(&world);
    append(&mut log, &[10, 10]);
    copy_aside(&world, &log);
    append(&mut log, &[40, 400]);
    let agent = world.start();
    world.wait_for(log.written);
    let mut copy = File::options().append(true).open(world.path("copy")).unwrap();
    copy.write_all(format!("line {} of another life\n", log.written).as_bytes()).unwrap();
    let written = log.written;
    truncate_beside(&world, &log, false);
    // The first two come again: in doubt a file is read from its beginning.
    world.wait_for(written + 3);
    assert_eq!(agent.stop(), Some(0));
}

/// Lines differ in their first bytes alone, as those of one message at different times. The first life was read, the
/// second stands in nothing but its copy, which is shorter than what is known of the first.
fn mostly_in_another_life(mut world: World, packed: bool, restarted: bool) {
    world.files = format!("    - paths: [\"{}/*.log*\"]\n", world.path("plain").display());
    let mut log = Log::new(&world);
    append(&mut log, &[100, 40]);
    let agent = world.start();
    world.wait_for(log.written);
    std::thread::sleep(Duration::from_millis(1_500));
    agent.signal(Signal::STOP);
    log.truncate();
    append(&mut log, &[90]);
    match packed {
        true => pack(&log.live, &log.former(1, ".gz")),
        false => log.copy(),
    }
    log.truncate();
    append(&mut log, &[20]);
    let agent = go_on(&world, agent, restarted);
    assert_told(&world, agent, &mut log);
}

fn a_plain_copy_of_one_line_is_read_though_most_of_it_is_in_another_life(world: World) {
    mostly_in_another_life(world, false, false);
}

fn a_compressed_copy_of_one_line_is_read_though_most_of_it_is_in_another_life(world: World) {
    mostly_in_another_life(world, true, false);
}

fn after_a_start_a_plain_copy_of_one_line_is_read_though_most_of_it_is_in_another_life(
    world: World,
) {
    mostly_in_another_life(world, false, true);
}

fn after_a_start_a_compressed_copy_of_one_line_is_read_though_most_of_it_is_in_another_life(
    world: World,
) {
    mostly_in_another_life(world, true, true);
}
