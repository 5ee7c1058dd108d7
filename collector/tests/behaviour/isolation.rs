//! Several sinks: a dead one holds up nobody, and catches up when it is back.

use std::time::Duration;

use crate::{
    harness::{World, assert_exactly_once},
    receiver::{Fault, Receiver},
};

#[test]
fn a_dead_sink_does_not_stop_another_and_catches_up() {
    let mut world = World::new("auto");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    world.extra = "memory_budget: 4MiB\n".into();
    let agent = world.start();
    let mut container = world.container("a");
    for _ in 0..20 {
        container.write(10_000);
        container.rotate();
    }
    world.wait_for(200_000);
    assert!(receiver.records().is_empty());
    receiver.always(None);
    let records = receiver.wait_until("all", |records| records.len() >= 200_000);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_exactly_once(&records, &container);
    assert_eq!(world.audit().0, 0);
}

#[test]
fn an_agent_stopped_before_a_dead_sink_ends_within_its_grace_and_says_so() {
    let mut world = World::new("auto");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks = receiver.sink();
    world.extra = "drain_timeout: 1s\n".into();
    let agent = world.start();
    let mut container = world.container("a");
    container.write(100);
    world.wait_for_log("answered 503");
    let began = std::time::Instant::now();
    assert_eq!(agent.stop(), Some(1), "an incomplete drain must not look like success");
    assert!(began.elapsed() < Duration::from_secs(10));
    receiver.always(None);
    let agent = world.start();
    let records = receiver.wait_until("all", |records| records.len() >= 100);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&records, &container);
}

#[test]
fn a_sink_that_is_down_at_start_is_waited_for() {
    let mut world = World::new("auto");
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    world.sinks += &format!("  web:\n    type: http\n    url: http://127.0.0.1:{port}/\n");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    drop(agent);
}
