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
    world.wait_for_first_look();
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

/// Numbered messages of a pod, delivered; what was written.
fn deliver(world: &World, container: &mut crate::harness::Container, count: u32) -> u64 {
    let before = world.records().len();
    container.write(count);
    world.wait_for(before + count as usize);
    fs::metadata(container.live()).unwrap().len()
}

fn sums(audit: &Value, sink: &str, part: &str) -> u64 {
    audit["sinks"][sink][part].as_u64().unwrap_or_else(|| panic!("no {part} of {sink}: {audit}"))
}

#[test]
fn what_was_seen_is_not_unseen_when_pods_are_deleted_while_no_agent_runs() {
    let world = World::new("inotify");
    let mut pods: Vec<_> = ["one", "two", "three"].map(|name| world.container(name)).into();
    let agent = world.start();
    let sizes: Vec<u64> = pods.iter_mut().map(|pod| deliver(&world, pod, 100)).collect();
    let rotated = pods[0].rotate();
    let more = deliver(&world, &mut pods[0], 50);
    assert_eq!(agent.stop(), Some(0));
    let (code, before) = world.audit();
    assert_eq!(code, 0, "{before}");
    let seen = sizes.iter().sum::<u64>() + more;
    assert_eq!(sums(&before, "out", "seen"), seen, "{before}");

    fs::remove_file(rotated).unwrap();
    for pod in &pods[..2] {
        fs::remove_dir_all(pod.dir.parent().unwrap()).unwrap();
    }
    let agent = world.start();
    // Deleted, delivered before, and counted once: while it is looked for, and afterwards.
    world.wait_for_first_look();
    let more = deliver(&world, &mut pods[2], 10) - sizes[2];
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(agent.stop(), Some(0));
    let (code, after) = world.audit();
    assert_eq!(code, 0, "{after}");
    assert_eq!(sums(&after, "out", "seen"), seen + more, "{after}");
    assert_eq!(sums(&after, "out", "acknowledged"), seen + more, "{after}");
    assert_eq!(after["sinks"]["out"]["files"], 4, "{after}");
}

#[test]
fn a_loss_is_in_the_sums_of_its_sink_and_before_it_is_known_nothing_is_balanced() {
    let receiver = Receiver::start(&[]);
    let mut world = World::new("poll");
    world.admin = Some(free_port());
    let other = world.path("out/other.ndjson");
    world.sinks =
        format!("{}  other:\n    type: file\n    path: {}\n", receiver.sink(), other.display());
    world.extra = "drain_timeout: 1s\n".into();
    let mut pod = world.container("gone");
    let agent = world.start();
    pod.write(100);
    receiver.wait_until("the first lines", |records| records.len() == 100);
    let got = fs::metadata(pod.live()).unwrap().len();
    receiver.always(Some(Fault::Unavailable));
    pod.write(300);
    let all = fs::metadata(pod.live()).unwrap().len();
    audit_when(&world, "one sink has everything, the other has not", |audit| {
        audit["sinks"]["other"]["acknowledged"] == all && audit["sinks"]["out"]["seen"] == all
    });
    // Not a success: one sink has something left.
    assert_eq!(agent.stop(), Some(1));
    fs::remove_dir_all(pod.dir.parent().unwrap()).unwrap();
    let _agent = world.start();
    // While it may still be found, there is neither a balance nor a loss.
    let status: Value = serde_json::from_str(&world.ask("/status")).unwrap();
    if status["looking"] == true {
        let (code, audit) = world.audit();
        assert!(code == 2 && audit["answer"] == "incomplete" || code == 1, "{code} {audit}");
    }
    let (code, audit) =
        audit_when(&world, "it is given up", |audit| audit["answer"] != "incomplete");
    assert_eq!((code, &audit["answer"]), (1, &"lost".into()), "{audit}");
    let lost = all - got;
    assert_eq!(audit["lost"]["deleted_while_down"], lost, "{audit}");
    assert_eq!(audit["lost_bytes"], lost, "{audit}");
    for (sink, lost) in [("out", lost), ("other", 0)] {
        assert_eq!(sums(&audit, sink, "seen"), all, "{audit}");
        assert_eq!(sums(&audit, sink, "lost"), lost, "{audit}");
        assert_eq!(sums(&audit, sink, "acknowledged"), all - lost, "{audit}");
    }
    assert_eq!(audit["by_sink"]["out"]["lost"]["deleted_while_down"], lost, "{audit}");
    let findings = audit["findings"].to_string();
    assert!(findings.contains("gone_uid-gone/main/0.log"), "the file is not named: {findings}");
    let text = world.everyline(&["audit"]);
    assert_eq!(text.status.code(), Some(1));
    let text = String::from_utf8(text.stdout).unwrap();
    // Nobody saw how long the file was when it went.
    let said = format!("Accounted for, but at least {lost} bytes were lost.");
    assert!(text.contains(&said), "{text}");
    assert_eq!(audit["at_least"], true, "{audit}");
    assert!(!text.contains("NOT BALANCED"), "{text}");
    let lost_bytes = by_reason(&world.ask("/metrics"), "everyline_lost_bytes_total");
    assert_eq!(lost_bytes["deleted_while_down"], lost);
}

