//! Messages whose end does not come: counted as what they are, and ended after a while, for good.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::harness::{Container, World, body, in_every_mode};

in_every_mode!(
    an_unfinished_message_that_is_deleted_while_down_is_a_stated_loss,
    an_unfinished_docker_message_that_is_deleted_while_down_is_a_stated_loss,
    last_words_are_delivered_while_the_file_is_there,
    a_message_is_ended_though_the_other_stream_goes_on,
    a_message_that_goes_on_in_time_is_one,
    the_log_of_a_container_that_was_started_anew_is_over,
    every_sink_makes_the_same_records_of_a_cut_file,
    messages_that_are_truncated_away_are_a_stated_loss,
    a_line_that_is_being_written_is_waited_for_whatever_time_its_file_bears,
);

const TIME: &str = "2026-11-22T01:02:03.2Z";
/// A line of a message that the stream's next line continues.
const PART: &[u8] = b"2026-11-22T01:02:03.2Z stdout P last words\n";

fn an_unfinished_message_that_is_deleted_while_down_is_a_stated_loss(mut world: World) {
    world.extra = NEVER.into();
    let mut container = world.container("a");
    container.write(3);
    container.raw(PART);
    assert_stated(&world, container.dir.parent().unwrap(), PART.len() as u64);
}

fn an_unfinished_docker_message_that_is_deleted_while_down_is_a_stated_loss(mut world: World) {
    world.extra = NEVER.into();
    let id = "c0ffee".repeat(10) + "c0ff";
    let dir = world.path("docker").join(&id);
    fs::create_dir_all(&dir).unwrap();
    let line =
        |log: &str| format!("{{\"log\":\"{log}\",\"stream\":\"stdout\",\"time\":\"{TIME}\"}}\n");
    let part = line("last words");
    let text =
        ["1\\n", "2\\n", "3\\n"].map(line).concat() + &part + &line("4\\n").replace("out", "err");
    fs::write(dir.join(format!("{id}-json.log")), &text).unwrap();
    // A line of the other stream was sent, and stands behind the unfinished one.
    let waiting = part.len() + line("4\\n").len();
    assert_stated(&world, &dir, waiting as u64);
}

