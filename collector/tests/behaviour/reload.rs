//! SIGHUP: validate, then swap; a wrong configuration changes nothing; what was held stays held.

use std::{fs, time::Duration};

use rustix::process::Signal;

use crate::{
    harness::{World, assert_exactly_once},
    receiver::{Fault, Receiver},
};

#[test]
fn a_reload_adds_a_sink_and_loses_nothing() {
    let mut world = World::new("auto");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(100);
    world.wait_for(100);
    let receiver = Receiver::start(&[]);
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    world.write_config();
    agent.signal(Signal::HUP);
    world.wait_for_log("configuration was reloaded");
    container.write(100);
    world.wait_for(200);
    let records = receiver.wait_until("all", |records| records.len() >= 200);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_exactly_once(&records, &container);
}

#[test]
fn a_wrong_configuration_keeps_the_old_one() {
    let mut world = World::new("auto");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    world.extra = "no_such_key: 1\n".into();
    world.write_config();
    agent.signal(Signal::HUP);
    world.wait_for_log("the old one stays");
    assert!(world.log().contains("no_such_key"), "{}", world.log());
    container.write(10);
    world.wait_for(20);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
}

#[test]
fn a_sink_that_cannot_start_keeps_the_old_configuration() {
    let mut world = World::new("auto");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    let missing = world.path("missing.pem");
    world.sinks += &format!(
        "  web:\n    type: http\n    url: https://127.0.0.1:1/\n    tls:\n      ca_file: {}\n",
        missing.display()
    );
    world.write_config();
    agent.signal(Signal::HUP);
    world.wait_for_log("the old one stays");
    assert!(world.log().contains("missing.pem"), "{}", world.log());
    container.write(10);
    world.wait_for(20);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
}

#[test]
fn a_deleted_file_that_is_not_delivered_survives_a_reload() {
    let mut world = World::new("auto");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks = receiver.sink();
    world.extra = "drain_timeout: 500ms\n".into();
    let agent = world.start();
    let mut container = world.container("a");
    container.write(1_000);
    world.wait_for_log("answered 503");
    fs::remove_file(container.live()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    agent.signal(Signal::HUP);
    world.wait_for_log("configuration was reloaded");
    receiver.always(None);
    let records = receiver.wait_until("all", |records| records.len() >= 1_000);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&records, &container);
}
