//! What the ledger says: the same everywhere, and never less than was.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{World, free_port, patience},
    receiver::{Fault, Receiver},
};

/// The running agent's audit, once it fits.
fn audit_when(world: &World, what: &str, fits: impl Fn(&Value) -> bool) -> (i32, Value) {
    let deadline = Instant::now() + patience();
    loop {
        let (code, audit) = world.audit();
        if fits(&audit) {
            return (code, audit);
        }
        assert!(Instant::now() < deadline, "{what}: {audit}\n{}", world.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn append(world: &World, text: &str) {
    let path = world.path("plain/x.log");
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A metric's values by reason.
fn by_reason(metrics: &str, name: &str) -> BTreeMap<String, u64> {
    let series =
        metrics.lines().filter_map(|line| line.strip_prefix(&format!("{name}{{reason=\"")));
    series
        .map(|rest| {
            let (reason, value) = rest.split_once("\"} ").unwrap();
            (reason.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn without_zeros(sums: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    sums.iter().filter(|(_, n)| **n > 0).map(|(reason, n)| (reason.clone(), *n)).collect()
}

#[test]
fn every_byte_is_booked_once_and_every_number_says_the_same() {
    const BOUND: u64 = 64 << 10;
    let receiver = Receiver::start(&[]);
    receiver.refuse("poison");
    let mut world = World::new("auto");
    world.admin = Some(free_port());
    world.extra = "read:\n  max_line_bytes: 64KiB\n  long_lines: cut\n".into();
    world.sinks = format!("{}    on_reject: drop\n", receiver.sink());
    let agent = world.start();
    // One at a time, so that each is a batch of its own.
    append(&world, &format!("{}\n", "x".repeat(100_000)));
    receiver.wait_until("the cut line", |records| records.len() == 1);
    append(&world, "poison\n");
    world.wait_for_log("Dropped, as `on_reject: drop` says");
    append(&world, "between\n");
    receiver.wait_until("the line between", |records| records.len() == 2);
    // Cut, and what is left of it refused: each byte has one reason.
    append(&world, &format!("poison{}\n", "y".repeat(100_000)));
    let seen = fs::metadata(world.path("plain/x.log")).unwrap().len();
    let (code, audit) = audit_when(&world, "all is settled", |audit| {
        let sink = &audit["sinks"]["out"];
        sink["seen"] == seen && sink["in_flight"] == 0 && sink["unread"] == 0
    });
    assert_eq!(code, 0, "what the operator chose to drop is no loss: {audit}");
    let cut = 100_000 - BOUND + 100_006 - BOUND;
    let rejected = "poison\n".len() as u64 + BOUND + 1;
    assert_eq!(audit["dropped"]["line_too_long"], cut, "{audit}");
    assert_eq!(audit["dropped"]["rejected"], rejected, "{audit}");
    assert_eq!(audit["sinks"]["out"]["dropped"], cut + rejected, "{audit}");
    let delivered = BOUND + 1 + "between\n".len() as u64;
    assert_eq!(audit["sinks"]["out"]["acknowledged"], delivered, "{audit}");

    let expected: BTreeMap<String, u64> =
        [("line_too_long".to_owned(), cut), ("rejected".to_owned(), rejected)].into();
    let status: Value = serde_json::from_str(&world.ask("/status")).unwrap();
    let totals = serde_json::to_value(&expected).unwrap();
    assert_eq!(status["totals"]["dropped"], totals);
    assert_eq!(status["totals"]["by_sink"]["out"]["dropped"], totals);
    let metrics = world.ask("/metrics");
    let bytes = by_reason(&metrics, "everyline_dropped_bytes_total");
    assert_eq!(without_zeros(&bytes), expected);
    let lines = by_reason(&metrics, "everyline_dropped_lines_total");
    assert_eq!((lines["line_too_long"], lines["rejected"]), (2, 2));

    // The next agent goes on from there, and so do the numbers.
    assert_eq!(agent.stop(), Some(0));
    let (_, stopped) = world.audit();
    assert_eq!(stopped["dropped"], totals);
    let _agent = world.start();
    let metrics = world.ask("/metrics");
    assert_eq!(without_zeros(&by_reason(&metrics, "everyline_dropped_bytes_total")), expected);
    assert_eq!(world.audit().1["dropped"], totals);
}

#[test]
fn the_oldest_unacknowledged_byte_tells_the_age() {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    let mut world = World::new("auto");
    world.admin = Some(free_port());
    world.sinks = format!(
        "{}  other:\n    type: file\n    path: {}\n",
        receiver.sink(),
        world.path("out/other.ndjson").display()
    );
    let _agent = world.start();
    let begun = Instant::now();
    append(&world, "stuck\n");
    // Whatever else is settled meanwhile, nothing of this sink's is.
    let age = |sink: usize| {
        let status: Value = serde_json::from_str(&world.ask("/status")).unwrap();
        status["sinks"][sink]["oldest_unacked_seconds"].as_f64()
    };
    let deadline = Instant::now() + patience();
    while age(1).unwrap_or_default() < 3.0 {
        assert!(Instant::now() < deadline, "it is never old: {:?}", age(1));
        append(&world, "more\n");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(begun.elapsed().as_secs_f64() >= 3.0);
    assert!(age(0).unwrap_or_default() < 3.0, "the other sink moves");
    receiver.always(None);
    let deadline = Instant::now() + patience();
    while age(1).is_some() {
        assert!(Instant::now() < deadline, "all is settled, and yet: {:?}", age(1));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_cut_off_a_message_of_many_reads_is_booked_whole() {
    let mut world = World::new("auto");
    world.admin = Some(free_port());
    world.extra = "read:\n  max_line_bytes: 64KiB\n  long_lines: cut\n".into();
    let mut container = world.container("long");
    let part = "z".repeat(16_000);
    let agent = world.start();
    // 1.6 MB, in more reads and batches than one.
    for _ in 0..100 {
        container.raw(format!("2026-11-22T01:02:03Z stdout P {part}\n").as_bytes());
        std::thread::sleep(Duration::from_millis(10));
    }
    container.raw(b"2026-11-22T01:02:03Z stdout F \n");
    let records = world.wait_for(1);
    let cut = records[0]["everyline.cut_bytes"].as_u64().unwrap();
    assert_eq!(cut, 100 * 16_000 - (64 << 10));
    let (code, audit) =
        audit_when(&world, "the cut is booked", |audit| audit["sinks"]["out"]["in_flight"] == 0);
    assert_eq!(code, 0, "{audit}");
    assert_eq!(audit["dropped"]["line_too_long"], cut, "{audit}");
    assert_eq!(audit["sinks"]["out"]["dropped"], cut, "{audit}");
    let metrics = world.ask("/metrics");
    assert_eq!(by_reason(&metrics, "everyline_dropped_bytes_total")["line_too_long"], cut);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn what_was_there_before_the_first_start_is_booked_for_every_sink() {
    let mut world = World::new("auto");
    world.admin = Some(free_port());
    world.extra = "read:\n  start: end\n".into();
    let other = world.path("out/other.ndjson");
    world.sinks += &format!("  other:\n    type: file\n    path: {}\n", other.display());
    append(&world, "before\nbefore\n");
    let agent = world.start();
    world.wait_for_log("The first look for logs is done");
    append(&world, "after\n");
    world.wait_for(1);
    let (code, audit) = audit_when(&world, "both are done", |audit| {
        ["out", "other"].iter().all(|sink| audit["sinks"][sink]["acknowledged"] == 6)
    });
    assert_eq!(code, 0, "{audit}");
    for sink in ["out", "other"] {
        assert_eq!(audit["sinks"][sink]["dropped"], 14, "{audit}");
    }
    let status: Value = serde_json::from_str(&world.ask("/status")).unwrap();
    for sink in ["out", "other"] {
        assert_eq!(status["totals"]["by_sink"][sink]["dropped"]["before_start"], 14);
    }
    assert_eq!(audit["dropped"]["before_start"], 28, "the sum over the sinks");
    let metrics = world.ask("/metrics");
    assert_eq!(by_reason(&metrics, "everyline_dropped_bytes_total")["before_start"], 28);
    assert_eq!(agent.stop(), Some(0));
}
