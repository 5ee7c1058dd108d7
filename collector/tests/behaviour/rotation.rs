//! Rotation and identity: files that are renamed, truncated, deleted, compressed and moved, while
//! the agent runs and while it does not.

use std::{
    fs,
    io::Write,
    os::unix::fs::{FileExt, symlink},
    time::Duration,
};

use crate::harness::{World, assert_exactly_once, body, in_every_mode, patience};

in_every_mode!(
    rename_and_create_loses_nothing,
    rename_create_and_gzip_within_a_second,
    a_rotation_storm_loses_nothing,
    copytruncate_begins_a_new_life,
    a_file_that_regrew_past_the_offset_is_read_anew,
    a_deleted_file_is_drained_and_let_go,
    a_short_lived_file_is_read,
    an_unterminated_last_line_arrives_when_the_file_ends,
    a_partial_is_completed_across_a_rotation,
    a_partial_that_spans_a_whole_file_leaves_no_trace,
    a_restarted_container_is_another_log,
    rotated_while_down,
    compressed_while_down,
    compressed_while_running_is_not_read_twice,
    moved_while_down_is_found_by_its_handle,
    deleted_while_down_is_a_stated_loss,
    links_are_not_collected_twice,
    a_renamed_directory_is_followed,
    an_inode_reused_after_a_deletion_is_somebody_else,
    many_files_and_a_quiet_one,
);

fn rename_and_create_loses_nothing(world: World) {
    let agent = world.start();
    let mut container = world.container("a");
    for _ in 0..5 {
        container.write(300);
        container.rotate();
    }
    container.write(10);
    world.wait_for(1510);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
}

fn rename_create_and_gzip_within_a_second(world: World) {
    let agent = world.start();
    let mut container = world.container("a");
    for _ in 0..4 {
        container.write(2_000);
        let rotated = container.rotate();
        container.write(5);
        container.compress(&rotated);
    }
    world.wait_for(8_020);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
}

fn a_rotation_storm_loses_nothing(world: World) {
    let agent = world.start();
    let mut container = world.container("a");
    container.write(1);
    world.wait_for(1);
    for _ in 0..300 {
        container.write(7);
        container.rotate();
    }
    container.write(1);
    world.wait_for(2102);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(world.audit().0, 0);
}

fn copytruncate_begins_a_new_life(world: World) {
    let agent = world.start();
    let path = world.path("plain/app.log");
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
    for n in 0..100 {
        writeln!(file, "first life {n}").unwrap();
    }
    world.wait_for(100);
    file.set_len(0).unwrap();
    for n in 0..50 {
        writeln!(file, "second life {n}").unwrap();
    }
    let records = world.wait_for(150);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(records.len(), 150);
    assert_eq!(body(&records[100]), "second life 0");
    let uids: std::collections::HashSet<_> =
        records.iter().map(|record| record["log.record.uid"].to_string()).collect();
    assert_eq!(uids.len(), 150, "a truncated file's offsets must not repeat a uid");
}

fn a_file_that_regrew_past_the_offset_is_read_anew(world: World) {
    let agent = world.start();
    let path = world.path("plain/app.log");
    fs::write(&path, "old line\n".repeat(50)).unwrap();
    world.wait_for(50);
    // Truncated and written past the old offset in one go: no look ever sees it smaller.
    agent.signal(rustix::process::Signal::STOP);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at("new, longer line\n".repeat(100).as_bytes(), 0).unwrap();
    agent.signal(rustix::process::Signal::CONT);
    let records = world.wait_for(150);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(records.len(), 150);
    assert!(records[50..].iter().all(|record| body(record) == "new, longer line"));
}

