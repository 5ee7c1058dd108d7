//! Holes and zeros: skipped and counted, and what is behind them is whole.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use crate::harness::{World, assert_exactly_once, body, in_every_mode};

in_every_mode!(
    a_hole_is_stepped_over_and_counted,
    a_hole_of_a_tebibyte_costs_nothing,
    zeros_written_ahead_are_filled_in_place,
    a_file_that_ends_in_zeros_is_left_for_the_next,
);

fn bodies(world: &World) -> Vec<String> {
    world.records().iter().map(|record| body(record).to_owned()).collect()
}

/// Bytes dropped as holes, and the audit's exit status.
fn holes(world: &World) -> (i32, u64) {
    let (code, audit) = world.audit();
    (code, audit["dropped"]["hole"].as_u64().unwrap_or(0))
}

fn a_hole_is_stepped_over_and_counted(world: World) {
    let path = world.path("plain/app.log");
    let file = File::create(&path).unwrap();
    file.write_all_at(b"before\n", 0).unwrap();
    let agent = world.start();
    world.wait_for(1);
    // A writer without O_APPEND, after copytruncate.
    file.set_len(0).unwrap();
    file.write_all_at(b"after 1\nhalf", 30 << 20).unwrap();
    world.wait_for(2);
    agent.kill();
    file.write_all_at(b" a line\nlast\n", (90 << 20) + 7).unwrap();
    let agent = world.start();
    world.wait_for(5);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bodies(&world), ["before", "after 1", "half", " a line", "last"]);
    assert_eq!(world.records()[2]["everyline.partial"], true);
    let hole = (30 << 20) + ((90 << 20) + 7 - (30 << 20) - 12);
    assert_eq!(holes(&world), (0, hole));
    assert!(fs::metadata(world.path("out/out.ndjson")).unwrap().len() < 10_000);
}

fn a_hole_of_a_tebibyte_costs_nothing(world: World) {
    let mut container = world.container("a");
    container.write(10);
    let agent = world.start();
    world.wait_for(10);
    let live = OpenOptions::new().append(true).open(container.live()).unwrap();
    let size = fs::metadata(container.live()).unwrap().len();
    live.set_len(1 << 40).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    // What nobody wrote is not waited for either.
    agent.kill();
    assert_eq!(holes(&world), (0, 0));
    let (_, audit) = world.audit();
    assert_eq!(audit["sinks"]["out"]["unread"], 0, "{audit}");
    let agent = world.start();
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    container.write(10);
    world.wait_for(20);
    assert!(began.elapsed() < Duration::from_secs(20));
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid().as_raw_nonzero())).unwrap();
    let ticks: Vec<u64> = stat.split(' ').skip(13).take(2).map(|n| n.parse().unwrap()).collect();
    assert!(ticks[0] + ticks[1] < 400, "{} ticks of CPU time", ticks[0] + ticks[1]);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(holes(&world), (0, (1 << 40) - size));
}

fn zeros_written_ahead_are_filled_in_place(world: World) {
    let path = world.path("plain/app.log");
    let file = File::create(&path).unwrap();
    file.write_all_at(&vec![0; 700_000], 0).unwrap();
    file.set_len(4 << 20).unwrap();
    let agent = world.start();
    let (mut at, mut wanted) = (0, Vec::new());
    for n in 0..200 {
        let line = format!("line {n} {}", "x".repeat(40 * n));
        // The line in two writes, as a page boundary would have it.
        let (head, tail) = line.split_at(line.len() / 2);
        file.write_all_at(head.as_bytes(), at).unwrap();
        if n % 20 == 0 {
            std::thread::sleep(Duration::from_millis(60));
        }
        file.write_all_at(format!("{tail}\n").as_bytes(), at + head.len() as u64).unwrap();
        at += line.len() as u64 + 1;
        wanted.push(line);
    }
    world.wait_for(200);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bodies(&world), wanted);
    assert_eq!(holes(&world), (0, 0));
}

fn a_file_that_ends_in_zeros_is_left_for_the_next(world: World) {
    let mut container = world.container("a");
    container.write(10);
    let agent = world.start();
    world.wait_for(10);
    container.raw(&[0; 5000]);
    let live = OpenOptions::new().append(true).open(container.live()).unwrap();
    let size = fs::metadata(container.live()).unwrap().len() + (1 << 30);
    live.set_len(size).unwrap();
    let rotated = container.rotate();
    container.write(10);
    world.wait_for(20);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(holes(&world), (0, 5000 + (1 << 30)));
    assert!(rotated.exists());
}

#[test]
fn the_record_behind_zeros_is_parsed_in_every_format() {
    let world = World::new("auto");
    let mut container = world.container("a");
    let id = "c0ffee".repeat(10) + "c0ff";
    let dir = world.path("docker").join(&id);
    fs::create_dir_all(&dir).unwrap();
    let mut docker = File::create(dir.join(format!("{id}-json.log"))).unwrap();
    let mut plain = File::create(world.path("plain/x.log")).unwrap();
    let runs = [16, 100, 511, 512, 4096, 70_000, 300_000];
    for (n, run) in runs.iter().enumerate() {
        let zeros = vec![0; *run];
        container.raw(&zeros);
        container.write(1);
        docker.write_all(&zeros).unwrap();
        let time = "2026-11-22T01:02:03.1Z";
        writeln!(docker, r#"{{"log":"docker {n}\n","stream":"stdout","time":"{time}"}}"#).unwrap();
        plain.write_all(&zeros).unwrap();
        writeln!(plain, "plain {n}").unwrap();
        // Zeros in place of the end of a line.
        if *run >= 512 {
            container.raw(b"2026-11-22T01:02:03.1Z stdout F cut o");
            write!(docker, r#"{{"log":"cut o"#).unwrap();
            write!(plain, "cut o").unwrap();
        }
    }
    container.raw(b"ff\n");
    docker.write_all(b"ff\\n\"}\n").unwrap();
    plain.write_all(b"ff\n").unwrap();
    let agent = world.start();
    world.wait_for(33);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.records().len(), 33);
    let of = |text: &str| bodies(&world).iter().filter(|body| body.contains(text)).count();
    assert_eq!((of("message "), of("docker "), of("plain ")), (7, 7, 7));
    assert_eq!(of("cut o"), 12);
    assert_eq!(of("\0"), 0);
    let total: u64 = runs.iter().map(|run| *run as u64).sum();
    assert_eq!(holes(&world), (0, 3 * total));
}
