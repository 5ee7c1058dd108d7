//! Descriptors by tenant: whoever has more logs than its share takes turns with itself.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{
        Agent, Container, Over, World, assert_exactly_once, body, free_port, in_every_mode,
        patience,
    },
    quotas::{of_pod, packed, status, wait_for_pod},
    receiver::{Fault, Receiver},
};

in_every_mode!(
    one_tenants_many_logs_leave_others_their_descriptors,
    one_tenants_many_compressed_copies_leave_others_their_descriptors,
    thousands_of_new_logs_in_one_directory_hold_up_no_other,
    links_into_a_thousand_directories_hold_up_no_other,
    a_thousand_links_into_one_directory_hold_up_no_other,
);

/// Of 160 descriptors, 80 are for log files: 10 are a tenant's share, and 5 are kept for those within theirs, who
/// may have 40 of the agent's as well.
const LIMIT: usize = 160;
const LOUD: usize = 200;
const BOUND: usize = 60;
/// Files that are open for a visit at this moment.
const VISITS: usize = 4;
const QUIET: usize = 8;

fn start(world: &mut World) -> Agent {
    world.admin = Some(free_port());
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={LIMIT}:{LIMIT}")).arg(env!("CARGO_BIN_EXE_everyline"));
    world.start_by(command)
}

fn append(path: &Path, text: &str) {
    let mut log = OpenOptions::new().create(true).append(true).open(path).unwrap();
    log.write_all(format!("2026-11-22T01:02:03Z stdout F {text}\n").as_bytes()).unwrap();
}

/// The logs of one namespace, in one directory.
fn loud(world: &World) -> Vec<PathBuf> {
    let directory = world.path("pods/loud_p_0d7e/c");
    fs::create_dir_all(&directory).unwrap();
    (0..LOUD).map(|n| directory.join(format!("{n}.log"))).collect()
}

fn quiet(world: &World) -> Vec<Container> {
    let mut all: Vec<_> = (0..QUIET).map(|n| world.container(&format!("quiet-{n}"))).collect();
    all.iter_mut().for_each(|container| container.write(1));
    for n in 0..QUIET {
        wait_for_pod(world, &format!("quiet-{n}"), 1);
    }
    all
}

/// Who was held back for descriptors.
fn held_back(world: &World) -> Vec<String> {
    let status = status(world);
    let all = status["held_back"].as_array().unwrap().iter();
    let all = all.filter(|it| it["resource"] == "descriptors");
    all.map(|it| it["who"].as_str().unwrap().to_owned()).collect()
}