#[test]
fn an_agent_that_is_still_looking_says_so() {
    let mut world = World::new("poll");
    world.admin = Some(free_port());
    let mut pod = world.container("gone");
    let agent = world.start();
    deliver(&world, &mut pod, 10);
    assert_eq!(agent.stop(), Some(0));
    fs::remove_dir_all(pod.dir.parent().unwrap()).unwrap();
    let _agent = world.start();
    // For three seconds it may have been moved.
    world.ask("/status");
    let output = world.everyline(&["audit"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("Not complete yet") && !text.contains("Balanced"), "{text}");
    let (code, audit) = audit_when(&world, "it is done", |audit| audit["complete"] == true);
    assert_eq!(code, 0, "{audit}");
    assert_eq!(
        audit["sinks"]["out"]["files"], 1,
        "what was delivered has not disappeared: {audit}"
    );
}

#[test]
fn a_sink_that_is_added_later_is_owed_nothing_of_files_that_were_gone() {
    let mut world = World::new("inotify");
    let mut pods: Vec<_> = ["old", "new"].map(|name| world.container(name)).into();
    let agent = world.start();
    let old = deliver(&world, &mut pods[0], 100);
    let rotated = pods[0].rotate();
    let live = deliver(&world, &mut pods[0], 10);
    let new = deliver(&world, &mut pods[1], 20);
    assert_eq!(agent.stop(), Some(0));
    fs::remove_file(rotated).unwrap();
    let other = world.path("out/other.ndjson");
    world.sinks += &format!("  other:\n    type: file\n    path: {}\n", other.display());
    let agent = world.start();
    let deadline = Instant::now() + patience();
    while fs::read_to_string(&other).map_or(0, |text| text.lines().count()) < 30 {
        assert!(Instant::now() < deadline, "the added sink is not sent what is there");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(agent.stop(), Some(0));
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
    assert_eq!(sums(&audit, "out", "seen"), old + live + new, "{audit}");
    assert_eq!(sums(&audit, "other", "seen"), live + new, "{audit}");
    assert_eq!(sums(&audit, "other", "unread"), 0, "{audit}");
}

/// A command's exit status, output and errors.
fn told(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let output = world.everyline(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn another_agent_that_answers_is_refused_and_a_taken_port_is_said() {
    let port = free_port();
    let mut first = World::new("poll");
    first.admin = Some(port);
    let mut second = World::new("poll");
    second.admin = Some(port);
    let agent = first.start();
    first.ask("/status");
    let (code, _, error) = told(&first, &["audit"]);
    assert_eq!(code, 0, "{error}");

    // The second one collects, and says who has its port.
    let _second = second.start();
    append(&second, "one\n");
    second.wait_for(1);
    second.wait_for_log("another everyline has it");
    let log = second.log();
    let said = log.lines().find(|line| line.contains("another everyline has it")).unwrap();
    assert!(said.contains("ERROR"), "{said}");
    let (state, pid) = (first.path("state"), agent.pid().as_raw_nonzero().to_string());
    assert!(said.contains(state.to_str().unwrap()) && said.contains(&pid), "{said}");

    for command in
        [&["status"][..], &["audit"], &["audit", "-o", "json"], &["status", "-o", "json"]]
    {
        let (code, text, error) = told(&second, command);
        assert_eq!((code, text.as_str()), (1, ""), "{command:?} believed it");
        for wanted in [state.to_str().unwrap(), &pid, "--config", "--admin", "admin.listen"] {
            assert!(error.contains(wanted), "no {wanted} in {error}");
        }
        assert!(error.contains(second.path("state").to_str().unwrap()), "{error}");
    }
    // Whoever names the address means who is there.
    let (code, text, error) = told(&second, &["status", "--admin", &format!("127.0.0.1:{port}")]);
    assert_eq!(code, 0, "{error}");
    assert!(text.contains(state.to_str().unwrap()), "{text}");

    // The port is taken as soon as it is free.
    assert_eq!(agent.stop(), Some(0));
    second.wait_for_log("The admin port is open now");
    let (code, text, error) = told(&second, &["audit"]);
    assert_eq!(code, 0, "{text}{error}");
    assert!(text.contains("Balanced: every byte of 1 files"), "{text}");
}

#[test]
fn a_port_that_another_program_has_is_said_and_collection_goes_on() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut world = World::new("poll");
    world.admin = Some(held.local_addr().unwrap().port());
    let agent = world.start();
    append(&world, "one\n");
    world.wait_for(1);
    world.wait_for_log("another program has it");
    drop(held);
    world.wait_for_log("The admin port is open now");
    assert!(world.ask("/healthz").contains("ok"));
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn the_agent_is_known_by_its_state_directory_whatever_that_is_called() {
    let mut world = World::new("poll");
    world.admin = Some(free_port());
    let _agent = world.start();
    world.ask("/status");
    // Through a link, as a container and its host may call it differently.
    let link = world.path("link");
    std::os::unix::fs::symlink(world.dir.path(), &link).unwrap();
    let config = fs::read_to_string(world.config_path()).unwrap();
    let (state, linked) = (world.path("state"), link.join("state"));
    let config = config.replace(state.to_str().unwrap(), linked.to_str().unwrap());
    let other = world.path("other.yaml");
    fs::write(&other, config).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_everyline"))
        .args(["audit", "--config"])
        .arg(&other)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // A configuration whose agent never ran means nobody who is there.
    let config = fs::read_to_string(&other).unwrap();
    fs::write(&other, config.replace(linked.to_str().unwrap(), "/nowhere/state")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_everyline"))
        .args(["audit", "--config"])
        .arg(&other)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}
