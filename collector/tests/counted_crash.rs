//! The agent killed at each point between what the kernel tells of files that are gone and the commit
//! that counts them (feature `failpoints`): what is lost is stated once, to the byte, by the agents
//! that follow.
#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "the whole crate is tests")]

#[path = "behaviour/harness.rs"]
#[expect(dead_code, unused_macros, unused_imports, reason = "shared with the behaviour tests")]
mod harness;

use std::{fs, process::Command, time::Duration};

use harness::{Agent, BpfFs, World, append, body, has_kernel_watch, lines, settled_audit};
use rustix::process::Signal;

/// An agent that ends at `point`, at the `passes + 1`st time it gets there.
fn dying(point: &str, passes: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    command.env("FAILPOINTS", format!("{point}={passes}*off->panic"));
    command
}

/// Starts an agent and waits until what the one before it left is looked at.
fn settled(world: &World, command: Command) -> Agent {
    let looks = || world.log().matches("first look for logs is done").count();
    let before = looks();
    let agent = world.start_by(command);
    for _ in 0..500 {
        if looks() > before {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(5));
    agent
}

/// Files of each kind that come and go: short-lived, rotated away, and with their pod. Their bytes.
fn come_and_go(world: &World, names: &str) -> usize {
    let mut bytes = 0;
    for round in 0..4 {
        let text = lines("lost", 20 + round);
        for name in ["app.log", "short.log"] {
            let path = world.path(&format!("plain/{name}"));
            append(&path, &text);
            fs::remove_file(&path).unwrap();
            bytes += text.len();
        }
        let mut born = world.container(&format!("{names}-{round}"));
        born.write(5);
        bytes += fs::metadata(born.live()).unwrap().len() as usize;
        fs::remove_dir_all(born.dir.parent().unwrap()).unwrap();
    }
    append(&world.path("plain/app.log"), lines("after", 10));
    bytes
}

/// Files come and go while the agent is paused. It dies at `point`, if it gets there so often; two more
/// die there too, and the last one states what was lost.
fn stated_once(point: &str, passes: u32, while_down: bool) {
    let world = World::new("kernel");
    let Some(_pins) = BpfFs::mount(&world.path("bpf")) else { return };
    append(&world.path("plain/app.log"), lines("read", 50));
    let first = world.start();
    world.wait_for(50);
    std::thread::sleep(Duration::from_secs(1));
    let lost;
    if while_down {
        first.kill();
        lost = come_and_go(&world, "born");
    } else {
        // Its fail points are the next agent's: this one has counted nothing yet.
        first.kill();
        let agent = settled(&world, dying(point, passes));
        agent.signal(Signal::STOP);
        lost = come_and_go(&world, "born");
        agent.signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(1500));
        agent.kill();
    }
    for _ in 0..2 {
        settled(&world, dying(point, passes)).kill();
    }
    let agent = settled(&world, Command::new(env!("CARGO_BIN_EXE_everyline")));
    world.wait_for(60);
    std::thread::sleep(Duration::from_millis(1500));
    let audit = settled_audit(&world);
    let arrived = world.records().iter().filter(|it| body(it).starts_with("lost")).count();
    // The file that was held open is read, if the agent lived to do so.
    assert!([0, 20].contains(&arrived), "{arrived}");
    let read = if arrived == 0 { 0 } else { lines("lost", 20).len() };
    let what = format!("{point} {passes}: {audit}\n{}", world.log());
    assert_eq!(audit["lost_bytes"], lost - read, "{what}");
    assert_eq!(audit["at_least"], false, "{what}");
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn killed_before_the_kernel_forgets_what_went_under_the_agent() {
    if has_kernel_watch() {
        stated_once("settle.counted", 0, false);
    }
}

#[test]
fn killed_before_the_kernel_forgets_what_went_while_no_agent_ran() {
    if has_kernel_watch() {
        stated_once("settle.counted", 0, true);
    }
}

#[test]
fn killed_while_what_went_is_made_durable() {
    if !has_kernel_watch() {
        return;
    }
    std::thread::scope(|scope| {
        for point in ["checkpoint.appended", "checkpoint.synced"] {
            for passes in 0..4 {
                scope.spawn(move || stated_once(point, passes, true));
            }
        }
    });
}

/// Pods are read to their end and go under an agent that dies at `point`: none of it is lost. False: it
/// died before it had read them.
fn forgotten_once(point: &str, passes: u32) -> bool {
    let world = World::new("kernel");
    let Some(_pins) = BpfFs::mount(&world.path("bpf")) else { return true };
    let mut pods: Vec<_> = (0..4).map(|pod| world.container(&format!("pod-{pod}"))).collect();
    pods.iter_mut().for_each(|pod| pod.write(25));
    let agent = world.start_by(dying(point, passes));
    for _ in 0..300 {
        std::thread::sleep(Duration::from_millis(100));
        if world.records().len() == 100 {
            break;
        }
    }
    let read = world.records().len() == 100;
    for pod in &pods {
        fs::remove_dir_all(pod.dir.parent().unwrap()).unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    std::thread::sleep(Duration::from_millis(2500));
    agent.kill();
    for _ in 0..2 {
        settled(&world, dying(point, passes)).kill();
    }
    let agent = settled(&world, Command::new(env!("CARGO_BIN_EXE_everyline")));
    let audit = settled_audit(&world);
    let what = format!("{point} {passes}: {audit}\n{}", world.log());
    if read {
        assert_eq!(
            (&audit["lost_bytes"], &audit["at_least"]),
            (&0.into(), &false.into()),
            "{what}"
        );
    }
    assert_eq!(agent.stop(), Some(0));
    read
}

#[test]
fn killed_before_the_kernel_forgets_what_was_read_and_forgotten() {
    if !has_kernel_watch() {
        return;
    }
    let read = std::thread::scope(|scope| {
        let points = [("settle.counted", 0), ("settle.counted", 1)].into_iter();
        let commits = (6..12).step_by(2).map(|passes| ("checkpoint.appended", passes));
        let runs = points.chain(commits);
        let runs: Vec<_> = runs
            .map(|(point, passes)| scope.spawn(move || forgotten_once(point, passes)))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).filter(|read| *read).count()
    });
    assert!(read > 1, "killed too early, all but {read} times");
}
