//! A tenant that makes the agent say something without end: its log stays short, and says how many messages
//! it does not hold.

use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use crate::harness::{World, body, in_every_mode};

in_every_mode!(
    files_that_come_and_go_without_end_are_a_few_messages,
    files_that_are_truncated_without_end_are_a_few_messages,
    damaged_copies_without_end_are_a_few_messages,
    names_that_nobody_expects_without_end_are_a_few_messages,
);

/// How long a tenant goes on.
const STORM: Duration = Duration::from_secs(4);
/// What a whole agent's log may have then, start and end included.
const MOST: usize = 24 << 10;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Has somebody do something again and again; the agent's log afterwards.
fn storm(mut world: World, wanted: &str, once: impl Fn(&Path, usize)) {
    world.sweep_interval = "200ms";
    let mut victim = world.container("quiet");
    victim.write(1);
    let agent = world.start();
    world.wait_for(1);
    let began = Instant::now();
    let mut times = 0;
    while began.elapsed() < STORM {
        once(world.dir.path(), times);
        times += 1;
    }
    victim.write(1);
    let number = |record: &serde_json::Value| record["k8s.pod.name"] == "quiet";
    let deadline = Instant::now() + crate::harness::patience();
    while world.records().iter().filter(|record| number(record)).count() < 2 {
        assert!(Instant::now() < deadline, "{}", world.records().iter().map(body).count());
        std::thread::sleep(Duration::from_millis(100));
    }
    // A compressed file that is not whole is waited for, however old it says that it is. Then they are read one
    // after the other: it is over when nothing more is said.
    let count = || world.log().matches(wanted).count();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut said = 0;
    while said == 0 || count() > said {
        assert!(Instant::now() < deadline, "{said} times in {times}:\n{}", world.log());
        said = count();
        std::thread::sleep(Duration::from_secs(2));
    }
    agent.stop();
    let log = world.log();
    let said = log.lines().filter(|line| line.contains(wanted)).count();
    assert!((1..=20).contains(&said), "{said} times in {times}:\n{}", &log[..log.len().min(4_000)]);
    assert!(log.len() < MOST, "{} bytes, {times} times", log.len());
    if times > 200 {
        let told =
            log.contains("were not said one by one") || log.contains("since this was last said");
        assert!(told, "{times} times, {said} said:\n{log}");
    }
}

fn files_that_come_and_go_without_end_are_a_few_messages(world: World) {
    storm(world, "were lost before", |dir, n| {
        let path = dir.join(format!("plain/{n}.log"));
        fs::write(&path, "a line\n".repeat(1_000)).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        fs::write(&path, "").unwrap();
        fs::remove_file(&path).unwrap();
    });
}

fn files_that_are_truncated_without_end_are_a_few_messages(world: World) {
    storm(world, "was truncated", |dir, n| {
        let path = dir.join(format!("plain/{}.log", n % 50));
        fs::write(&path, "a line\n".repeat(1 + n % 7)).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        fs::write(&path, "").unwrap();
        std::thread::sleep(Duration::from_millis(2));
    });
}

fn damaged_copies_without_end_are_a_few_messages(world: World) {
    let whole = gzip("2026-11-22T01:02:03Z stdout F a line\n".repeat(3_000).as_bytes());
    storm(world, "is damaged", move |dir, n| {
        let pod = dir.join(format!("pods/ns_loud-{}_0d7e/c", n % 100));
        fs::create_dir_all(&pod).unwrap();
        let mut copy = whole.clone();
        let at = copy.len() / 2;
        copy[at] ^= n as u8 | 1;
        copy.truncate(copy.len() - 40);
        let path = pod.join(format!("0.log.20260131-{:06}.gz", n % 1_000_000));
        fs::write(&path, copy).unwrap();
        // Long ago: nobody is still writing it.
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        std::thread::sleep(Duration::from_millis(5));
    });
}

fn names_that_nobody_expects_without_end_are_a_few_messages(world: World) {
    storm(world, "is not named as kubelet would", |dir, n| {
        let pod = dir.join(format!("pods/none of kubelet's {n} {}", "x".repeat(200)));
        fs::create_dir(&pod).unwrap();
        std::thread::sleep(Duration::from_millis(3));
        fs::remove_dir(&pod).unwrap();
    });
}
