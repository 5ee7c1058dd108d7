//! Hostile and unusual input: nothing lost, nothing invented.

use std::{fs, io::Write};

use crate::harness::{World, body};

fn collect(world: &World, count: usize) -> Vec<serde_json::Value> {
    let agent = world.start();
    world.wait_for(count);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(agent.stop(), Some(0));
    world.records()
}

#[test]
fn bytes_of_every_kind_arrive_as_written() {
    let world = World::new("auto");
    let mut container = world.container("a");
    let header = b"2026-11-22T01:02:03.123456789Z stdout F ";
    let messages: [&[u8]; 9] = [
        b"",
        b"nul \0 inside",
        b"carriage\r",
        b"\x1b[31mred\x1b[0m",
        b"quote \" backslash \\ tab \t",
        "umlaut \u{e4} emoji \u{1f600}".as_bytes(),
        b"invalid \xff\xfe utf-8",
        b"{\"json\":true}",
        b"  leading and trailing  ",
    ];
    for message in messages {
        container.raw(&[header, message, b"\n"].concat());
    }
    let records = collect(&world, messages.len());
    assert_eq!(records.len(), messages.len());
    for (record, message) in records.iter().zip(messages) {
        assert_eq!(body(record), String::from_utf8_lossy(message));
        assert_eq!(record["timestamp"], "2026-11-22T01:02:03.123456789Z");
        assert_eq!(record["log.iostream"], "stdout");
    }
    use base64::Engine;
    let exact = records[6]["everyline.body_base64"].as_str().unwrap();
    let exact = base64::engine::general_purpose::STANDARD.decode(exact).unwrap();
    assert_eq!(exact, b"invalid \xff\xfe utf-8");
}

#[test]
fn a_line_that_does_not_parse_is_delivered_whole_and_marked() {
    let world = World::new("auto");
    let mut container = world.container("a");
    let lines = [
        "not a CRI line",
        "2026-11-22 stdout F no",
        "9999-99-99T00:00:00Z stdout F bad",
        "2026-11-22T01:02:03Z stdin F no",
        "",
    ];
    for line in lines {
        container.raw(format!("{line}\n").as_bytes());
    }
    container.write(1);
    let records = collect(&world, lines.len() + 1);
    for (record, line) in records.iter().zip(lines) {
        assert_eq!(body(record), line);
        assert_eq!(record["everyline.unparsed"], true, "{line}");
    }
    assert!(records.last().unwrap().get("everyline.unparsed").is_none());
}

#[test]
fn interleaved_partials_are_joined_per_stream() {
    let world = World::new("auto");
    let mut container = world.container("a");
    container.raw(
        b"2026-11-22T01:02:03.1Z stdout P a1\n2026-11-22T01:02:03.2Z stderr P b1\n2026-11-22T01:02:03.3Z stdout P a2\n2026-11-22T01:02:03.4Z stderr F b2\n2026-11-22T01:02:03.5Z stdout F a3\n",
    );
    let records = collect(&world, 2);
    let got: Vec<_> =
        records.iter().map(|r| (body(r), r["log.iostream"].as_str().unwrap())).collect();
    assert_eq!(got, [("b1b2", "stderr"), ("a1a2a3", "stdout")]);
}

#[test]
fn a_line_longer_than_the_bound_is_split_and_loses_nothing() {
    let mut world = World::new("auto");
    world.extra = "read:\n  max_line_bytes: 64KiB\n".into();
    let long: String = (0..300_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    fs::write(world.path("plain/x.log"), format!("before\n{long}\nafter\n")).unwrap();
    let records = collect(&world, 7);
    let pieces: Vec<_> = records.iter().filter(|r| r.get("everyline.split").is_some()).collect();
    assert_eq!(pieces.iter().map(|r| body(r)).collect::<String>(), long);
    for (n, piece) in pieces.iter().enumerate() {
        assert_eq!(piece["everyline.split"], n + 1);
        assert!(body(piece).len() <= 64 << 10);
    }
    assert_eq!(pieces.last().unwrap()["everyline.split_last"], true);
    assert_eq!(body(&records[0]), "before");
    assert_eq!(body(records.last().unwrap()), "after");
    assert_eq!(world.audit().0, 0);
}

#[test]
fn a_line_longer_than_the_bound_is_cut_and_counted() {
    let mut world = World::new("auto");
    world.extra = "read:\n  max_line_bytes: 64KiB\n  long_lines: cut\n".into();
    fs::write(world.path("plain/x.log"), format!("{}\nafter\n", "x".repeat(100_000))).unwrap();
    let records = collect(&world, 2);
    assert_eq!(body(&records[0]).len(), 64 << 10);
    assert_eq!(records[0]["everyline.cut_bytes"], 100_000 - (64 << 10));
    assert_eq!(body(&records[1]), "after");
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "what the operator chose to drop is not a loss: {audit}");
    assert!(audit.to_string().contains("line_too_long"), "{audit}");
}

#[test]
fn a_line_of_200_mib_stays_within_bounded_memory() {
    let world = World::new("auto");
    let mut file = fs::File::create(world.path("plain/x.log")).unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..200 {
        file.write_all(&piece).unwrap();
    }
    file.write_all(b"\nafter\n").unwrap();
    let agent = world.start();
    world.wait_for(201);
    let peak = agent.peak_memory_mib();
    assert_eq!(agent.stop(), Some(0));
    assert!(peak < 128, "peak memory was {peak} MiB");
    let records = world.records();
    let total: usize = records.iter().map(|record| body(record).len()).sum();
    assert_eq!(total, (200 << 20) + "after".len());
}

#[test]
fn docker_json_lines_are_decoded_and_joined() {
    let world = World::new("auto");
    let id = "c0ffee".repeat(10) + "c0ff";
    let dir = world.path("docker").join(&id);
    fs::create_dir_all(&dir).unwrap();
    fs::write(
        dir.join(format!("{id}-json.log")),
        concat!(
            r#"{"log":"hello \"world\" \u00e4\n","stream":"stdout","time":"2026-11-22T01:02:03.1Z"}"#, "\n",
            r#"{"log":"part one, ","stream":"stderr","time":"2026-11-22T01:02:03.2Z"}"#, "\n",
            r#"{"log":"part two\n","stream":"stderr","time":"2026-11-22T01:02:03.3Z"}"#, "\n",
            "garbage\n",
        ),
    )
    .unwrap();
    let records = collect(&world, 3);
    assert_eq!(
        records.iter().map(body).collect::<Vec<_>>(),
        ["hello \"world\" \u{e4}", "part one, part two", "garbage"]
    );
    assert_eq!(records[1]["log.iostream"], "stderr");
    assert_eq!(records[2]["everyline.unparsed"], true);
}

#[test]
fn fifos_devices_and_directories_are_left_alone() {
    let world = World::new("auto");
    rustix::fs::mkfifoat(rustix::fs::CWD, world.path("plain/fifo.log"), 0o600.into()).unwrap();
    fs::create_dir(world.path("plain/dir.log")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", world.path("plain/zero.log")).unwrap();
    fs::write(world.path("plain/x.log"), "line\n").unwrap();
    let records = collect(&world, 1);
    assert_eq!(records.len(), 1);
}
