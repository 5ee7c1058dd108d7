//! More log files than descriptors: they take turns, and the agent itself is never without.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::Write,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    copytruncate::compress,
    harness::{Agent, World, body, in_every_mode, patience},
    receiver::{Fault, Receiver},
};

in_every_mode!(
    more_files_than_descriptors_take_turns,
    files_are_followed_through_rotation_and_deletion_without_a_descriptor,
    copies_of_files_without_a_descriptor_are_known_as_copies,
    packed_copies_of_files_without_a_descriptor_are_known_as_copies,
    what_only_the_packed_copy_of_a_closed_file_has_is_read_though_a_sink_is_slow,
    what_only_the_packed_copy_of_a_closed_file_has_is_read_after_a_kill,
    an_unfinished_message_of_a_closed_file_that_is_deleted_before_a_reload_is_delivered_or_lost,
);

const FILES: usize = 260;

/// Starts an agent that may have so many descriptors.
fn start_with(world: &World, soft: usize, hard: usize) -> Agent {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={soft}:{hard}")).arg(env!("CARGO_BIN_EXE_everyline"));
    world.start_by(command)
}

fn write(world: &World, name: &str, text: &str) {
    let path = world.path("plain").join(name);
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn write_all(world: &World, round: usize) {
    for n in 0..FILES {
        write(world, &format!("{n}.log"), &format!("{n} round {round}\n"));
    }
}

fn assert_each_once(world: &World, count: usize) {
    let records = world.wait_for(count);
    let bodies: HashSet<&str> = records.iter().map(body).collect();
    assert_eq!((records.len(), bodies.len()), (count, count));
}

/// A long text that does not become shorter by compression.
fn noise(seed: usize) -> String {
    let mut state = seed as u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (state >> 33) as u8 % 75)
    };
    (0..40_000).map(|_| next()).filter(|c| *c != '\\').collect()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn status(world: &World) -> Value {
    let output = world.everyline(&["status", "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn more_files_than_descriptors_take_turns(mut world: World) {
    world.admin = Some(free_port());
    write_all(&world, 0);
    let agent = start_with(&world, 160, 160);
    for round in 1..4 {
        assert_each_once(&world, FILES * round);
        write_all(&world, round);
    }
    assert_each_once(&world, FILES * 4);
    assert!(agent.open_files("plain/") <= 80, "{}", agent.open_files("plain/"));
    world.wait_for_log("There are more log files than descriptors");
    let descriptors = &status(&world)["descriptors"];
    assert_eq!((&descriptors["limit"], &descriptors["for_files"]), (&160.into(), &80.into()));
    assert!(descriptors["waiting_files"].as_u64().unwrap() >= 150, "{descriptors}");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.log().matches("There are more log files").count(), 1, "it is said once");
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
}

/// The reload has its sink begin anew, inside the message, and the file cannot be opened any more.
fn an_unfinished_message_of_a_closed_file_that_is_deleted_before_a_reload_is_delivered_or_lost(
    mut world: World,
) {
    world.admin = Some(free_port());
    let agent = start_with(&world, 48, 48);
    for n in 0..90 {
        write(&world, &format!("{n}.log"), "quiet\n");
    }
    world.wait_for(90);
    let mut pods: Vec<_> = (0..10).map(|n| world.container(&format!("pod-{n}"))).collect();
    for pod in &mut pods {
        pod.write(1);
        pod.raw(b"2026-11-22T01:02:04Z stdout P the end\n");
    }
    world.wait_for(100);
    for pod in &pods {
        fs::remove_dir_all(pod.dir.parent().unwrap()).unwrap();
    }
    world.sinks = world.sinks.replace("rotate_size: 1GiB", "rotate_size: 2GiB");
    world.write_config();
    agent.signal(Signal::HUP);
    world.wait_for_log("configuration was reloaded");
    let done = |account: &Value| account["unread"] == 0 && account["in_flight"] == 0;
    let deadline = Instant::now() + patience();
    while !done(&world.audit().1["sinks"]["out"]) {
        assert!(Instant::now() < deadline, "{}\n{}", world.audit().1, world.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(agent.stop(), Some(0));
    let ends = world.records().iter().filter(|record| body(record) == "the end").count();
    let (_, audit) = world.audit();
    let missing = (10 - ends) * "2026-11-22T01:02:04Z stdout P the end\n".len();
    assert_eq!(audit["sinks"]["out"]["lost"], missing, "{audit}");
    assert_eq!(audit["sinks"]["out"]["unread"], 0, "{audit}");
}

fn files_are_followed_through_rotation_and_deletion_without_a_descriptor(mut world: World) {
    world.files = format!("    - paths: [\"{}/*.log*\"]\n", world.path("plain").display());
    write_all(&world, 0);
    let agent = start_with(&world, 160, 160);
    world.wait_for(FILES);
    let at = |name: String| world.path("plain").join(name);
    for n in 0..FILES {
        write(&world, &format!("{n}.log"), &format!("{n} before\n"));
        fs::rename(at(format!("{n}.log")), at(format!("{n}.log.1"))).unwrap();
        write(&world, &format!("{n}.log"), &format!("{n} after\n"));
    }
    assert_each_once(&world, FILES * 3);
    // Late, to files that nobody holds.
    for n in 0..FILES {
        write(&world, &format!("{n}.log.1"), &format!("{n} late\n"));
    }
    assert_each_once(&world, FILES * 4);
    for n in 0..FILES - 10 {
        fs::remove_file(at(format!("{n}.log"))).unwrap();
        fs::remove_file(at(format!("{n}.log.1"))).unwrap();
    }
    for n in FILES - 10..FILES {
        write(&world, &format!("{n}.log"), &format!("{n} at last\n"));
    }
    assert_each_once(&world, FILES * 4 + 10);
    assert_eq!(agent.stop(), Some(0));
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
}

/// As `copytruncate` makes them: of a log that is closed for want of descriptors as of any other.
fn copies_of_files_without_a_descriptor_are_known_as_copies(world: World) {
    copied_without_a_descriptor(world, |log, copy| {
        fs::copy(log, copy).unwrap();
    });
}

fn packed_copies_of_files_without_a_descriptor_are_known_as_copies(world: World) {
    copied_without_a_descriptor(world, |log, copy| {
        fs::copy(log, copy).unwrap();
        compress(copy, &copy.with_extension("1.gz"));
    });
}

fn copied_without_a_descriptor(mut world: World, copy: impl Fn(&Path, &Path)) {
    world.files = format!("    - paths: [\"{}/*.log\"]\n", world.path("plain").display());
    let agent = start_with(&world, 160, 160);
    write_all(&world, 0);
    world.wait_for(FILES);
    let at = |name: String| world.path("plain").join(name);
    for n in 0..FILES {
        copy(&at(format!("{n}.log")), &at(format!("{n}.log.1")));
    }
    // A copy may wait for its log to be truncated; it is not to be taken for another log meanwhile.
    std::thread::sleep(Duration::from_secs(6));
    (0..FILES).for_each(|n| drop(File::create(at(format!("{n}.log"))).unwrap()));
    std::thread::sleep(Duration::from_secs(1));
    write_all(&world, 10);
    world.wait_for(2 * FILES);
    std::thread::sleep(Duration::from_secs(6));
    assert_each_once(&world, 2 * FILES);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

/// A lowered limit is noticed, and so is a raised one (where a test may raise it).
/// Renamed, compressed and removed while the file is closed; its end was not read. A sink has what was read of it
/// on its way: the copy cannot be told before that is settled.
fn packed_while_closed(mut world: World, down: Duration, killed: bool) {
    let receiver = Receiver::start(&[]);
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    let at = |name: String| world.path("plain").join(name);
    let agent = start_with(&world, 160, 160);
    write_all(&world, 0);
    world.wait_for(FILES);
    receiver.wait_until("what was there", |records| records.len() >= FILES);
    receiver.always(Some(Fault::Unavailable));
    write_all(&world, 1);
    world.wait_for(2 * FILES);
    agent.signal(Signal::STOP);
    write_all(&world, 2);
    for n in 0..FILES {
        fs::rename(at(format!("{n}.log")), at(format!("{n}.log.1"))).unwrap();
        compress(&at(format!("{n}.log.1")), &at(format!("{n}.log.1.gz")));
    }
    write_all(&world, 3);
    agent.signal(Signal::CONT);
    std::thread::sleep(down);
    let agent = match killed {
        true => {
            agent.kill();
            start_with(&world, 160, 160)
        }
        false => agent,
    };
    receiver.always(None);
    assert_each_once(&world, 4 * FILES);
    receiver.wait_until("all", |records| {
        records.iter().map(body).collect::<HashSet<_>>().len() == 4 * FILES
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_each_once(&world, 4 * FILES);
    assert_eq!(agent.stop(), Some(0));
    let (code, audit) = world.audit();
    assert!(code == 0 || killed, "{audit}\n{}", world.log());
}

fn what_only_the_packed_copy_of_a_closed_file_has_is_read_though_a_sink_is_slow(world: World) {
    packed_while_closed(world, Duration::from_secs(8), false);
}

fn what_only_the_packed_copy_of_a_closed_file_has_is_read_after_a_kill(world: World) {
    packed_while_closed(world, Duration::from_secs(5), true);
}

#[test]
fn a_limit_that_is_changed_while_the_agent_runs_is_heeded() {
    let world = World::new("inotify");
    write_all(&world, 0);
    let agent = start_with(&world, 1024, 1024);
    world.wait_for(FILES);
    let set = |limit: usize| {
        let pid = agent.pid().as_raw_nonzero().to_string();
        let limit = format!("--nofile={limit}:{limit}");
        Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success()
    };
    let wait = |round: usize, holds: &dyn Fn(usize) -> bool| {
        std::thread::sleep(Duration::from_secs(3));
        write_all(&world, round);
        assert_each_once(&world, FILES * (round + 1));
        let deadline = Instant::now() + patience();
        while !holds(agent.open_files("plain/")) {
            assert!(Instant::now() < deadline, "{}", agent.open_files("plain/"));
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait(1, &|open| open == FILES);
    assert!(set(100));
    wait(2, &|open| open <= 50);
    if set(1024) {
        wait(3, &|open| open == FILES);
    } else {
        println!("skipped: raising a limit again needs CAP_SYS_RESOURCE");
    }
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// What waits for a dead sink does not keep another from reading, nor from reading what is new.
#[test]
fn a_dead_sink_behind_more_files_than_descriptors_holds_up_nobody() {
    let mut world = World::new("inotify");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    // The dead sink's memory is used up at once: the rest stays unread for it.
    world.extra = "memory_budget: 4MiB\n".into();
    for n in 0..FILES {
        write(&world, &format!("{n}.log"), &format!("{n} {}\n", noise(n)));
    }
    let agent = start_with(&world, 160, 160);
    world.wait_for(FILES);
    write_all(&world, 1);
    assert_each_once(&world, FILES * 2);
    receiver.always(None);
    let sent = receiver.wait_until("all", |records| records.len() >= FILES * 2);
    assert_eq!(sent.iter().map(body).collect::<HashSet<_>>().len(), FILES * 2);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// What nobody could hold and nobody had read is a stated loss, once it is gone.
#[test]
fn what_is_deleted_before_its_turn_is_stated() {
    let mut world = World::new("inotify");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    world.extra = "memory_budget: 4MiB\n".into();
    for n in 0..FILES {
        write(&world, &format!("{n}.log"), &format!("{n} {}\n", noise(n)));
    }
    let agent = start_with(&world, 160, 160);
    world.wait_for(FILES);
    for n in 0..FILES {
        fs::remove_file(world.path("plain").join(format!("{n}.log"))).unwrap();
    }
    write(&world, "new.log", "new\n");
    world.wait_for(FILES + 1);
    receiver.always(None);
    let held = receiver.wait_until("what was held", |records| records.len() >= 60);
    world.wait_for_log("deleted_unseen");
    let deadline = Instant::now() + patience();
    let open = |audit: &Value| {
        let sink = &audit["sinks"]["web"];
        sink["unread"] != 0 || sink["in_flight"] != 0
    };
    while open(&world.audit().1) {
        assert!(Instant::now() < deadline, "{} arrived", held.len());
        std::thread::sleep(Duration::from_millis(100));
    }
    agent.stop();
    let (code, audit) = world.audit();
    assert_eq!(code, 1, "{audit}");
    // The sum of both is what there was.
    let sent: usize = receiver.records().iter().map(|record| body(record).len() + 1).sum();
    let lost = audit["sinks"]["web"]["lost"].as_u64().unwrap() as usize;
    let written = (0..FILES).map(|n| format!("{n} {}\n", noise(n)).len()).sum::<usize>() + 4;
    assert_eq!(sent + lost, written, "{audit}");
}

/// One source's hundreds of files leave others their share.
#[test]
fn one_source_with_many_files_does_not_take_the_others_descriptors() {
    let mut world = World::new("inotify");
    world.files = format!("    - paths: [\"{}/*.log*\"]\n", world.path("plain").display());
    for n in 1..=FILES {
        write(&world, &format!("a.log.{n}"), &format!("{n} of many\n"));
    }
    for n in 0..20 {
        write(&world, &format!("z{n}.log"), &format!("{n} of another\n"));
    }
    // A directory that changed a moment ago is looked at several times. Then some are handed over, read and
    // idle before the many are opened, and idle ones make room.
    std::thread::sleep(Duration::from_secs(1));
    let agent = start_with(&world, 160, 160);
    let records = world.wait_for(FILES + 20);
    let many: Vec<String> = records
        .iter()
        .map(body)
        .filter(|text| text.ends_with("of many"))
        .map(str::to_owned)
        .collect();
    let wanted: Vec<String> = (1..=FILES).rev().map(|n| format!("{n} of many")).collect();
    assert_eq!(many, wanted, "oldest first, as ever");
    assert!(agent.open_files("plain/z") == 20, "{}", agent.open_files("plain/z"));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// Compressed former files take two descriptors each while they are unpacked: one after the other.
#[test]
fn compressed_files_are_unpacked_within_the_descriptors() {
    let world = World::new("inotify");
    let mut containers = Vec::new();
    for n in 0..60 {
        let mut container = world.container(&format!("c{n}"));
        for _ in 0..2 {
            container.write(5);
            let rotated = container.rotate();
            container.compress(&rotated);
        }
        container.write(1);
        containers.push(container);
    }
    let agent = start_with(&world, 100, 100);
    let records = world.wait_for(60 * 11);
    for container in &containers {
        crate::harness::assert_exactly_once(&records, container);
    }
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}
