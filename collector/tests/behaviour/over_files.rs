//! Messages that go over several files, more of them at once than there is room for: they arrive whole, through
//! rotation, compression and kills.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Agent, Container, World, body, in_every_mode, patience};

in_every_mode!(
    messages_over_rotated_files_arrive_whole,
    messages_over_files_that_are_compressed_while_down_arrive_whole,
    docker_messages_over_rotated_files_arrive_whole,
    messages_over_files_that_are_deleted_after_rotation_arrive_whole,
    messages_over_files_wait_for_late_lines_of_earlier_ones,
    a_kill_after_late_lines_of_an_earlier_file_costs_no_part_of_a_message,
    a_wait_in_an_earlier_file_costs_no_part_of_a_message,
    parts_of_messages_that_are_truncated_away_are_a_stated_loss,
    messages_over_files_that_nobody_ends_are_delivered_in_the_end,
);

/// More than all of them together may have (an eighth of 16 MiB): each has some 400 KiB.
const PODS: usize = 16;
const PARTS: usize = 12;
/// Waits for ever.
const NEVER: &str = "read:\n  unfinished_after: 24h\n";

fn text() -> String {
    "#".repeat(16_384)
}

fn parts(container: &mut Container, stream: &str) {
    for n in 0..PARTS {
        // Another stream's lines come between, and are delivered meanwhile.
        let between = format!("2026-11-22T01:02:03Z {} F small {n}\n", other(stream));
        container.raw(format!("2026-11-22T01:02:03Z {stream} P {}\n", text()).as_bytes());
        container.raw(between.as_bytes());
    }
}

fn other(stream: &str) -> &'static str {
    if stream == "stdout" { "stderr" } else { "stdout" }
}

fn end(container: &mut Container, stream: &str) {
    container.raw(format!("2026-11-22T01:02:04Z {stream} F end\n").as_bytes());
}

fn containers(world: &World) -> Vec<Container> {
    (0..PODS).map(|n| world.container(&format!("p{n}"))).collect()
}

/// Every message arrived once and whole, `over` times [`PARTS`] parts of it, and so did what came between.
fn assert_whole(world: &World, over: usize) {
    std::thread::sleep(Duration::from_millis(300));
    let records = world.records();
    assert!(records.iter().all(|record| record.get("everyline.partial").is_none()));
    let long: Vec<&str> = records.iter().map(body).filter(|text| text.starts_with('#')).collect();
    let whole = text().repeat(over * PARTS) + "end";
    let sizes: Vec<usize> = long.iter().map(|text| text.len()).collect();
    assert!(long.iter().all(|text| *text == whole), "{sizes:?} instead of {}", whole.len());
    assert_eq!(long.len(), PODS);
    assert_eq!(records.len(), PODS * (over * PARTS + 1));
    let mut uids: Vec<_> = records.iter().map(|it| it["log.record.uid"].to_string()).collect();
    uids.sort_unstable();
    uids.dedup();
    assert_eq!(uids.len(), records.len());
    assert_eq!(world.audit().0, 0, "{:?}", world.audit().1);
}

fn messages_over_rotated_files_arrive_whole(mut world: World) {
    world.extra = NEVER.into();
    let mut pods = containers(&world);
    let agent = world.start();
    for pod in &mut pods {
        parts(pod, "stdout");
        pod.rotate();
        parts(pod, "stdout");
    }
    world.wait_for(PODS * 2 * PARTS);
    agent.kill();
    let agent = world.start();
    for pod in &mut pods {
        let rotated = pod.rotate();
        parts(pod, "stdout");
        pod.compress(&rotated);
    }
    world.wait_for(PODS * 3 * PARTS);
    pods.iter_mut().for_each(|pod| end(pod, "stdout"));
    world.wait_for(PODS * (3 * PARTS + 1));
    assert_eq!(agent.stop(), Some(0));
    assert_whole(&world, 3);
}

fn messages_over_files_that_are_compressed_while_down_arrive_whole(mut world: World) {
    world.extra = NEVER.into();
    let mut pods = containers(&world);
    pods.iter_mut().for_each(|pod| parts(pod, "stderr"));
    let agent = world.start();
    world.wait_for(PODS * PARTS);
    agent.kill();
    for pod in &mut pods {
        for _ in 0..3 {
            let rotated = pod.rotate();
            pod.compress(&rotated);
            parts(pod, "stderr");
        }
        end(pod, "stderr");
    }
    let agent = world.start();
    world.wait_for(PODS * (4 * PARTS + 1));
    assert_eq!(agent.stop(), Some(0));
    assert_whole(&world, 4);
}