fn wait_until_open(world: &World, agent: &Agent, part: &str, count: usize) {
    let deadline = Instant::now() + patience();
    while agent.open_files(part) != count {
        assert!(Instant::now() < deadline, "{} are open\n{}", agent.open_files(part), world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn one_tenants_many_logs_leave_others_their_descriptors(mut world: World) {
    let agent = start(&mut world);
    let paths = loud(&world);
    let (over, mut rounds) = (AtomicBool::new(false), 0);
    let quiet = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                paths.iter().for_each(|path| append(path, &format!("round {rounds}")));
                rounds += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            rounds
        });
        let until = Over(&over);
        wait_for_pod(&world, "p", LOUD * 2);
        let mut quiet = quiet(&world);
        wait_until_open(&world, &agent, "quiet-", QUIET);
        for n in 0..20 {
            assert_eq!(agent.open_files("quiet-"), QUIET, "while others are read");
            let open = agent.open_files("loud_p");
            assert!(open <= BOUND + VISITS, "{open}");
            quiet[n % QUIET].write(1);
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(held_back(&world), ["loud"], "{}", status(&world));
        drop(until);
        rounds = flood.join().unwrap();
        quiet
    });
    let written: u32 = quiet.iter().map(|container| container.written).sum();
    let records = world.wait_for(LOUD * rounds + written as usize);
    assert_eq!(of_pod(&records, "p").len(), LOUD * rounds);
    quiet.iter().for_each(|container| assert_exactly_once(&records, container));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

fn one_tenants_many_compressed_copies_leave_others_their_descriptors(mut world: World) {
    const LINES: usize = 300;
    const COPIES: usize = 120;
    // Few are unpacked at once, so the others wait.
    world.extra = "read: {unpacking_bytes: 8MiB}\n".into();
    let agent = start(&mut world);
    for n in 0..COPIES {
        let directory = world.path("pods").join(format!("loud_p{n}_0d7e/c"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("0.log.20260101-101010.gz"), packed(LINES, n)).unwrap();
    }
    wait_for_pod(&world, "p0", 1);
    let mut quiet = quiet(&world);
    let mut most = 0;
    let deadline = Instant::now() + patience() * 2;
    let all = || {
        let text = fs::read(world.path("out/out.ndjson")).unwrap_or_default();
        memchr::memchr_iter(b'\n', &text).count() >= COPIES * LINES + QUIET
    };
    while !all() {
        most = most.max(agent.open_files("loud_p"));
        assert!(Instant::now() < deadline, "{}", world.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(most <= BOUND + VISITS, "{most}");
    // One that was closed while all were taken has a descriptor from its next line on.
    quiet.iter_mut().for_each(|container| container.write(1));
    world.wait_for(COPIES * LINES + 2 * QUIET);
    wait_until_open(&world, &agent, "quiet-", QUIET);
    let records = world.records();
    quiet.iter().for_each(|container| assert_exactly_once(&records, container));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// Each is a source of its own, and none may have the whole directory listed once more for itself.
fn thousands_of_new_logs_in_one_directory_hold_up_no_other(world: World) {
    const LOGS: usize = 1_500;
    let mut known = world.container("known");
    known.write(1);
    let agent = world.start();
    world.wait_for(1);
    let directory = world.path("pods/loud_p_0d7e/c");
    fs::create_dir_all(&directory).unwrap();
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            (0..LOGS).for_each(|n| append(&directory.join(format!("{n}.log")), "new"));
        });
        for n in 0.. {
            let pod = format!("new-{n}");
            world.container(&pod).write(1);
            known.write(1);
            slowest = slowest.max(wait_for_pod(&world, &pod, 1));
            slowest = slowest.max(wait_for_pod(&world, "known", n + 2));
            if flood.is_finished() && of_pod(&world.records(), "p").len() >= LOGS {
                break;
            }
        }
    });
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    assert_eq!(of_pod(&world.records(), "p").len(), LOGS);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// Each of the directories is looked at for what links lead to there, and none may follow all links for itself.
fn links_into_a_thousand_directories_hold_up_no_other(world: World) {
    many_links(world, |n| format!("{n}/logs/x.txt"));
}

/// The directory is looked at for former files of what links lead to there, and not for each link.
fn a_thousand_links_into_one_directory_hold_up_no_other(world: World) {
    many_links(world, |n| format!("all/{n}.txt"));
}

/// Makes links with targets of these names while others write.
fn many_links(world: World, target: impl Fn(usize) -> String + Sync) {
    const LINKS: usize = 1_000;
    let mut known = world.container("known");
    known.write(1);
    let agent = world.start();
    world.wait_for(1);
    let directory = world.path("plain");
    let linked = || world.records().iter().filter(|it| body(it) == "linked").count();
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for n in 0..LINKS {
                let target = directory.join(target(n));
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                fs::write(&target, "linked\n").unwrap();
                symlink(target, directory.join(format!("link-{n}.log"))).unwrap();
            }
        });
        for n in 0.. {
            let pod = format!("new-{n}");
            world.container(&pod).write(1);
            known.write(1);
            slowest = slowest.max(wait_for_pod(&world, &pod, 1));
            slowest = slowest.max(wait_for_pod(&world, "known", n + 2));
            if flood.is_finished() && linked() >= LINKS {
                break;
            }
        }
    });
    assert!(slowest < Duration::from_secs(8), "{slowest:?}");
    assert_eq!(linked(), LINKS);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// What a tenant deletes unread stays open only where others need no descriptor, so others lose nothing by it.
#[test]
fn deleted_logs_of_one_tenant_leave_others_their_descriptors() {
    let mut world = World::new("inotify");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    // The dead sink's memory is used up at once: the rest stays unread for it.
    world.extra = "memory_budget: 4MiB\n".into();
    let agent = start(&mut world);
    let paths = loud(&world);
    for path in &paths {
        append(path, &noise(40_000));
    }
    world.wait_for(LOUD);
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    let mut quiet = quiet(&world);
    wait_until_open(&world, &agent, "quiet-", QUIET);
    for container in &mut quiet {
        container.write(1);
        fs::remove_dir_all(container.dir.parent().unwrap()).unwrap();
    }
    world.wait_for(LOUD + 2 * QUIET);
    receiver.always(None);
    let is_quiet = |record: &&Value| record["k8s.namespace.name"] == "shop";
    let sent = receiver.wait_until("what the others wrote", |records| {
        records.iter().filter(is_quiet).count() >= 2 * QUIET
    });
    let mut bodies: Vec<_> = sent.iter().filter(is_quiet).map(body).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies, ["message 0", "message 1"]);
    drop(agent);
}

/// A text that compression does not make shorter.
fn noise(length: usize) -> String {
    let mut state = 7_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 33) as u8 % 26)
    };
    (0..length).map(|_| next()).collect()
}
