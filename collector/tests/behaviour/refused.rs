//! What a sink refuses or cannot write: it holds up nothing else, and `status` says it.

use std::fs;

use crate::{
    harness::{Container, World, assert_exactly_once, body, free_port},
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

/// Refuses a request that holds one of these messages.
fn refuse(receiver: &Receiver, status: u16, messages: &[&str]) {
    let needles: Vec<_> = messages.iter().map(|it| format!("\"body\":\"{it}\"")).collect();
    receiver.refuse_by(move |text| {
        needles.iter().any(|needle| text.contains(needle)).then_some(status)
    });
}

/// Waits until all messages of these containers have arrived, and requires that each did so once.
fn wait_for_all(receiver: &Receiver, containers: &[&Container]) {
    for container in containers {
        let pod = container.pod();
        let of_pod = |record: &&serde_json::Value| record["k8s.pod.name"] == pod.as_str();
        receiver.wait_until(&pod, |records| {
            records.iter().filter(of_pod).count() >= container.written as usize
        });
        assert_exactly_once(&receiver.records(), container);
    }
}

#[test]
fn one_refused_record_holds_up_its_own_log_and_no_other() {
    let receiver = Receiver::start(&[]);
    refuse(&receiver, 400, &["message 0"]);
    let world = world(&receiver);
    let mut poisoned = world.container("poisoned");
    poisoned.write(300_000);
    let agent = world.start();
    world.wait_for_sink("out", |sink| sink["parked_sources"] == 1);
    // Nothing else of its batch or lane waits: the others have no `message 0`.
    let mut others: Vec<_> = (0..20).map(|n| world.container(&format!("good-{n}"))).collect();
    for container in &mut others {
        container.written = 1;
        container.write(200);
    }
    receiver.wait_until("all others", |records| records.len() >= 20 * 200);
    let status = world.sink_status("out");
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("400") && error.contains("shop_poisoned"), "{error}");
    // It goes on being written and rotated, and the server is mended: all of it arrives in order.
    for _ in 0..3 {
        poisoned.rotate();
        poisoned.write(1_000);
    }
    let refused = receiver.refused();
    assert!(refused < 200, "{refused} requests to find one record");
    refuse(&receiver, 400, &[]);
    wait_for_all(&receiver, &[&poisoned]);
    world.wait_for_sink("out", |sink| sink["error"].is_null() && sink["parked_sources"] == 0);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

#[test]
fn refused_records_anywhere_in_many_logs_leave_what_is_before_them_and_all_others() {
    let receiver = Receiver::start(&[]);
    refuse(&receiver, 422, &["message 0", "message 1777", "message 3999", "message 4000"]);
    let world = world(&receiver);
    let mut logs: Vec<_> = (0..8).map(|n| world.container(&format!("log-{n}"))).collect();
    for (n, log) in logs.iter_mut().enumerate() {
        // Two begin with a refused record, two have one in their middle, two end with one.
        log.written = [0, 1, 1_778, 4_001][n % 4];
        log.write([1_000, 3_000, 2_222, 500][n % 4]);
    }
    let agent = world.start();
    world.wait_for_sink("out", |sink| sink["parked_sources"] == 6);
    let expected = 2 * (1_776 + (3_999 - 1_778) + 500);
    receiver.wait_until("what is before and beside them", |it| it.len() >= expected);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(receiver.count(), expected, "nothing behind them, nothing twice");
    assert_eq!(world.sink_status("out")["parked_sources"], 6);
    refuse(&receiver, 422, &[]);
    let all = 2 * (1_000 + 3_000 + 2_222 + 500);
    let records = receiver.wait_until("all", |records| records.len() >= all);
    assert_eq!(records.len(), all);
    for (n, log) in logs.iter().enumerate() {
        let pod = log.pod();
        let its = records.iter().filter(|record| record["k8s.pod.name"] == pod.as_str());
        let first = [0, 1, 1_778, 4_001][n % 4];
        let expected: Vec<_> = (first..log.written).map(|n| format!("message {n}")).collect();
        assert_eq!(its.map(body).collect::<Vec<_>>(), expected, "{pod}");
    }
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_refused_record_survives_a_kill_and_a_stop() {
    let receiver = Receiver::start(&[]);
    refuse(&receiver, 400, &["message 500"]);
    let world = world(&receiver);
    let mut log = world.container("a");
    log.write(1_000);
    let agent = world.start();
    receiver.wait_until("what is before it", |records| records.len() >= 500);
    world.wait_for_sink("out", |sink| sink["error_count"].as_u64() > Some(12));
    agent.kill();
    log.write(1_000);
    let agent = world.start();
    world.wait_for_sink("out", |sink| sink["parked_sources"] == 1);
    assert_eq!(agent.stop(), Some(1), "something is left to deliver");
    log.rotate();
    log.write(1_000);
    refuse(&receiver, 400, &[]);
    let agent = world.start();
    // What was delivered before it was settled when it was tried by itself: no doubles.
    wait_for_all(&receiver, &[&log]);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

#[test]
fn a_record_that_is_dropped_is_booked_to_the_byte() {
    let receiver = Receiver::start(&[]);
    refuse(&receiver, 400, &["message 500"]);
    let mut world = world(&receiver);
    world.sinks += "    on_reject: drop\n";
    let mut log = world.container("a");
    let mut other = world.container("b");
    log.write(1_000);
    other.write(400);
    let agent = world.start();
    receiver.wait_until("all but one", |records| records.len() >= 999 + 400);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(receiver.count(), 999 + 400);
    assert_exactly_once(&receiver.records(), &other);
    let line = "2026-11-22T01:02:03.000000500Z stdout F message 500\n";
    let (_, audit) = world.audit();
    assert_eq!(audit["dropped"]["rejected"], line.len(), "{audit}");
}

#[test]
fn a_record_that_is_too_large_waits_alone() {
    let receiver = Receiver::start(&[]);
    receiver.refuse_by(|text| (text.len() > 20_000).then_some(413));
    let world = world(&receiver);
    let mut log = world.container("a");
    let mut other = world.container("b");
    log.write(1_000);
    log.raw(format!("2026-11-22T01:02:03Z stdout F {}\n", "x".repeat(30_000)).as_bytes());
    log.write(10);
    other.write(1_000);
    let agent = world.start();
    receiver.wait_until("the others", |records| records.len() >= 2_000);
    world.wait_for_sink("out", |sink| sink["parked_sources"] == 1);
    other.write(1_000);
    receiver.wait_until("the others", |records| records.len() >= 3_000);
    assert_exactly_once(&receiver.records(), &other);
    receiver.refuse_by(|_| None);
    receiver.wait_until("all", |records| records.len() >= 3_011);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(receiver.count(), 3_011);
}

#[test]
fn a_wrong_address_is_not_taken_for_refused_records() {
    let receiver = Receiver::start(&[]);
    receiver.refuse_by(|_| Some(404));
    let mut world = world(&receiver);
    world.sinks += "    on_reject: drop\n";
    let mut logs: Vec<_> = (0..5).map(|n| world.container(&format!("log-{n}"))).collect();
    logs.iter_mut().for_each(|log| log.write(5_000));
    let agent = world.start();
    let failing = world.wait_for_sink("out", |sink| sink["error_count"].as_u64() > Some(20));
    assert_eq!(failing["parked_sources"], 0);
    receiver.refuse_by(|_| None);
    wait_for_all(&receiver, &logs.iter().collect::<Vec<_>>());
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}
