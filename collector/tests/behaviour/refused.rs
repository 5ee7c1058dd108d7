//! What a sink refuses or cannot write: it holds up nothing else, and `status` says it.

use std::fs;

use crate::{
    harness::{Container, World, assert_exactly_once, free_port},
    receiver::{Fault, Receiver},
};

/// A world whose only sink is an HTTP receiver, with an admin port.
fn world(receiver: &Receiver) -> World {
    let mut world = World::new("auto");
    world.sinks = receiver.sink() + "    compression: none\n    concurrency: 8\n";
    world.admin = Some(free_port());
    world.extra = "read:\n  threads: 2\n".into();
    world
}

/// A line, and many behind it.
fn fill(container: &mut Container, first: &str, megabytes: usize) {
    container.raw(format!("2026-11-22T01:02:03.000000000Z stdout F {first}\n").as_bytes());
    let line = format!("2026-11-22T01:02:03.000000000Z stdout F {}\n", "x".repeat(1000));
    container.raw(line.repeat(megabytes << 10).as_bytes());
}

/// Containers of which everything has arrived.
fn served<'a>(receiver: &Receiver, containers: &'a [Container]) -> Vec<&'a Container> {
    let records = receiver.records();
    let arrived = |container: &&Container| {
        let pod = container.pod();
        let count = records.iter().filter(|record| record["k8s.pod.name"] == pod.as_str()).count();
        count >= container.written as usize
    };
    containers.iter().filter(arrived).collect()
}

#[test]
fn a_lane_that_is_stuck_leaves_the_others_their_memory() {
    let receiver = Receiver::start(&[]);
    // Not a refusal that names a record: nothing can be narrowed, the lane is stuck for good.
    receiver.refuse_by(|body| body.contains("POISON").then_some(500));
    let world = world(&receiver);
    let mut poisoned = world.container("poisoned");
    fill(&mut poisoned, "POISON", 30);
    let _agent = world.start();
    world.wait_for_sink("out", |sink| !sink["error"].is_null());
    let mut others: Vec<_> = (0..9).map(|n| world.container(&format!("good-{n}"))).collect();
    others.iter_mut().for_each(|container| container.write(200));
    assert!(receiver.refused() > 0);
    receiver.wait_until("the other lanes'", |_| served(&receiver, &others).len() >= 6);
    for container in served(&receiver, &others) {
        assert_exactly_once(&receiver.records(), container);
    }
    let status = world.sink_status("out");
    let in_flight = status["in_flight_bytes"].as_u64().unwrap();
    assert!(in_flight <= 3 << 20, "the stuck lane holds {in_flight} bytes");
}

#[test]
fn an_error_is_shown_until_deliveries_go_through_again() {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    let world = world(&receiver);
    let agent = world.start();
    world.container("a").write(10);
    let failing = world.wait_for_sink("out", |sink| sink["error_count"].as_u64() > Some(2));
    let error = failing["error"].as_str().unwrap();
    assert!(error.contains("503 Service Unavailable"), "{error}");
    assert!(failing["error_since"].as_str().unwrap().ends_with('Z'));
    let shown = String::from_utf8(world.everyline(&["status"]).stdout).unwrap();
    let row = shown.lines().find(|line| line.starts_with("out ")).unwrap();
    assert!(row.contains("503") && row.contains(" times since 2"), "{row}");
    receiver.always(None);
    let mended = world.wait_for_sink("out", |sink| sink["error"].is_null());
    assert!(mended["error_since"].is_null() && mended["error_count"] == 0, "{mended}");
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn an_output_that_cannot_be_opened_is_shown() {
    let mut world = World::new("auto");
    world.admin = Some(free_port());
    fs::remove_dir(world.path("out")).unwrap();
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    let failing = world.wait_for_sink("out", |sink| !sink["error"].is_null());
    assert!(failing["error"].as_str().unwrap().contains("out.ndjson"), "{failing}");
    fs::create_dir(world.path("out")).unwrap();
    world.wait_for(10);
    world.wait_for_sink("out", |sink| sink["error"].is_null());
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
}
