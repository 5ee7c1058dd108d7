//! SIGKILL at any moment: nothing lost; into a sink that truncates itself back nothing doubled;
//! into HTTP only what was in flight, each double under the same `log.record.uid`.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{
    harness::{Container, Over, World, assert_exactly_once, body, in_every_mode},
    receiver::{Fault, Receiver},
};

in_every_mode!(
    killed_into_a_file_nothing_is_lost_or_doubled,
    killed_into_the_archive_nothing_is_lost_or_doubled,
    killed_into_http_doubles_share_their_uid,
    a_paused_agent_catches_up,
);

/// Writes and rotates in a thread until told to stop; hands the containers back.
fn writing<T>(world: &World, during: impl FnOnce() -> T) -> (Vec<Container>, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut containers: Vec<_> =
                (0..6).map(|n| world.container(&format!("c{n}"))).collect();
            let mut rotated: Vec<Option<std::path::PathBuf>> = vec![None; containers.len()];
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                for (at, container) in containers.iter_mut().enumerate() {
                    container.write(40 + at as u32);
                    if round % 25 == at * 4 {
                        if let Some(former) = rotated[at].take() {
                            container.compress(&former);
                        }
                        rotated[at] = Some(container.rotate());
                    }
                }
                round += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            containers
        });
        let over = Over(&stop);
        let result = during();
        drop(over);
        (writer.join().unwrap(), result)
    })
}

/// Kills the agent again and again at moments that are spread over its work.
fn kill_repeatedly(world: &World, kills: u64) {
    for kill in 0..kills {
        let agent = world.start();
        std::thread::sleep(Duration::from_millis(180 + kill * 137 % 400));
        agent.kill();
    }
}

fn total(containers: &[Container]) -> usize {
    containers.iter().map(|container| container.written as usize).sum()
}

fn killed_into_a_file_nothing_is_lost_or_doubled(world: World) {
    let (containers, ()) = writing(&world, || kill_repeatedly(&world, 8));
    let agent = world.start();
    world.wait_for(total(&containers));
    assert_eq!(agent.stop(), Some(0));
    let records = world.records();
    for container in &containers {
        assert_exactly_once(&records, container);
    }
    assert_eq!(records.len(), total(&containers));
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
}

fn killed_into_the_archive_nothing_is_lost_or_doubled(mut world: World) {
    world.sinks = "  store:\n    type: archive\n    segment_bytes: 64KiB\n".into();
    let (containers, ()) = writing(&world, || kill_repeatedly(&world, 6));
    let agent = world.start();
    let deadline = std::time::Instant::now() + crate::harness::patience();
    let records = loop {
        let output = world.everyline(&["search", "message", "-o", "json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let records: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if records.len() >= total(&containers) {
            break records;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{} of {}\n{}",
            records.len(),
            total(&containers),
            world.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(agent.stop(), Some(0));
    for container in &containers {
        assert_exactly_once(&records, container);
    }
}

fn killed_into_http_doubles_share_their_uid(mut world: World) {
    let receiver =
        Receiver::start(&[(5, Fault::Unavailable), (7, Fault::ReplyLost), (11, Fault::Reset)]);
    world.sinks = receiver.sink();
    let (containers, ()) = writing(&world, || kill_repeatedly(&world, 6));
    let agent = world.start();
    let wanted = total(&containers);
    let distinct = |records: &[Value]| {
        records.iter().map(|r| r["log.record.uid"].to_string()).collect::<HashSet<_>>().len()
    };
    let records = receiver.wait_until("distinct uids", |records| distinct(records) >= wanted);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(distinct(&records), wanted, "distinct uids are not the lines written");
    // The first arrival of every line is in order, and a double says the same as the first.
    let mut first: HashMap<String, &Value> = HashMap::new();
    let mut firsts = Vec::new();
    for record in &records {
        let uid = record["log.record.uid"].to_string();
        match first.get(&uid) {
            Some(earlier) => assert_eq!(body(earlier), body(record)),
            None => {
                first.insert(uid, record);
                firsts.push(record.clone());
            }
        }
    }
    for container in &containers {
        assert_exactly_once(&firsts, container);
    }
}

fn a_paused_agent_catches_up(world: World) {
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    agent.signal(rustix::process::Signal::STOP);
    for _ in 0..3 {
        container.write(1_000);
        container.rotate();
    }
    std::thread::sleep(Duration::from_secs(1));
    agent.signal(rustix::process::Signal::CONT);
    world.wait_for(3_010);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
}
