//! A directory is rotated at the very moment at which the registry looks through it (feature `failpoints`, which
//! makes that moment long): its lines come in their order.
#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "the whole crate is tests")]

#[path = "behaviour/harness.rs"]
#[expect(dead_code, unused_macros, unused_imports, reason = "shared with the behaviour tests")]
mod harness;

use std::{fs, path::PathBuf, process::Command, time::Duration};

use harness::{World, append, body, lines};
use rustix::process::Signal;

/// The live file is found empty, and the former one is gone when it is its turn. By the next look both are compressed.
fn compressed_while_the_former_one_is_opened(watch: &'static str) {
    let mut world = World::new(watch);
    let dir = world.path("plain");
    world.files = format!("    - paths: [\"{}/*.log*\"]\n", dir.display());
    let name = |ending: &str| -> PathBuf { dir.join(format!("app.log{ending}")) };
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    command.env("FAILPOINTS", "registry.open=1*off->1*sleep(1500)->off");
    let agent = world.start_by(command);
    world.wait_for_first_look();
    agent.signal(Signal::STOP);
    append(&name(""), lines("first", 20));
    // File systems' clocks have steps: the next file is to be younger.
    std::thread::sleep(Duration::from_millis(20));
    fs::rename(name(""), name(".1")).unwrap();
    append(&name(""), "");
    agent.signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(700));
    append(&name(""), lines("second", 2));
    pack(&name(".1"));
    fs::rename(name(".1.gz"), name(".2.gz")).unwrap();
    fs::rename(name(""), name(".1")).unwrap();
    pack(&name(".1"));
    append(&name(""), lines("third", 20));
    world.wait_for(42);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    let wanted = ["first", "second", "third"].map(|what| match what {
        "second" => lines(what, 2),
        _ => lines(what, 20),
    });
    let got: String = world.records().iter().map(|it| format!("{}\n", body(it))).collect();
    assert_eq!(got, wanted.concat(), "{}", world.log());
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

fn pack(path: &PathBuf) {
    assert!(Command::new("gzip").arg(path).status().unwrap().success());
}

#[test]
fn what_is_compressed_while_it_is_opened_keeps_its_place() {
    compressed_while_the_former_one_is_opened("inotify");
}

#[test]
fn what_is_compressed_while_a_poll_opens_it_keeps_its_place() {
    compressed_while_the_former_one_is_opened("poll");
}
