//! The agent's own logs: none of its pods', former or to come, and all of everybody else's.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Agent, Container, World, free_port, patience};

/// Starts the agent as a pod of this name would.
pub(crate) fn start(world: &World, pod: &str, uid: &str) -> Agent {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    command.env("POD_NAMESPACE", "logging").env("POD_NAME", pod).env("POD_UID", uid);
    command.stdin(Stdio::null());
    world.start_by(command)
}

fn pod(world: &World, namespace: &str, name: &str, uid: &str) -> Container {
    let dir = world.path("pods").join(format!("{namespace}_{name}_{uid}/everyline"));
    let mut container = Container::new(&dir, 0);
    container.write(3);
    container
}

fn pods(records: &[Value]) -> Vec<(String, String)> {
    let text = |record: &Value, key: &str| record[key].as_str().unwrap().to_owned();
    let mut pods: Vec<_> = records
        .iter()
        .map(|record| (text(record, "k8s.namespace.name"), text(record, "k8s.pod.name")))
        .collect();
    pods.sort();
    pods.dedup();
    pods
}

pub(crate) fn wait_for_own_logs(world: &World, count: usize) {
    let deadline = Instant::now() + patience();
    let wanted = format!("everyline_own_logs {count}");
    while !world.ask("/metrics").lines().any(|line| line == wanted) {
        assert!(Instant::now() < deadline, "no `{wanted}`\n{}", world.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_roll_collects_neither_the_former_pods_log_nor_the_next_ones() {
    let mut world = World::new("inotify");
    world.admin = Some(free_port());
    pod(&world, "logging", "everyline-x2x4z", "uid-1");
    pod(&world, "logging", "everyline-9bcdf", "uid-0");
    // A tenant calls his pod like the agent's, and somebody else lives in its namespace.
    pod(&world, "shop", "everyline-9bcdf", "uid-2");
    pod(&world, "logging", "everyline-ui", "uid-3");
    let agent = start(&world, "everyline-x2x4z", "uid-1");
    world.wait_for(6);
    wait_for_own_logs(&world, 2);
    // The next pod is there while this one still drains.
    pod(&world, "logging", "everyline-vwxz2", "uid-4");
    wait_for_own_logs(&world, 3);
    pod(&world, "shop", "cart-vwxz2", "uid-5");
    let records = world.wait_for(9);
    let expected =
        [("logging", "everyline-ui"), ("shop", "cart-vwxz2"), ("shop", "everyline-9bcdf")];
    let expected: Vec<_> =
        expected.map(|(namespace, pod)| (namespace.to_owned(), pod.to_owned())).into();
    assert_eq!(pods(&records), expected);
    let log = world.log();
    assert!(
        log.contains("The agent never collects its own logs")
            && log.contains("logging/everyline-*"),
        "{log}"
    );
    assert!(log.contains("pod logging/everyline-vwxz2"), "what is left out is not said: {log}");
    assert_eq!(agent.stop(), Some(0));

    let agent = start(&world, "everyline-vwxz2", "uid-4");
    wait_for_own_logs(&world, 3);
    pod(&world, "shop", "web", "uid-6");
    world.wait_for(12);
    assert_eq!(pods(&world.records()).len(), 4);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

#[test]
fn a_former_pod_of_another_name_is_known_by_its_uid() {
    let mut world = World::new("poll");
    world.admin = Some(free_port());
    pod(&world, "logging", "agent-one", "uid-1");
    let agent = start(&world, "agent-one", "uid-1");
    wait_for_own_logs(&world, 1);
    assert_eq!(agent.stop(), Some(0));
    pod(&world, "logging", "agent-two", "uid-2");
    // The same name as the former one's, but another pod.
    pod(&world, "logging", "agent-one", "uid-3");
    let agent = start(&world, "agent-two", "uid-2");
    let records = world.wait_for(3);
    wait_for_own_logs(&world, 2);
    assert_eq!(pods(&records), [("logging".to_owned(), "agent-one".to_owned())]);
    assert!(records.iter().all(|record| record["k8s.pod.uid"] == "uid-3"), "{records:?}");
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn what_a_former_version_collected_of_its_own_is_no_loss() {
    let mut world = World::new("poll");
    world.admin = Some(free_port());
    let mut own = pod(&world, "logging", "everyline-9bcdf", "uid-1");
    // As an agent that does not know who it is.
    let agent = world.start();
    world.wait_for(3);
    assert_eq!(agent.stop(), Some(0));
    let before = fs::metadata(own.live()).unwrap().len();
    own.write(5);
    let agent = start(&world, "everyline-x2x4z", "uid-2");
    wait_for_own_logs(&world, 1);
    let deadline = Instant::now() + patience();
    while world.audit().0 == 2 {
        assert!(Instant::now() < deadline, "{}", world.audit().1);
        std::thread::sleep(Duration::from_millis(100));
    }
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
    assert_eq!(audit["sinks"]["out"]["acknowledged"], before, "{audit}");
    assert_eq!(world.records().len(), 3);
    assert_eq!(agent.stop(), Some(0));
}
