//! SIGTERM: what is there is still read and delivered; a sink that is down holds up nobody, and not for
//! longer than it may.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::{
    harness::{Agent, World, assert_exactly_once},
    receiver::{Fault, Receiver},
};

#[test]
fn what_is_there_at_a_stop_is_delivered() {
    let world = World::new("auto");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    for _ in 0..3 {
        container.write(40_000);
        container.rotate();
    }
    container.write(1_000);
    let began = Instant::now();
    assert_eq!(agent.stop(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_exactly_once(&world.records(), &container);
    assert_eq!(world.audit().0, 0);
}

#[test]
fn a_stop_reads_on_for_the_sinks_that_get_on() {
    let mut world = World::new("auto");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    world.extra = "drain_timeout: 6s\n".into();
    let agent = world.start();
    let mut container = world.container("a");
    container.write(100);
    world.wait_for(100);
    world.wait_for_log("answered 503");
    kill_process(agent.pid(), Signal::TERM).unwrap();
    let began = Instant::now();
    // The dead sink is waited for; meanwhile the other one is given what comes.
    while began.elapsed() < Duration::from_secs(3) {
        container.write(200);
        if container.written % 1_000 == 300 {
            container.rotate();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(agent.wait(), Some(1), "something was left to deliver");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert_exactly_once(&world.records(), &container);
    // And the dead one gets all of it from the next agent.
    receiver.always(None);
    let agent = world.start();
    let lines = container.written as usize;
    let records = receiver.wait_until("all", |records| records.len() >= lines);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&records, &container);
    assert_exactly_once(&world.records(), &container);
}

#[test]
fn a_stop_in_the_middle_of_a_reload_ends_in_time() {
    let mut world = World::new("auto");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    let web = receiver.sink().replace("  out:", "  web:");
    let out = world.sinks.clone();
    world.sinks += &web;
    world.extra = "drain_timeout: 4s\n".into();
    let agent = world.start();
    let mut container = world.container("a");
    container.write(100);
    world.wait_for(100);
    world.wait_for_log("answered 503");
    // The dead sink is to be replaced, and has something on its way.
    world.sinks = out + &web.replace("backoff_max: 100ms", "backoff_max: 200ms");
    world.write_config();
    agent.signal(Signal::HUP);
    world.wait_for_log("configuration was reloaded");
    container.write(100);
    let began = Instant::now();
    assert_eq!(agent.stop(), Some(1), "something was left to deliver");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_exactly_once(&world.records(), &container);
    receiver.always(None);
    let agent = world.start();
    let records = receiver.wait_until("all", |records| records.len() >= 200);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&records, &container);
}

#[test]
fn a_line_without_its_end_does_not_hold_up_a_stop() {
    let world = World::new("auto");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    container.raw(b"2026-11-22T01:02:03Z stdout F no end yet");
    world.wait_for(10);
    let began = Instant::now();
    assert_eq!(agent.stop(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// An agent before a dead sink, which it waits for when it is to stop, and the line that it has for it.
fn before_a_dead_sink(drain: &str) -> (World, Receiver, Agent) {
    let mut world = World::new("auto");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks = receiver.sink();
    world.extra = format!("drain_timeout: {drain}\n");
    world.container("a").write(1);
    let agent = world.start();
    world.wait_for_log("answered 503");
    (world, receiver, agent)
}

#[test]
fn signals_to_stop_within_a_second_are_one_wish() {
    for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM]] {
        let (world, receiver, agent) = before_a_dead_sink("60s");
        agent.signal(signals[0]);
        world.wait_for_log("Asked to stop");
        std::thread::sleep(Duration::from_millis(300));
        agent.signal(signals[1]);
        std::thread::sleep(Duration::from_millis(300));
        receiver.always(None);
        assert_eq!(agent.wait(), Some(0), "it was to drain\n{}", world.log());
        assert_eq!(receiver.records().len(), 1);
        assert!(!world.log().contains("a second time"), "{}", world.log());
    }
}

#[test]
fn a_second_wish_to_stop_ends_at_once() {
    let (world, _receiver, agent) = before_a_dead_sink("60s");
    agent.signal(Signal::TERM);
    world.wait_for_log("Asked to stop");
    std::thread::sleep(Duration::from_millis(1_200));
    let began = Instant::now();
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(world.log().contains("Asked to stop a second time"), "{}", world.log());
}

#[test]
fn timeout_which_signals_twice_lets_the_agent_drain() {
    let world = World::new("auto");
    let mut container = world.container("a");
    container.write(1_000);
    world.write_config();
    // In a process group of its own, as from a shell: that it signals too. An agent on a busy machine takes seconds to start.
    let mut command = std::process::Command::new("timeout");
    command.args(["--preserve-status", "-s", "TERM", "8", env!("CARGO_BIN_EXE_everyline")]);
    let agent = world.start_by(command);
    world.wait_for(1_000);
    assert_eq!(agent.wait(), Some(0), "{}", world.log());
    assert!(world.log().contains("Everyline has stopped. drained=true"), "{}", world.log());
    assert!(!world.log().contains("a second time"), "{}", world.log());
    assert_exactly_once(&world.records(), &container);
}