fn a_deleted_file_is_drained_and_let_go(world: World) {
    let mut container = world.container("a");
    container.write(20_000);
    let agent = world.start();
    world.wait_for(1);
    fs::remove_dir_all(container.dir.parent().unwrap()).unwrap();
    container.write(5);
    world.wait_for(20_005);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while agent.open_files("/0.log") > 0 {
        assert!(std::time::Instant::now() < deadline, "the deleted file is still held");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(world.audit().0, 0);
}

fn a_short_lived_file_is_read(world: World) {
    let agent = world.start();
    let mut first = world.container("first");
    first.write(1);
    world.wait_for(1);
    if world.watch == "poll" {
        // Polling sees what is there at a look; 50 ms between looks is its promise here.
        let mut container = world.container("short");
        container.write(3);
        std::thread::sleep(Duration::from_millis(1_500));
        fs::remove_dir_all(container.dir.parent().unwrap()).unwrap();
    } else {
        let mut container = world.container("short");
        container.write(3);
        // 50 ms on a machine that is not emulated.
        std::thread::sleep(patience() / 800);
        fs::remove_dir_all(container.dir.parent().unwrap()).unwrap();
    }
    let records = world.wait_for(4);
    assert_eq!(records.len(), 4);
    assert_eq!(agent.stop(), Some(0));
}

fn an_unterminated_last_line_arrives_when_the_file_ends(world: World) {
    let agent = world.start();
    let mut container = world.container("a");
    container.write(2);
    container.raw(b"2026-11-22T01:02:03.000000009Z stdout F cut off");
    world.wait_for(2);
    container.rotate();
    container.raw(b"2026-11-22T01:02:04.000000009Z stdout F next\n");
    let records = world.wait_for(4);
    assert_eq!(body(&records[2]), "cut off");
    assert_eq!(body(&records[3]), "next");
    fs::write(world.path("plain/x.log"), "whole\nhalf").unwrap();
    world.wait_for(5);
    fs::remove_file(world.path("plain/x.log")).unwrap();
    let records = world.wait_for(6);
    assert_eq!(body(&records[5]), "half");
    assert_eq!(agent.stop(), Some(0));
}

fn a_partial_is_completed_across_a_rotation(world: World) {
    let agent = world.start();
    let mut container = world.container("a");
    container.raw(b"2026-11-22T01:02:03.1Z stdout P one \n");
    container.raw(b"2026-11-22T01:02:03.2Z stderr F between\n");
    world.wait_for(1);
    container.rotate();
    container.raw(b"2026-11-22T01:02:03.3Z stderr F after\n");
    world.wait_for(2);
    // Killed with the message half read: the first half must be read again.
    agent.kill();
    container.raw(b"2026-11-22T01:02:03.4Z stdout F two\n");
    let agent = world.start();
    let records = world.wait_for(3);
    assert_eq!(agent.stop(), Some(0));
    let bodies: Vec<_> = records.iter().map(body).collect();
    assert_eq!(bodies, ["between", "after", "one two"]);
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

fn a_partial_that_spans_a_whole_file_leaves_no_trace(world: World) {
    let agent = world.start();
    let mut container = world.container("a");
    container.raw(b"2026-11-22T01:02:03.1Z stdout P one \n");
    container.rotate();
    container.raw(b"2026-11-22T01:02:03.2Z stdout P two \n");
    container.rotate();
    container.raw(b"2026-11-22T01:02:03.3Z stdout F three\n");
    world.wait_for(1);
    std::thread::sleep(Duration::from_millis(500));
    // Neither rotated file may be decoded once more, its part put before another message.
    agent.kill();
    container.raw(b"2026-11-22T01:02:03.4Z stdout F four\n");
    let agent = world.start();
    let records = world.wait_for(2);
    let bodies: Vec<_> = records.iter().map(body).collect();
    assert_eq!(bodies, ["one two three", "four"]);
    let deadline = std::time::Instant::now() + Duration::from_secs(25);
    while agent.open_files("/0.log.") > 0 {
        assert!(std::time::Instant::now() < deadline, "a rotated file is still held");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

fn a_restarted_container_is_another_log(world: World) {
    let agent = world.start();
    let mut first = world.container("a");
    first.write(10);
    let mut second = crate::harness::Container::new(&first.dir, 1);
    second.write(10);
    let records = world.wait_for(20);
    assert_eq!(agent.stop(), Some(0));
    for restart in ["0", "1"] {
        let count = records
            .iter()
            .filter(|record| record["k8s.container.restart_count"] == restart)
            .count();
        assert_eq!(count, 10);
    }
}

fn rotated_while_down(world: World) {
    let mut container = world.container("a");
    let agent = world.start();
    container.write(100);
    world.wait_for(100);
    agent.kill();
    container.write(50);
    container.rotate();
    container.write(50);
    container.rotate();
    container.write(50);
    let agent = world.start();
    world.wait_for(250);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(world.audit().0, 0);
}

fn compressed_while_down(world: World) {
    let mut container = world.container("a");
    let agent = world.start();
    container.write(100);
    world.wait_for(100);
    agent.kill();
    let mut rotated = Vec::new();
    for _ in 0..3 {
        container.write(500);
        rotated.push(container.rotate());
    }
    container.write(50);
    for path in &rotated[..2] {
        container.compress(path);
    }
    let agent = world.start();
    world.wait_for(1650);
    // A second start finds every file done with.
    assert_eq!(agent.stop(), Some(0));
    let agent = world.start();
    container.write(1);
    world.wait_for(1651);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(world.audit().0, 0);
}

fn compressed_while_running_is_not_read_twice(world: World) {
    let mut container = world.container("a");
    let agent = world.start();
    container.write(100);
    world.wait_for(100);
    let rotated = container.rotate();
    container.write(100);
    world.wait_for(200);
    container.compress(&rotated);
    std::thread::sleep(Duration::from_millis(800));
    agent.kill();
    let agent = world.start();
    container.write(1);
    world.wait_for(201);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
}

fn moved_while_down_is_found_by_its_handle(world: World) {
    let path = world.path("plain/app.log");
    let agent = world.start();
    fs::write(&path, "one\ntwo\n").unwrap();
    world.wait_for(2);
    agent.kill();
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"three\n").unwrap();
    fs::create_dir(world.path("olddir")).unwrap();
    fs::rename(&path, world.path("olddir/app.log.1")).unwrap();
    fs::write(&path, "four\n").unwrap();
    let agent = world.start();
    let records = world.wait_for(4);
    assert_eq!(agent.stop(), Some(0));
    let bodies: Vec<_> = records.iter().map(body).collect();
    assert_eq!(bodies, ["one", "two", "three", "four"]);
}

fn deleted_while_down_is_a_stated_loss(world: World) {
    let mut container = world.container("a");
    let agent = world.start();
    container.write(100);
    world.wait_for(100);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
    // The sink is stopped, not the agent: what grows is seen and not read.
    let mut slow = world;
    slow.sinks =
        format!("  out:\n    type: file\n    path: {}\n", slow.path("out/out.ndjson").display());
    let size_read = fs::metadata(container.live()).unwrap().len();
    container.write(10);
    let size = fs::metadata(container.live()).unwrap().len();
    // A look at the sizes without reading: the agent starts with a dead output …
    let out = slow.path("out");
    let parked = slow.path("parked");
    fs::rename(&out, &parked).unwrap();
    fs::write(&out, "in the way").unwrap();
    let agent = slow.start();
    slow.wait_for_log("Cannot look into the directory");
    std::thread::sleep(patience() * 7 / 40);
    agent.kill();
    fs::remove_file(&out).unwrap();
    fs::rename(&parked, &out).unwrap();
    // … and then the pod is deleted while it is down.
    fs::remove_dir_all(container.dir.parent().unwrap()).unwrap();
    let agent = slow.start();
    slow.wait_for_log("were lost before they could be read");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    let (code, audit) = slow.audit();
    assert_eq!(code, 1, "a loss must not pass the audit: {audit}");
    assert!(
        audit.to_string().contains(&format!("{}", size - size_read)),
        "the loss of {} bytes is not stated in {audit}",
        size - size_read
    );
}

fn links_are_not_collected_twice(world: World) {
    let mut container = world.container("a");
    container.write(10);
    fs::create_dir(world.path("containers")).unwrap();
    symlink(container.live(), world.path("containers/a_shop_main-0123456789abcdef.log")).unwrap();
    fs::write(world.path("plain/x.log"), "plain\n").unwrap();
    fs::hard_link(world.path("plain/x.log"), world.path("plain/y.log")).unwrap();
    symlink(world.path("plain/x.log"), world.path("plain/z.log")).unwrap();
    let agent = world.start();
    world.wait_for(11);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.records().len(), 11);
    assert_exactly_once(&world.records(), &container);
}

fn a_renamed_directory_is_followed(world: World) {
    let mut container = world.container("a");
    let agent = world.start();
    container.write(10);
    world.wait_for(10);
    let pod = container.dir.parent().unwrap().to_owned();
    let renamed = world.path("pods/shop_a_uid-renamed");
    fs::rename(&pod, &renamed).unwrap();
    container.write(10);
    let records = world.wait_for(20);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.records().len(), records.len());
    assert_exactly_once(&world.records(), &container);
}

fn an_inode_reused_after_a_deletion_is_somebody_else(world: World) {
    let agent = world.start();
    for round in 0..20 {
        fs::write(world.path("plain/app.log"), format!("round {round}\n")).unwrap();
        world.wait_for(round + 1);
        fs::remove_file(world.path("plain/app.log")).unwrap();
    }
    assert_eq!(agent.stop(), Some(0));
    let bodies: Vec<_> = world.records().iter().map(|r| body(r).to_owned()).collect();
    assert_eq!(bodies, (0..20).map(|n| format!("round {n}")).collect::<Vec<_>>());
}

fn many_files_and_a_quiet_one(world: World) {
    let mut containers: Vec<_> = (0..500).map(|n| world.container(&format!("c{n}"))).collect();
    for container in &mut containers {
        container.write(20);
    }
    let agent = world.start();
    world.wait_for(10_000);
    let mut quiet = world.container("quiet");
    for container in &mut containers {
        container.write(20);
    }
    quiet.write(1);
    world.wait_for(20_001);
    assert_eq!(agent.stop(), Some(0));
    let records = world.records();
    for container in containers.iter().chain([&quiet]) {
        assert_exactly_once(&records, container);
    }
}