/// Collects, and deletes `dir` while no agent runs: its last `waiting` bytes are lost.
fn assert_stated(world: &World, dir: &Path, waiting: u64) {
    let agent = world.start();
    world.wait_for(3);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    let (_, audit) = world.audit();
    let out = &audit["sinks"]["out"];
    assert_eq!(out["unread"].as_u64().unwrap(), waiting, "nobody holds it yet: {audit}");
    assert_eq!(out["seen"].as_u64().unwrap() - out["acknowledged"].as_u64().unwrap(), waiting);
    fs::remove_dir_all(dir).unwrap();
    let agent = world.start();
    world.wait_for_log("were lost before they could be read");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    let (code, audit) = world.audit();
    assert_eq!(code, 1, "a loss must not pass the audit: {audit}");
    let lost: u64 =
        audit["lost"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(lost, waiting, "{audit}");
    assert_eq!(world.records().iter().map(body).filter(|text| *text == "last words").count(), 0);
}

/// Waits half a second for what does not come.
const SOON: &str = "read:\n  unfinished_after: 500ms\n";
/// Waits for ever.
const NEVER: &str = "read:\n  unfinished_after: 24h\n";

fn bodies(world: &World) -> Vec<String> {
    world.records().iter().map(|record| body(record).to_owned()).collect()
}

/// A container's last words, in every way in which they can be without an end.
fn last_words_are_delivered_while_the_file_is_there(mut world: World) {
    world.extra = SOON.into();
    let mut cri = world.container("a");
    cri.raw(b"2026-11-22T01:02:03.1Z stdout F first\n2026-11-22T01:02:03.2Z stdout P last ");
    cri.raw(b"\n2026-11-22T01:02:03.3Z stdout P words\n");
    let mut torn = world.container("b");
    torn.raw(b"2026-11-22T01:02:03.1Z stderr P a line that \n2026-11-22T01:02:03.2Z stderr F no");
    let id = "c0ffee".repeat(10) + "c0ff";
    let dir = world.path("docker").join(&id);
    fs::create_dir_all(&dir).unwrap();
    let docker = format!("{{\"log\":\"panic\",\"stream\":\"stderr\",\"time\":\"{TIME}\"}}\n");
    fs::write(dir.join(format!("{id}-json.log")), docker).unwrap();
    fs::write(world.path("plain/x.log"), "whole\nhalf").unwrap();
    let agent = world.start();
    let records = world.wait_for(6);
    let of = |text: &str| {
        records.iter().find(|record| body(record) == text).unwrap_or_else(|| {
            panic!("no `{text}` in {records:?}");
        })
    };
    for text in ["last words", "a line that no", "panic", "half"] {
        assert_eq!(of(text)["everyline.partial"], true, "{text}");
    }
    for text in ["first", "whole"] {
        assert!(of(text).get("everyline.partial").is_none());
    }
    // What follows begins anew, in its own place.
    cri.raw(b"2026-11-22T01:02:04Z stdout F too late\n");
    let mut plain = OpenOptions::new().append(true).open(world.path("plain/x.log")).unwrap();
    plain.write_all(b" of a line\nnext\n").unwrap();
    world.wait_for(9);
    // … and so again, however often.
    assert_eq!(agent.stop(), Some(0));
    let agent = world.start();
    cri.raw(b"2026-11-22T01:02:05Z stdout P again\n");
    world.wait_for(10);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(agent.stop(), Some(0));
    let bodies = bodies(&world);
    assert_eq!(bodies.len(), 10, "{bodies:?}");
    for text in ["too late", " of a line", "next", "again"] {
        assert!(bodies.iter().any(|body| body == text), "no `{text}` in {bodies:?}");
    }
    let mut uids: Vec<_> =
        world.records().iter().map(|r| r["log.record.uid"].to_string()).collect();
    uids.sort_unstable();
    uids.dedup();
    assert_eq!(uids.len(), 10);
    assert_eq!(world.audit().0, 0);
}

fn a_message_is_ended_though_the_other_stream_goes_on(mut world: World) {
    world.extra = SOON.into();
    let mut container = world.container("a");
    let agent = world.start();
    container.raw(PART);
    let mut wanted = 0;
    while !bodies(&world).iter().any(|body| body == "last words") {
        container.raw(b"2026-11-22T01:02:03.3Z stderr F busy\n");
        wanted += 1;
        std::thread::sleep(Duration::from_millis(50));
        assert!(wanted < 2000, "{}", world.log());
    }
    assert_eq!(agent.stop(), Some(0));
    assert!(wanted > 5, "it waited");
    assert_eq!(bodies(&world).len(), wanted + 1);
    assert_eq!(world.audit().0, 0);
}

fn a_message_that_goes_on_in_time_is_one(mut world: World) {
    world.extra = "read:\n  unfinished_after: 3s\n".into();
    let mut container = world.container("a");
    let mut plain = fs::File::create(world.path("plain/x.log")).unwrap();
    let agent = world.start();
    for n in 0..8 {
        container.raw(format!("2026-11-22T01:02:03.{n}Z stdout P {n}\n").as_bytes());
        plain.write_all(n.to_string().as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(600));
    }
    container.raw(b"2026-11-22T01:02:04Z stdout F\n");
    plain.write_all(b"\n").unwrap();
    world.wait_for(2);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bodies(&world), ["01234567", "01234567"]);
    assert!(world.records().iter().all(|record| record.get("everyline.partial").is_none()));
}

