//! Messages whose end does not come: counted as what they are.

use std::{fs, path::Path, time::Duration};

use crate::harness::{World, body, in_every_mode};

in_every_mode!(
    an_unfinished_message_that_is_deleted_while_down_is_a_stated_loss,
    an_unfinished_docker_message_that_is_deleted_while_down_is_a_stated_loss,
);

const TIME: &str = "2026-11-22T01:02:03.2Z";
/// A line of a message that the stream's next line continues.
const PART: &[u8] = b"2026-11-22T01:02:03.2Z stdout P last words\n";

fn an_unfinished_message_that_is_deleted_while_down_is_a_stated_loss(world: World) {
    let mut container = world.container("a");
    container.write(3);
    container.raw(PART);
    assert_stated(&world, container.dir.parent().unwrap(), PART.len() as u64);
}

fn an_unfinished_docker_message_that_is_deleted_while_down_is_a_stated_loss(world: World) {
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
