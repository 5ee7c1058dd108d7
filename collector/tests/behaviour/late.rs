//! Late writes: a program that keeps its descriptor goes on writing to a file after its rotation,
//! for longer than anybody holds that open.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Agent, World, assert_exactly_once, body, in_every_mode, patience},
    receiver::{Fault, Receiver},
};

in_every_mode!(
    a_file_that_was_let_go_and_is_written_to_is_read_on,
    a_file_that_is_written_to_after_a_restart_is_read_on,
    what_was_written_to_a_finished_file_while_down_is_read_on,
    a_file_that_was_let_go_is_read_on_under_its_next_names,
    the_live_file_does_not_wait_for_a_late_writer,
    the_live_file_is_not_let_go_after_a_late_write,
    the_last_words_of_a_file_deleted_after_it_was_let_go_are_read_or_stated,
);

/// Collects `app.log` and whatever it is renamed to.
fn collect(world: &mut World) {
    world.files = format!("    - paths: [\"{}/app.log*\"]\n", world.path("plain").display());
}

fn log(world: &World, name: &str) -> File {
    let path = world.path("plain").join(name);
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn rotate(world: &World, from: &str, to: &str) {
    let at = |name| world.path("plain").join(name);
    fs::rename(at(from), at(to)).unwrap();
}

fn bodies(records: &[Value]) -> Vec<&str> {
    records.iter().map(body).collect()
}

fn uid(records: &[Value], wanted: &str) -> String {
    let found = records.iter().find(|record| body(record) == wanted);
    found.unwrap()["log.record.uid"].as_str().unwrap().to_owned()
}

/// Waits until the agent has let go of the files whose name contains `part`.
fn wait_until_closed(agent: &Agent, part: &str) {
    let deadline = Instant::now() + patience();
    while agent.open_files(part) > 0 {
        assert!(Instant::now() < deadline, "{part} is still held open");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An agent that has read `app.log.1`, whose writer keeps it open, and let it go.
fn let_go(world: &mut World) -> (Agent, File) {
    collect(world);
    let agent = world.start();
    let mut writer = log(world, "app.log");
    writer.write_all(b"one\n").unwrap();
    world.wait_for(1);
    rotate(world, "app.log", "app.log.1");
    log(world, "app.log").write_all(b"new 1\n").unwrap();
    world.wait_for(2);
    wait_until_closed(&agent, "app.log.1");
    (agent, writer)
}

fn audit_is_clean(world: &World) {
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
}

fn a_file_that_was_let_go_and_is_written_to_is_read_on(mut world: World) {
    let (agent, mut writer) = let_go(&mut world);
    for n in 0..3 {
        writer.write_all(format!("late {n}\n").as_bytes()).unwrap();
        world.wait_for(3 + n);
        // It is held while it is written to, and let go again.
        wait_until_closed(&agent, "app.log.1");
    }
    log(&world, "app.log").write_all(b"new 2\n").unwrap();
    let records = world.wait_for(6);
    assert_eq!(bodies(&records), ["one", "new 1", "late 0", "late 1", "late 2", "new 2"]);
    let (first, late) = (uid(&records, "one"), uid(&records, "late 1"));
    let place = |uid: &str| {
        let (file, offset) = uid.split_once('-').unwrap();
        (file.to_owned(), u64::from_str_radix(offset, 16).unwrap())
    };
    assert_eq!(place(&first).1, 0);
    assert_eq!(place(&late), (place(&first).0, 11));
    assert_eq!(agent.stop(), Some(0));
    audit_is_clean(&world);
}

fn a_file_that_is_written_to_after_a_restart_is_read_on(mut world: World) {
    let (agent, mut writer) = let_go(&mut world);
    assert_eq!(agent.stop(), Some(0));
    let agent = world.start();
    world.wait_for_first_look();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.open_files("app.log.1"), 0, "nothing new is in it");
    writer.write_all(b"late\n").unwrap();
    let records = world.wait_for(3);
    assert_eq!(bodies(&records), ["one", "new 1", "late"]);
    assert_eq!(agent.stop(), Some(0));
    audit_is_clean(&world);
}

fn what_was_written_to_a_finished_file_while_down_is_read_on(mut world: World) {
    let (agent, mut writer) = let_go(&mut world);
    agent.kill();
    writer.write_all(b"late\n").unwrap();
    drop(writer);
    let audit = world.audit().1;
    assert_eq!(audit["sinks"]["out"]["unread"], 5, "{audit}");
    let agent = world.start();
    let records = world.wait_for(3);
    assert_eq!(bodies(&records), ["one", "new 1", "late"]);
    assert_eq!(agent.stop(), Some(0));
    audit_is_clean(&world);
}

fn a_file_that_was_let_go_is_read_on_under_its_next_names(mut world: World) {
    let (agent, mut writer) = let_go(&mut world);
    rotate(&world, "app.log.1", "app.log.2");
    rotate(&world, "app.log", "app.log.1");
    log(&world, "app.log").write_all(b"newest\n").unwrap();
    world.wait_for(3);
    wait_until_closed(&agent, "app.log.1");
    writer.write_all(b"late\n").unwrap();
    let records = world.wait_for(4);
    assert_eq!(bodies(&records), ["one", "new 1", "newest", "late"]);
    let former = log(&world, "app.log.1").write_all(b"late too\n");
    former.unwrap();
    world.wait_for(5);
    assert_eq!(agent.stop(), Some(0));
    audit_is_clean(&world);
}

fn the_live_file_does_not_wait_for_a_late_writer(mut world: World) {
    let (agent, mut writer) = let_go(&mut world);
    let mut live = log(&world, "app.log");
    let mut late = 0;
    let deadline = Instant::now() + patience();
    // The late writer never rests, and leaves a line open at that.
    for n in 0..10 {
        live.write_all(format!("live {n}\n").as_bytes()).unwrap();
        while !bodies(&world.records()).contains(&&*format!("live {n}")) {
            assert!(Instant::now() < deadline, "the live file is not read");
            writer.write_all(format!("late {late}\nhalf ").as_bytes()).unwrap();
            late += 1;
            std::thread::sleep(Duration::from_millis(40));
        }
    }
    writer.write_all(b"a line\n").unwrap();
    let records = world.wait_for(2 + 10 + late + 1);
    let texts = bodies(&records);
    let ours = texts.iter().filter(|text| text.contains("late")).collect::<Vec<_>>();
    let numbers: Vec<usize> =
        ours.iter().map(|text| text.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..late).collect::<Vec<_>>(), "in order, and each once");
    assert!(texts.contains(&"half a line"), "a line that goes on within a moment is not cut");
    assert_eq!(agent.stop(), Some(0));
    audit_is_clean(&world);
}

fn the_live_file_is_not_let_go_after_a_late_write(mut world: World) {
    collect(&mut world);
    let agent = world.start();
    let mut writer = log(&world, "app.log");
    writer.write_all(b"one\n").unwrap();
    world.wait_for(1);
    rotate(&world, "app.log", "app.log.1");
    let mut live = log(&world, "app.log");
    live.write_all(b"new 1\n").unwrap();
    world.wait_for(2);
    // While the file is still held, and the live one rests for longer than that.
    writer.write_all(b"late\n").unwrap();
    world.wait_for(3);
    wait_until_closed(&agent, "app.log.1");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.open_files("plain/app.log"), 1, "the live one");
    live.write_all(b"new 2\n").unwrap();
    let records = world.wait_for(4);
    assert_eq!(bodies(&records), ["one", "new 1", "late", "new 2"]);
    assert_eq!(agent.stop(), Some(0));
    audit_is_clean(&world);
}