fn the_log_of_a_container_that_was_started_anew_is_over(mut world: World) {
    world.extra = NEVER.into();
    let mut container = world.container("a");
    container.write(1);
    container.raw(PART);
    let agent = world.start();
    world.wait_for(1);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(bodies(&world), ["message 0"]);
    let mut next = Container::new(&container.dir, 1);
    next.write(1);
    let records = world.wait_for(3);
    assert!(records.iter().any(|record| body(record) == "last words"));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// Several sinks, one of which is down, and a compressed copy: each makes the same records.
fn every_sink_makes_the_same_records_of_a_cut_file(mut world: World) {
    world.extra = SOON.into();
    let (out, late) = (world.path("out/out.ndjson"), world.path("late/late.ndjson"));
    fs::write(world.path("late"), "in the way").unwrap();
    world.sinks = format!(
        "  out:\n    type: file\n    path: {}\n  late:\n    type: file\n    path: {}\n",
        out.display(),
        late.display()
    );
    let mut container = world.container("a");
    let agent = world.start();
    for n in 0..4 {
        container.write(3);
        container.raw(PART);
        world.wait_for(n * 4 + 4);
    }
    container.raw(b"2026-11-22T01:02:03.2Z stdout F the end\n");
    container.raw(b"2026-11-22T01:02:03.2Z stdout P no end\n");
    world.wait_for(18);
    agent.kill();
    let rotated = container.rotate();
    container.compress(&rotated);
    container.write(1);
    fs::remove_file(world.path("late")).unwrap();
    fs::create_dir(world.path("late")).unwrap();
    let agent = world.start();
    let deadline = std::time::Instant::now() + crate::harness::patience();
    let lines = || fs::read_to_string(&late).unwrap_or_default().lines().count();
    while lines() < 19 {
        assert!(std::time::Instant::now() < deadline, "{} lines\n{}", lines(), world.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    world.wait_for(19);
    assert_eq!(agent.stop(), Some(0));
    let essence = |text: &str| -> Vec<(String, String)> {
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records
            .map(|record| (record["log.record.uid"].to_string(), record["body"].to_string()))
            .collect()
    };
    let texts = [out, late].map(|path| fs::read_to_string(path).unwrap());
    assert_eq!(essence(&texts[0]), essence(&texts[1]));
    assert_eq!(essence(&texts[0]).len(), 19);
    assert_eq!(world.audit().0, 0);
}

/// There was no room to keep them, and their bytes are gone when they are to be read again.
fn messages_that_are_truncated_away_are_a_stated_loss(mut world: World) {
    world.extra = NEVER.into();
    let mut pods: Vec<Container> = (0..16).map(|n| world.container(&format!("p{n}"))).collect();
    let part = format!("2026-11-22T01:02:03Z stdout P {}\n", "#".repeat(16_384));
    let agent = world.start();
    for pod in &mut pods {
        (0..24).for_each(|_| pod.raw(part.as_bytes()));
        pod.raw(b"2026-11-22T01:02:03Z stderr F small\n");
    }
    world.wait_for(pods.len());
    std::thread::sleep(Duration::from_millis(500));
    for pod in &mut pods {
        drop(fs::File::create(pod.live()).unwrap());
        pod.raw(b"2026-11-22T01:02:04Z stdout F anew\n");
    }
    world.wait_for(2 * pods.len());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.stop(), Some(0));
    let bodies = bodies(&world);
    assert_eq!(bodies.iter().filter(|body| *body == "anew").count(), pods.len());
    let long: usize = bodies.iter().filter(|it| it.starts_with('#')).map(String::len).sum();
    let missing = pods.len() * 24 * 16_384 - long;
    let (code, audit) = world.audit();
    let lost: u64 =
        audit["lost"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert!(missing > 0, "all of it was kept in memory");
    assert!(lost >= missing as u64, "{missing} bytes are missing: {audit}\n{}", world.log());
    assert_eq!(code, 1, "{audit}");
}

/// On a file server whose clock is behind, or before a clock was set, every file seems old.
fn a_line_that_is_being_written_is_waited_for_whatever_time_its_file_bears(world: World) {
    let path = world.path("plain/app.log");
    let file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let write = |text: &str| {
        let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
        (&file).write_all(text.as_bytes()).unwrap();
        file.set_modified(an_hour_ago).unwrap();
    };
    write("line 0\n");
    let agent = world.start();
    world.wait_for(1);
    for number in 1..6 {
        write("the beginning of ");
        std::thread::sleep(Duration::from_millis(1500));
        write(&format!("line {number}\n"));
        world.wait_for(1 + number);
    }
    assert_eq!(agent.stop(), Some(0));
    let whole = (1..6).map(|number| format!("the beginning of line {number}"));
    let wanted: Vec<String> = ["line 0".to_owned()].into_iter().chain(whole).collect();
    assert_eq!(bodies(&world), wanted);
}

#[test]
fn what_is_unfinished_takes_no_memory_and_arrives_whole() {
    let mut world = World::new("auto");
    world.extra = NEVER.into();
    let mut pods: Vec<Container> = (0..40).map(|n| world.container(&format!("p{n}"))).collect();
    let text = "#".repeat(16_384);
    let streams = ["stdout", "stderr"];
    for pod in &mut pods {
        for _ in 0..60 {
            for stream in streams {
                pod.raw(format!("2026-11-22T01:02:03Z {stream} P {text}\n").as_bytes());
            }
        }
    }
    let agent = world.start();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(bodies(&world).len(), 0);
    // Each goes on a little, and other lines come between.
    for pod in &mut pods {
        pod.raw(b"2026-11-22T01:02:03Z stdout P more\n");
    }
    std::thread::sleep(Duration::from_secs(1));
    let small = pods.len() - 1;
    pods[small].raw(b"2026-11-22T01:02:04Z stderr F end\n2026-11-22T01:02:05Z stderr F small\n");
    world.wait_for(2);
    agent.kill();
    let agent = world.start();
    for pod in &mut pods[..small] {
        pod.raw(b"2026-11-22T01:02:04Z stderr F end\n2026-11-22T01:02:05Z stderr F small\n");
    }
    for pod in &mut pods {
        pod.raw(b"2026-11-22T01:02:06Z stdout F end\n");
    }
    world.wait_for(3 * pods.len());
    std::thread::sleep(Duration::from_millis(500));
    let peak = agent.peak_memory_mib();
    assert_eq!(agent.stop(), Some(0));
    assert!(peak < 100, "peak memory was {peak} MiB");
    let mut all = bodies(&world);
    all.sort_unstable();
    all.dedup();
    let long = text.repeat(60);
    assert_eq!(all, [format!("{long}end"), format!("{long}moreend"), "small".to_owned()]);
    assert_eq!(bodies(&world).len(), 3 * pods.len());
    assert!(world.records().iter().all(|record| record.get("everyline.partial").is_none()));
    assert_eq!(world.audit().0, 0);
}