/// Docker's log of a container, rotated as Docker does.
struct Docker {
    live: PathBuf,
    file: File,
}

impl Docker {
    fn new(world: &World, n: usize) -> Self {
        let id = format!("{n:064x}");
        let dir = world.path("docker").join(&id);
        fs::create_dir_all(&dir).unwrap();
        let live = dir.join(format!("{id}-json.log"));
        let file = OpenOptions::new().create(true).append(true).open(&live).unwrap();
        Self { live, file }
    }

    fn line(&mut self, stream: &str, log: &str) {
        let line = format!(
            "{{\"log\":\"{log}\",\"stream\":\"{stream}\",\"time\":\"2026-11-22T01:02:03Z\"}}\n"
        );
        self.file.write_all(line.as_bytes()).unwrap();
    }

    fn parts(&mut self) {
        for n in 0..PARTS {
            self.line("stdout", &text());
            self.line("stderr", &format!("small {n}\\n"));
        }
    }

    fn rotate(&mut self) {
        let former = |n: u32| PathBuf::from(format!("{}.{n}", self.live.display()));
        for n in (1..4).rev().filter(|n| former(*n).exists()) {
            fs::rename(former(n), former(n + 1)).unwrap();
        }
        fs::rename(&self.live, former(1)).unwrap();
        self.file = OpenOptions::new().create(true).append(true).open(&self.live).unwrap();
    }
}

fn docker_messages_over_rotated_files_arrive_whole(mut world: World) {
    world.extra = NEVER.into();
    let mut logs: Vec<Docker> = (0..PODS).map(|n| Docker::new(&world, n)).collect();
    let agent = world.start();
    for log in &mut logs {
        log.parts();
        log.rotate();
        log.parts();
    }
    world.wait_for(PODS * 2 * PARTS);
    agent.kill();
    for log in &mut logs {
        log.rotate();
        log.parts();
    }
    let agent = world.start();
    world.wait_for(PODS * 3 * PARTS);
    logs.iter_mut().for_each(|log| log.line("stdout", "end\\n"));
    world.wait_for(PODS * (3 * PARTS + 1));
    assert_eq!(agent.stop(), Some(0));
    assert_whole(&world, 3);
}

/// The agent holds them open; they are read again all the same.
fn messages_over_files_that_are_deleted_after_rotation_arrive_whole(mut world: World) {
    world.extra = NEVER.into();
    let mut pods = containers(&world);
    let agent = world.start();
    let mut rotated = Vec::new();
    for pod in &mut pods {
        parts(pod, "stdout");
        rotated.push(pod.rotate());
        parts(pod, "stdout");
    }
    world.wait_for(PODS * 2 * PARTS);
    rotated.iter().for_each(|path| fs::remove_file(path).unwrap());
    std::thread::sleep(Duration::from_millis(500));
    pods.iter_mut().for_each(|pod| end(pod, "stdout"));
    world.wait_for(PODS * (2 * PARTS + 1));
    assert_eq!(agent.stop(), Some(0));
    assert_whole(&world, 2);
}

/// A runtime goes on writing to the renamed file for a moment: also to one that the message has left.
fn messages_over_files_wait_for_late_lines_of_earlier_ones(world: World) {
    let _world = late_lines_of_earlier_files(world, write_late, |_, agent| {
        // Longer than an earlier file is held that nothing waits for.
        std::thread::sleep(Duration::from_secs(12));
        agent
    });
}

fn a_kill_after_late_lines_of_an_earlier_file_costs_no_part_of_a_message(world: World) {
    let _world = late_lines_of_earlier_files(world, write_late, |world, agent| {
        std::thread::sleep(Duration::from_secs(3));
        agent.kill();
        world.start()
    });
}

/// The reader waits in the earlier file for what comes before what it sees there.
fn a_wait_in_an_earlier_file_costs_no_part_of_a_message(world: World) {
    let (line, late) =
        (b"2026-11-22T01:02:03Z stderr F overtaken\n", b"2026-11-22T01:02:03Z stderr F late\n");
    let overtake = |rotated: &[PathBuf]| {
        let write = |path: &PathBuf| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            let end = file.metadata().unwrap().len();
            let part = format!("2026-11-22T01:02:03Z stdout P {}\n", text());
            file.write_all_at(part.as_bytes(), end).unwrap();
            let gap = end + part.len() as u64;
            file.write_all_at(late, gap + line.len() as u64).unwrap();
            (file, gap)
        };
        let gaps: Vec<(File, u64)> = rotated.iter().map(write).collect();
        std::thread::sleep(Duration::from_millis(500));
        gaps.iter().for_each(|(file, gap)| file.write_all_at(line, *gap).unwrap());
    };
    let world = late_lines_of_earlier_files(world, overtake, |_, agent| agent);
    let records = world.records();
    assert_eq!(records.iter().filter(|it| body(it) == "overtaken").count(), PODS);
}