fn the_last_words_of_a_file_deleted_after_it_was_let_go_are_read_or_stated(mut world: World) {
    let (agent, mut writer) = let_go(&mut world);
    // Written and deleted at once, but still held open by its writer.
    agent.signal(rustix::process::Signal::STOP);
    writer.write_all(b"last words\n").unwrap();
    fs::remove_file(world.path("plain/app.log.1")).unwrap();
    agent.signal(rustix::process::Signal::CONT);
    let deadline = Instant::now() + patience();
    loop {
        if bodies(&world.records()).contains(&"last words") {
            break;
        }
        if world.log().contains("deleted_unseen") {
            break;
        }
        assert!(Instant::now() < deadline, "neither read nor stated\n{}", world.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    agent.stop();
    let read = bodies(&world.records()).contains(&"last words");
    assert_eq!(world.audit().0, i32::from(!read));
}

/// With the kernel's tally, what nobody could read is stated to the byte.
#[test]
fn the_kernel_states_what_was_written_to_a_file_that_was_let_go() {
    if !crate::harness::has_kernel_watch() {
        return;
    }
    let mut world = World::new("kernel");
    let (agent, mut writer) = let_go(&mut world);
    agent.signal(rustix::process::Signal::STOP);
    writer.write_all(b"last words\n").unwrap();
    drop(writer);
    fs::remove_file(world.path("plain/app.log.1")).unwrap();
    agent.signal(rustix::process::Signal::CONT);
    world.wait_for_log("deleted_unseen");
    agent.stop();
    let (code, audit) = world.audit();
    assert_eq!(code, 1, "{audit}");
    let lost = audit.to_string();
    assert!(lost.contains("\"deleted_unseen\":11"), "{audit}");
}

/// A sink that stands still neither misses late lines nor keeps them from another.
#[test]
fn each_sink_reads_late_lines_from_where_it_stopped() {
    let mut world = World::new("inotify");
    collect(&mut world);
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &receiver.sink().replace("  out:", "  slow:");
    let agent = world.start();
    let mut writer = log(&world, "app.log");
    writer.write_all(b"one\n").unwrap();
    world.wait_for(1);
    rotate(&world, "app.log", "app.log.1");
    log(&world, "app.log").write_all(b"new 1\n").unwrap();
    world.wait_for(2);
    std::thread::sleep(Duration::from_secs(1));
    writer.write_all(b"late\n").unwrap();
    let records = world.wait_for(3);
    assert_eq!(bodies(&records), ["one", "new 1", "late"], "the other sink is not waited for");
    receiver.always(None);
    let sent = receiver.wait_until("late lines", |records| records.len() >= 3);
    let mut sent = bodies(&sent);
    sent.sort_unstable();
    assert_eq!(sent, ["late", "new 1", "one"]);
    assert_eq!(agent.stop(), Some(0));
    audit_is_clean(&world);
}

/// Kubernetes: a rotated file that its runtime writes to late, among files of the same pod.
#[test]
fn late_lines_of_a_container_arrive_once() {
    let world = World::new("inotify");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    let rotated = container.rotate();
    let mut late = OpenOptions::new().append(true).open(&rotated).unwrap();
    world.wait_for(10);
    wait_until_closed(&agent, &name(&rotated));
    for n in 10..20 {
        writeln!(late, "2026-11-22T01:02:03.{n:09}Z stdout F message {n}").unwrap();
    }
    container.written = 20;
    world.wait_for(20);
    container.write(10);
    world.wait_for(30);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    audit_is_clean(&world);
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
