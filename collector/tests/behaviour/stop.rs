//! SIGTERM: what is there is still read and delivered; a sink that is down holds up nobody, and not for
//! longer than it may.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::{
    harness::{World, assert_exactly_once},
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
