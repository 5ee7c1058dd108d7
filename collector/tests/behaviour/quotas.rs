//! Tenants that want more than their share of what all have in common: they wait, and nobody else does.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Agent, Over, World, assert_exactly_once, body, free_port, in_every_mode, patience},
    receiver::{Fault, Receiver},
};

in_every_mode!(
    compressed_copies_of_one_tenant_take_a_bounded_room,
    compressed_files_that_unpack_to_nothing_hold_up_no_other,
    a_sparse_log_takes_a_part_of_a_readers_time,
    a_directory_of_many_files_costs_no_other_its_latency,
    files_with_bytes_that_come_and_go_among_many_cost_no_other_its_latency,
);

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A log of so many lines of a kilobyte, compressed.
pub(crate) fn packed(lines: usize, tag: usize) -> Vec<u8> {
    let line = |n| format!("2026-11-22T01:02:03Z stdout F {tag} {n} {}\n", "x".repeat(950));
    gzip((0..lines).map(line).collect::<String>().as_bytes())
}

/// Bytes of unlinked files in the state directory that the agent has open.
fn unlinked(agent: &Agent, state: &Path) -> u64 {
    let pid = agent.pid().as_raw_nonzero();
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let is_it = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|to| {
            let to = to.to_string_lossy();
            to.starts_with(&*state.to_string_lossy()) && to.ends_with("(deleted)")
        })
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_it);
    paths.filter_map(|path| Some(fs::metadata(path).ok()?.blocks() * 512)).sum()
}

/// Seconds of processor that the agent has used.
fn cpu(agent: &Agent) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", agent.pid().as_raw_nonzero())).unwrap();
    let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

pub(crate) fn of_pod<'a>(records: &'a [Value], pod: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["k8s.pod.name"] == pod).collect()
}

