//! Memory stays near `memory_budget` whatever ends lines and messages, and in however many files at once.

use std::{
    fs::{self, File},
    io::Write,
    time::Duration,
};

use crate::harness::{Agent, Container, World, body};

/// Above the budget of 16 MiB, and far below what would be held if nothing bounded it.
const MOST_MIB: u64 = 100;

/// An agent whose batches wait long for company, beside a second sink.
fn world(extra: &str) -> World {
    let mut world = World::new("inotify");
    world.max_age = "2s";
    world.extra = extra.into();
    world.sinks += "  none: {type: null}\n";
    world
}

/// Stops the agent; its memory stayed in bounds, and every record is there once.
fn assert_bounded(world: &World, agent: Agent, mut wanted: Vec<String>) {
    world.wait_for(wanted.len());
    let peak = agent.peak_memory_mib();
    assert_eq!(agent.stop(), Some(0));
    let mut bodies: Vec<String> = world.records().iter().map(|it| body(it).into()).collect();
    bodies.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(bodies.len(), wanted.len());
    assert!(bodies == wanted, "the records are not those that were written");
    assert_eq!(world.audit().0, 0);
    assert!(peak < MOST_MIB, "peak memory was {peak} MiB");
}

#[test]
fn messages_that_are_cut_in_many_files_at_once() {
    let world = world("read: {unfinished_after: 2s}\n");
    let text = "#".repeat(16_384);
    let mut pods: Vec<Container> = (0..80).map(|n| world.container(&format!("p{n}"))).collect();
    for pod in &mut pods {
        for stream in ["stdout", "stderr"] {
            let part = format!("2026-11-22T01:02:03Z {stream} P {text}\n");
            pod.raw(part.repeat(62).as_bytes());
        }
    }
    let agent = world.start();
    assert_bounded(&world, agent, vec![text.repeat(62); 2 * pods.len()]);
}

#[test]
fn last_lines_that_are_cut_in_many_files_at_once() {
    let world = world("read: {unfinished_after: 2s}\n");
    let line = "#".repeat(1_000_000);
    for n in 0..150 {
        fs::write(world.path(&format!("plain/{n}.log")), &line).unwrap();
    }
    let agent = world.start();
    assert_bounded(&world, agent, vec![line; 150]);
}

#[test]
fn lines_that_zeros_end() {
    let mut world = world("");
    world.max_age = "10s";
    let line = "#".repeat(1_000_000);
    let mut file = File::create(world.path("plain/app.log")).unwrap();
    for _ in 0..150 {
        file.write_all((line.clone() + &"\0".repeat(600)).as_bytes()).unwrap();
    }
    file.write_all(b"end\n").unwrap();
    let agent = world.start();
    let mut wanted = vec![line; 150];
    wanted.push("end".to_owned());
    assert_bounded(&world, agent, wanted);
}

#[test]
fn last_lines_of_files_that_are_deleted_at_once() {
    let world = world("read: {unfinished_after: 1h}\n");
    let line = "#".repeat(1_000_000);
    let paths: Vec<_> = (0..150).map(|n| world.path(&format!("plain/{n}.log"))).collect();
    paths.iter().for_each(|path| fs::write(path, "first\n".to_owned() + &line).unwrap());
    let agent = world.start();
    world.wait_for(150);
    std::thread::sleep(Duration::from_secs(1));
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    let mut wanted = vec![line; 150];
    wanted.extend(vec!["first".to_owned(); 150]);
    assert_bounded(&world, agent, wanted);
}