fn write_late(rotated: &[PathBuf]) {
    for path in rotated {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        let part = format!("2026-11-22T01:02:03Z stdout P {}\n", text());
        file.write_all(part.as_bytes()).unwrap();
        file.write_all(b"2026-11-22T01:02:03Z stderr F late\n").unwrap();
    }
}

fn late_lines_of_earlier_files(
    mut world: World,
    write: impl Fn(&[PathBuf]),
    meanwhile: impl Fn(&World, Agent) -> Agent,
) -> World {
    world.extra = NEVER.into();
    let mut pods = containers(&world);
    let agent = world.start();
    let mut rotated = Vec::new();
    for pod in &mut pods {
        parts(pod, "stdout");
        rotated.push(pod.rotate());
        parts(pod, "stdout");
    }
    world.wait_for(PODS * 2 * PARTS);
    write(&rotated);
    let deadline = Instant::now() + patience();
    while count(&world.records(), "late") < PODS {
        assert!(Instant::now() < deadline, "the late lines are not read\n{}", world.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let agent = meanwhile(&world, agent);
    pods.iter_mut().for_each(|pod| end(pod, "stdout"));
    // With late lines between, a message need not be read in one go, so the number of records does not tell when all
    // of it is there; nothing of it is lost or doubled.
    let whole = PODS * ((2 * PARTS + 1) * 16_384 + 3);
    let begun = Instant::now();
    while long_bytes(&world) < whole && begun.elapsed() < patience() {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(agent.stop(), Some(0));
    let records = world.records();
    assert_eq!(long_bytes(&world), whole, "{}", world.log());
    assert_eq!((count(&records, "late"), count(&records, "small")), (PODS, PODS * 2 * PARTS));
    assert_eq!(world.audit().0, 0, "{:?}", world.audit().1);
    world
}

fn count(records: &[Value], prefix: &str) -> usize {
    records.iter().filter(|record| body(record).starts_with(prefix)).count()
}

/// Bytes of long messages that arrived, in whatever records.
fn long_bytes(world: &World) -> usize {
    let records = world.records();
    let long = records.iter().map(body).filter(|it| it.starts_with('#') || *it == "end");
    long.map(str::len).sum()
}

/// What earlier files held of a message is gone when it is to be read again: that is a stated loss.
fn parts_of_messages_that_are_truncated_away_are_a_stated_loss(mut world: World) {
    world.extra = NEVER.into();
    let mut pods = containers(&world);
    let agent = world.start();
    let mut rotated = Vec::new();
    for pod in &mut pods {
        parts(pod, "stdout");
        rotated.push(pod.rotate());
        parts(pod, "stdout");
    }
    world.wait_for(PODS * 2 * PARTS);
    rotated.iter().for_each(|path| drop(File::create(path).unwrap()));
    pods.iter_mut().for_each(|pod| end(pod, "stdout"));
    world.wait_for(PODS * (2 * PARTS + 1));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.stop(), Some(0));
    let missing = PODS * (2 * PARTS * 16_384 + 3) - long_bytes(&world);
    let records = world.records();
    let small = records.iter().filter(|record| body(record).starts_with("small")).count();
    assert_eq!(small, PODS * 2 * PARTS);
    let (code, audit) = world.audit();
    let lost: u64 =
        audit["lost"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert!(missing > 0, "the beginnings were kept in memory");
    assert!(lost >= missing as u64, "{missing} bytes are missing: {audit}");
    assert_eq!(code, 1, "{audit}");
}

fn messages_over_files_that_nobody_ends_are_delivered_in_the_end(mut world: World) {
    world.extra = "read:\n  unfinished_after: 3s\n".into();
    let mut pods = containers(&world);
    let agent = world.start();
    for pod in &mut pods {
        parts(pod, "stdout");
        pod.rotate();
        parts(pod, "stdout");
    }
    let records = world.wait_for(PODS * (2 * PARTS + 1));
    assert_eq!(agent.stop(), Some(0));
    let whole = text().repeat(2 * PARTS);
    let long: Vec<_> = records.iter().filter(|record| body(record).starts_with('#')).collect();
    assert_eq!(long.len(), PODS);
    assert!(long.iter().all(|record| body(record) == whole));
    assert!(long.iter().all(|record| record["everyline.partial"] == true));
    assert_eq!(world.audit().0, 0, "{:?}", world.audit().1);
}