/// Waits for this many records of a pod; how long that took.
pub(crate) fn wait_for_pod(world: &World, pod: &str, count: usize) -> Duration {
    let began = Instant::now();
    while of_pod(&world.records(), pod).len() < count {
        assert!(began.elapsed() < patience(), "{}", world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

pub(crate) fn status(world: &World) -> Value {
    let output = world.everyline(&["status", "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn compressed_copies_of_one_tenant_take_a_bounded_room(mut world: World) {
    const PODS: usize = 12;
    const LINES: usize = 8 << 10;
    world.admin = Some(free_port());
    // A quarter of it is one namespace's.
    world.extra = "read: {unpacking_bytes: 8MiB}\n".into();
    let mut quiet = world.container("quiet");
    quiet.write(1);
    let agent = world.start();
    world.wait_for(1);
    let state = fs::canonicalize(world.path("state")).unwrap();
    let bytes = packed(LINES, 7);
    for pod in 0..PODS {
        let dir = world.path("pods").join(format!("loud_p{pod}_0d7e/c"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("0.log.20260101-101010.gz"), &bytes).unwrap();
    }
    let (mut most, mut held_back) = (0, false);
    let deadline = Instant::now() + patience() * 2;
    loop {
        most = most.max(unlinked(&agent, &state));
        let text = fs::read(world.path("out/out.ndjson")).unwrap_or_default();
        if memchr::memchr_iter(b'\n', &text).count() > PODS * LINES {
            break;
        }
        if !held_back {
            let status = status(&world);
            let mut all = status["held_back"].as_array().unwrap().iter();
            held_back = all.any(|it| it["resource"] == "unpacking" && it["who"] == "loud");
        }
        assert!(Instant::now() < deadline, "{}", world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(most > 0 && most <= 3 << 20, "{most} bytes");
    assert!(held_back, "{}", status(&world));
    quiet.write(1);
    wait_for_pod(&world, "quiet", 2);
    let records = world.records();
    for pod in 0..PODS {
        let all = of_pod(&records, &format!("p{pod}"));
        let right = |(n, record): (usize, &&Value)| body(record).starts_with(&format!("7 {n} "));
        assert!(all.len() == LINES && all.iter().enumerate().all(right), "{pod}: {}", all.len());
    }
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// Members, and blocks in a member, that unpack to nothing: twenty bytes each, or five. What comes at last is
/// collected all the same.
fn compressed_files_that_unpack_to_nothing_hold_up_no_other(mut world: World) {
    const FILES: usize = 4;
    world.admin = Some(free_port());
    let mut quiet = world.container("quiet");
    quiet.write(1);
    let agent = world.start();
    world.wait_for(1);
    let last = gzip(b"2026-11-22T01:02:03Z stdout F at last\n");
    let members = [gzip(b"").repeat(300_000), last.clone()].concat();
    let empty_blocks = [0, 0, 0, 0xff, 0xff].repeat(1_200_000);
    let blocks = [&last[..10], &empty_blocks[..], &last[10..]].concat();
    for pod in 0..FILES {
        let dir = world.path("pods").join(format!("loud_p{pod}_0d7e/c"));
        fs::create_dir_all(&dir).unwrap();
        let bytes = if pod % 2 == 0 { &members } else { &blocks };
        fs::write(dir.join("0.log.20260101-101010.gz"), bytes).unwrap();
    }
    let mut slowest = Duration::ZERO;
    for n in 0..10 {
        let pod = format!("new-{n}");
        world.container(&pod).write(1);
        quiet.write(1);
        slowest = slowest.max(wait_for_pod(&world, &pod, 1));
        slowest = slowest.max(wait_for_pod(&world, "quiet", n + 2));
    }
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    let at_last = || world.records().iter().filter(|it| body(it) == "at last").count();
    let deadline = Instant::now() + patience() * 4;
    while at_last() < FILES {
        assert!(Instant::now() < deadline, "{} of them\n{}", at_last(), world.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(at_last(), FILES);
    assert_exactly_once(&world.records(), &quiet);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// A sink that is down keeps no room: what it has not read is unpacked again for it.
#[test]
fn a_dead_sink_keeps_no_room_for_compressed_copies() {
    const LINES: usize = 6 << 10;
    let mut world = World::new("inotify");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    // So little that each sink soon waits, and the two are far apart in files that have few rooms.
    world.extra = "memory_budget: 4MiB\nread: {unpacking_bytes: 4MiB}\n".into();
    for pod in 0..6 {
        let dir = world.path("pods").join(format!("ns{}_p{pod}_0d7e/c", pod % 2));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("0.log.20260101-101010.gz"), packed(LINES, pod)).unwrap();
    }
    let agent = world.start();
    let records = world.wait_for(6 * LINES);
    assert_eq!(records.len(), 6 * LINES);
    receiver.always(None);
    let sent = receiver.wait_until("all", |records| records.len() >= 6 * LINES);
    let mut bodies: Vec<&str> = sent.iter().map(body).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), 6 * LINES);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// Lines far apart in a file of holes, which costs its writer a block each.
fn sparse(path: &Path, islands: u64) {
    let file = File::create(path).unwrap();
    let line = |n| format!("2026-11-22T01:02:03Z stdout F island {n}\n");
    for n in 0..islands {
        file.write_all_at(line(n).as_bytes(), n << 18).unwrap();
    }
}

fn a_sparse_log_takes_a_part_of_a_readers_time(mut world: World) {
    world.admin = Some(free_port());
    world.extra = "read: {threads: 1}\n".into();
    let mut quiet = world.container("quiet");
    quiet.write(1);
    let agent = world.start();
    world.wait_for(1);
    for pod in 0..3 {
        let dir = world.path("pods").join(format!("loud_p{pod}_0d7e/c"));
        fs::create_dir_all(&dir).unwrap();
        sparse(&dir.join("0.log"), 40_000);
    }
    wait_for_pod(&world, "p0", 1);
    let (began, used) = (Instant::now(), cpu(&agent));
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        quiet.write(1);
        slowest = slowest.max(wait_for_pod(&world, "quiet", n + 2));
        std::thread::sleep(Duration::from_millis(200));
    }
    let (used, passed) = (cpu(&agent) - used, began.elapsed().as_secs_f64());
    assert!(used < passed * 0.6, "{used} s of {passed} s");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let status = status(&world);
    let mut all = status["held_back"].as_array().unwrap().iter();
    assert!(all.any(|it| it["resource"] == "holes" && it["who"] == "loud"), "{status}");
    assert_exactly_once(&world.records(), &quiet);
    drop(agent);
}

/// Files that are no logs, in a directory of logs that changes all the time.
fn a_directory_of_many_files_costs_no_other_its_latency(world: World) {
    among_many_files(world, "");
}

/// Whether they were logs is asked once they are gone.
fn files_with_bytes_that_come_and_go_among_many_cost_no_other_its_latency(world: World) {
    among_many_files(world, "no log's line\n");
}

/// A file with this in it comes and goes.
fn among_many_files(mut world: World, text: &str) {
    const FILES: usize = 30_000;
    world.admin = Some(free_port());
    let mut quiet = world.container("quiet");
    quiet.write(1);
    let loud = world.path("pods/loud_p_0d7e/c");
    fs::create_dir_all(&loud).unwrap();
    for n in 0..FILES {
        File::create(loud.join(format!("no log of anybody {n}"))).unwrap();
    }
    fs::write(loud.join("0.log"), "2026-11-22T01:02:03Z stdout F begin\n").unwrap();
    let agent = world.start();
    world.wait_for(2);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = loud.join("comes and goes");
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(&path, text).unwrap();
                fs::remove_file(&path).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let until = Over(&over);
        std::thread::sleep(Duration::from_secs(2));
        let (began, used) = (Instant::now(), cpu(&agent));
        let mut slowest = Duration::ZERO;
        for n in 0..10 {
            // A pod that is new, and one that is known.
            let mut pod = world.container(&format!("new-{n}"));
            pod.write(1);
            slowest = slowest.max(wait_for_pod(&world, &format!("new-{n}"), 1));
            quiet.write(1);
            slowest = slowest.max(wait_for_pod(&world, "quiet", n + 2));
        }
        let (used, passed) = (cpu(&agent) - used, began.elapsed().as_secs_f64());
        drop(until);
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
        assert!(used < passed * 0.7, "{used} s of {passed} s");
    });
    let status = status(&world);
    let mut all = status["held_back"].as_array().unwrap().iter();
    // Polling has a pace of its own.
    assert!(world.watch == "poll" || all.any(|it| it["resource"] == "listing"), "{status}");
    // It is late, not lost.
    fs::write(loud.join("1.log"), "2026-11-22T01:02:03Z stdout F end\n").unwrap();
    wait_for_pod(&world, "p", 2);
    drop(agent);
}
