//! A copy of a log is found at the very moment at which its reader sees the log truncated (feature
//! `failpoints`, which makes that moment long): no line comes twice.
#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "the whole crate is tests")]

#[path = "behaviour/harness.rs"]
#[expect(dead_code, unused_macros, unused_imports, reason = "shared with the behaviour tests")]
mod harness;

use std::{fs, path::Path, process::Command, time::Duration};

use harness::{World, append, body, lines};

/// An agent that takes its time before and after a life ends, and between its looks at who reads the
/// source and at what a copy is.
fn slow() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    command.env(
        "FAILPOINTS",
        "read.life_ends=sleep(400);registry.copy=sleep(800);read.life_ended=sleep(1500)",
    );
    command
}

/// What becomes of a copy.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Packed {
    Never,
    Later,
    AtOnce,
}

/// As `copytruncate` does it; the program writes on at once. A plain copy gets its name when the reader is
/// about to end the life, a packed one while the registry looks at what it may be a copy of.
fn copy_and_truncate(live: &Path, copy: &Path, next: &str) {
    let mut unnamed = copy.with_file_name("copy");
    fs::copy(live, &unnamed).unwrap();
    let is_packed = copy.extension().is_some_and(|it| it == "gz");
    if is_packed {
        pack(&unnamed);
        unnamed.add_extension("gz");
        fs::rename(&unnamed, copy).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::File::options().write(true).open(live).unwrap().set_len(0).unwrap();
    append(live, next);
    if !is_packed {
        std::thread::sleep(Duration::from_millis(100));
        fs::rename(&unnamed, copy).unwrap();
    }
}

fn pack(path: &Path) {
    assert!(Command::new("gzip").arg(path).status().unwrap().success());
}

/// Every line once, and as the audit has it.
fn no_line_comes_twice(watch: &'static str, packed: Packed) {
    let mut world = World::new(watch);
    let dir = world.path("plain");
    world.files = format!(
        "    - paths: [\"{0}/*.log\", \"{0}/*.log.[1-9]\", \"{0}/*.log.[1-9].gz\"]\n",
        dir.display()
    );
    let live = world.path("plain/app.log");
    append(&live, lines("first", 200));
    let agent = world.start_by(slow());
    world.wait_for(200);
    std::thread::sleep(Duration::from_millis(500));
    let mut wanted: Vec<String> = lines("first", 200).lines().map(Into::into).collect();
    let ending = if packed == Packed::AtOnce { ".gz" } else { "" };
    for round in 0..4 {
        let next = lines(&format!("life {round}"), 150);
        wanted.extend(next.lines().map(str::to_owned));
        let copy = dir.join(format!("app.log.1{ending}"));
        copy_and_truncate(&live, &copy, &next);
        world.wait_for(wanted.len());
        std::thread::sleep(Duration::from_secs(4));
        let older = dir.join(format!("app.log.{}{ending}", 9 - round));
        fs::rename(&copy, &older).unwrap();
        if packed == Packed::Later {
            pack(&older);
        }
    }
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(agent.stop(), Some(0));
    let mut bodies: Vec<String> = world.records().iter().map(|it| body(it).into()).collect();
    bodies.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(bodies.len(), wanted.len(), "{}", world.log());
    assert_eq!(bodies, wanted);
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

#[test]
fn a_copy_that_is_found_while_its_reader_sees_the_truncation() {
    no_line_comes_twice("inotify", Packed::Never);
}

#[test]
fn a_copy_that_is_packed_later() {
    no_line_comes_twice("inotify", Packed::Later);
}

#[test]
fn a_copy_that_a_poll_finds() {
    no_line_comes_twice("poll", Packed::Never);
}

#[test]
fn a_packed_copy_that_is_found_while_its_reader_sees_the_truncation() {
    no_line_comes_twice("inotify", Packed::AtOnce);
}

#[test]
fn a_packed_copy_that_a_poll_finds() {
    no_line_comes_twice("poll", Packed::AtOnce);
}
