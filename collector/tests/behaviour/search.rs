//! What an operator reads: the archive searched by the real binary, while agents write it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Agent, World, body, patience};

fn world() -> World {
    let mut world = World::new("auto");
    world.sinks = "  store:\n    type: archive\n".into();
    world
}

/// A CRI line so many milliseconds after a time.
fn line(milliseconds: u32, message: &str) -> String {
    let (minute, second) = (milliseconds / 60_000, milliseconds / 1_000 % 60);
    let millisecond = milliseconds % 1_000;
    format!("2026-11-22T01:{minute:02}:{second:02}.{millisecond:03}Z stdout F {message}\n")
}

fn search(world: &World, arguments: &[&str]) -> Vec<String> {
    let mut all = vec!["search"];
    all.extend(arguments);
    let output = world.everyline(&all);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The bodies of what a search finds, in its order.
fn bodies(world: &World, arguments: &[&str]) -> Vec<String> {
    let lines = search(world, &[arguments, &["-o", "json"]].concat());
    let parse = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    lines.iter().map(|line| body(&parse(line)).to_owned()).collect()
}

fn wait_for(world: &World, count: usize) {
    let deadline = Instant::now() + patience();
    while search(world, &["--count"]) != [count.to_string()] {
        assert!(Instant::now() < deadline, "{:?}\n{}", search(world, &["--count"]), world.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Three logs, each written whole before the next, as an agent finds them that was just installed.
fn three_logs(world: &World) -> Agent {
    let agent = world.start();
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let mut container = world.container(name);
        for index in 0..1_000_u32 {
            let at = index * 300 + number as u32 * 100;
            container.raw(line(at, &format!("{name} {index}")).as_bytes());
        }
        wait_for(world, (number + 1) * 1_000);
    }
    agent
}

#[test]
fn lines_of_several_logs_come_by_time() {
    let world = world();
    let agent = three_logs(&world);
    let expected: Vec<String> =
        (0..3_000).map(|n| format!("{} {}", ["a", "b", "c"][n % 3], n / 3)).collect();
    assert_eq!(bodies(&world, &[]), expected);
    assert_eq!(bodies(&world, &["--tail", "4"]), expected[2_996..]);
    let mut newest = bodies(&world, &["--reverse"]);
    assert_eq!(newest[..2], ["c 999", "b 999"]);
    newest.reverse();
    assert_eq!(newest, expected);
    assert_eq!(bodies(&world, &["--reverse", "--limit", "3"]), ["c 999", "b 999", "a 999"]);
    assert_eq!(bodies(&world, &["--exclude-pod", "[bc]", "--tail", "2"]), ["a 998", "a 999"]);
    assert!(bodies(&world, &["--exclude-namespace", "sh*"]).is_empty());
    assert_eq!(bodies(&world, &["b 500$", "-C", "1"]), ["b 499", "b 500", "b 501"]);
    assert_eq!(bodies(&world, &["b 500$|c 700$", "-B", "1", "-A", "2"]).len(), 8);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_log_whose_clock_steps_back_stays_in_its_order() {
    let world = world();
    let agent = world.start();
    let mut steady = world.container("steady");
    let mut stepping = world.container("stepping");
    for index in 0..200_u32 {
        steady.raw(line(index * 100, &format!("steady {index}")).as_bytes());
        // Every fifty lines ten seconds back.
        let at = index * 100 + 10_000 - index / 50 * 10_000 % 20_000;
        stepping.raw(line(at, &format!("stepping {index}")).as_bytes());
        if index % 70 == 69 {
            wait_for(&world, index as usize * 2 + 2);
        }
    }
    wait_for(&world, 400);
    let found = bodies(&world, &[]);
    for name in ["steady", "stepping"] {
        let ours: Vec<&String> =
            found.iter().filter(|body| body.starts_with(&format!("{name} "))).collect();
        let expected: Vec<String> = (0..200).map(|index| format!("{name} {index}")).collect();
        assert_eq!(ours, expected.iter().collect::<Vec<_>>());
    }
    let mut newest = bodies(&world, &["--reverse"]);
    newest.reverse();
    assert_eq!(newest, found);
    assert_eq!(bodies(&world, &["--tail", "33"]), found[367..]);
    assert_eq!(agent.stop(), Some(0));
}

struct Follower(Child, mpsc::Receiver<String>);

impl Follower {
    fn start(world: &World, arguments: &[&str]) -> Self {
        world.write_config();
        let mut child = Command::new(env!("CARGO_BIN_EXE_everyline"))
            .args(["search", "-o", "json", "-f"])
            .args(arguments)
            .arg("--config")
            .arg(world.config_path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (lines, seen) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines() {
                let record: Value = serde_json::from_str(&line.unwrap()).unwrap();
                if lines.send(body(&record).to_owned()).is_err() {
                    return;
                }
            }
        });
        // It has to look once before what comes is new.
        std::thread::sleep(Duration::from_secs(2));
        Self(child, seen)
    }

    fn next(&self) -> String {
        self.1.recv_timeout(patience()).unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn following_begins_now_or_where_it_is_told() {
    let world = world();
    let agent = three_logs(&world);
    let (now, tail) = (Follower::start(&world, &[]), Follower::start(&world, &["--tail", "2"]));
    let since = Follower::start(&world, &["--since", "2026-11-22T01:04:59.8Z"]);
    let mut later = world.container("later");
    later.raw(line(600_000, "new").as_bytes());
    assert_eq!(now.next(), "new");
    assert_eq!([tail.next(), tail.next(), tail.next()], ["b 999", "c 999", "new"]);
    assert_eq!([since.next(), since.next(), since.next()], ["b 999", "c 999", "new"]);
    assert_eq!(agent.stop(), Some(0));
}

/// Peak resident memory of a search, in KiB, and how many lines it printed.
fn measured(world: &World, arguments: &[&str]) -> (u64, usize) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_everyline"))
        .arg("search")
        .args(arguments)
        .arg("--config")
        .arg(world.config_path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let (mut lines, mut peak) = (0, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        lines += usize::from(!line.unwrap().is_empty());
        if lines % 20_000 == 0 {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let high = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = high.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
            peak = peak.max(kib.unwrap_or(0));
        }
    }
    child.wait().unwrap();
    (peak, lines)
}

#[test]
fn memory_is_bounded_with_thousands_of_logs_whose_past_overlaps() {
    let world = world();
    // What an agent finds that is installed late: each log's whole past lies together.
    for number in 0..2_000_u32 {
        let mut container = world.container(&format!("pod-{number}"));
        let text: String = (0..80)
            .map(|index| line(index * 16_000 + number, &format!("{number} {}", "x".repeat(300))))
            .collect();
        container.raw(text.as_bytes());
    }
    let agent = world.start();
    wait_for(&world, 160_000);
    for arguments in [&[][..], &["--reverse"], &["--tail", "130000"]] {
        let (peak, lines) = measured(&world, arguments);
        let expected = if arguments.len() == 2 { 130_000 } else { 160_000 };
        assert_eq!(lines, expected);
        // Some 70 MB of text; what may wait, what is on its way, and the program itself.
        assert!((1_000..100_000).contains(&peak), "{peak} KiB with {arguments:?}");
        println!("peak with {arguments:?}: {peak} KiB");
    }
    let time = |line: String| {
        let record: Value = serde_json::from_str(&line).unwrap();
        record["timestamp"].as_str().unwrap().to_owned()
    };
    let times = search(&world, &["-o", "json"]).into_iter().map(time);
    assert!(times.is_sorted());
    assert_eq!(agent.stop(), Some(0));
}
