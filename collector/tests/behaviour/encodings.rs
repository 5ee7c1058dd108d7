//! Plain files in other encodings than UTF-8: by setting, or by what a file's first bytes say.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    time::Duration,
};

use crate::harness::{World, append, body, in_every_mode};

in_every_mode!(
    utf_16_by_its_mark_through_kills_and_rotations,
    utf_16_by_setting_through_copytruncate,
    a_line_is_not_cut_inside_a_code_unit,
    zeros_of_utf_16_are_no_holes_and_holes_in_it_are_skipped,
    zeros_written_ahead_of_utf_16_are_left_alone,
    zeros_before_what_was_just_written_in_utf_16_are_waited_for,
);

#[derive(Clone, Copy, PartialEq)]
enum Wide {
    Little,
    Big,
}

use Wide::{Big, Little};

impl Wide {
    fn of(self, text: &str) -> Vec<u8> {
        match self {
            Little => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Big => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }

    /// With a byte-order mark.
    fn marked(self, text: &str) -> Vec<u8> {
        self.of(&format!("\u{feff}{text}"))
    }
}

/// Numbered lines, with characters whose bytes look like newlines, zeros and surrogates.
fn lines(name: &str, numbers: std::ops::Range<usize>) -> String {
    numbers
        .map(|n| format!("{name} {n} \u{4f60}\u{0a0a}\u{010a}\u{0a00}\u{0100}\u{1f600}\n"))
        .collect()
}

fn bodies(world: &World) -> Vec<String> {
    world.records().iter().map(|record| body(record).to_owned()).collect()
}

/// What a file pattern says of its encoding.
fn set_encoding(world: &mut World, encoding: &str) {
    world.files += &format!("      encoding: {encoding}\n");
}

/// Every line once and in order, under ids of their own, and the sums add up.
fn assert_lines(world: &World, wanted: &str) {
    let wanted: Vec<&str> = wanted.lines().collect();
    world.wait_for(wanted.len());
    let got = bodies(world);
    let at = got.iter().zip(&wanted).position(|(a, b)| a != b);
    assert_eq!((got.len(), at), (wanted.len(), None), "{:?}", &got[at.unwrap_or(0)..]);
    let records = world.records();
    let uids: std::collections::HashSet<_> =
        records.iter().map(|record| record["log.record.uid"].to_string()).collect();
    assert_eq!(uids.len(), records.len());
    assert!(records.iter().all(|record| record["everyline.body_base64"].is_null()));
}

/// The bytes that no record carries, and that the audit finds nothing wrong.
fn assert_audit(world: &World, holes: u64) {
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
    assert_eq!(audit["dropped"]["hole"].as_u64().unwrap_or(0), holes, "{audit}");
    assert_eq!(audit["sinks"]["out"]["unread"], 0, "{audit}");
}

fn utf_16_by_its_mark_through_kills_and_rotations(world: World) {
    for (name, wide) in [("little", Little), ("big", Big)] {
        let live = world.path(&format!("plain/{name}.log"));
        append(&live, wide.marked(&lines(name, 0..50)));
    }
    let agent = world.start();
    world.wait_for(100);
    agent.kill();
    let mut wanted = std::collections::BTreeMap::new();
    for (name, wide) in [("little", Little), ("big", Big)] {
        let live = world.path(&format!("plain/{name}.log"));
        let [first, packed] =
            ["1", "1.gz"].map(|end| world.path(&format!("plain/{name}.log.{end}")));
        // Written on without an agent, rotated, and half of it compressed with what was not read.
        append(&live, wide.of(&lines(name, 50..100)));
        fs::rename(&live, &first).unwrap();
        let mut encoder =
            flate2::write::GzEncoder::new(File::create(&packed).unwrap(), Default::default());
        encoder.write_all(&fs::read(&first).unwrap()).unwrap();
        encoder.finish().unwrap();
        fs::remove_file(&first).unwrap();
        append(&live, wide.marked(&lines(name, 100..150)));
        wanted.insert(name, lines(name, 0..200));
    }
    let agent = world.start();
    world.wait_for(300);
    for name in ["little", "big"] {
        let live = world.path(&format!("plain/{name}.log"));
        fs::rename(&live, world.path(&format!("plain/{name}.log.2"))).unwrap();
        // The next one says by its mark that it is UTF-8.
        append(&live, format!("\u{feff}{}", lines(name, 150..200)).as_bytes());
    }
    world.wait_for(400);
    assert_eq!(agent.stop(), Some(0));
    for (name, wanted) in wanted {
        let got: Vec<_> = bodies(&world).into_iter().filter(|it| it.starts_with(name)).collect();
        assert_eq!(got, wanted.lines().collect::<Vec<_>>(), "{name}");
    }
    assert_audit(&world, 0);
}

fn utf_16_by_setting_through_copytruncate(mut world: World) {
    set_encoding(&mut world, "utf-16be");
    let path = world.path("plain/app.log");
    let writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    // The mark is written once, when the program starts.
    (&writer).write_all(&Big.marked(&lines("app", 0..100))).unwrap();
    let agent = world.start();
    world.wait_for(100);
    for life in 1..4 {
        fs::copy(&path, world.path("plain/app.log.1")).unwrap();
        writer.set_len(0).unwrap();
        (&writer).write_all(&Big.of(&lines("app", life * 100..life * 100 + 100))).unwrap();
        world.wait_for(life * 100 + 100);
    }
    assert_eq!(agent.stop(), Some(0));
    assert_lines(&world, &lines("app", 0..400));
    assert_audit(&world, 0);
}

fn a_line_is_not_cut_inside_a_code_unit(mut world: World) {
    world.extra = "read:\n  unfinished_after: 300ms\n".into();
    let path = world.path("plain/app.log");
    // The last character is two code units; a byte of the second one is not there.
    let text = Little.marked("first\nhalf \u{1f600} of \u{1f600}");
    append(&path, &text[..text.len() - 1]);
    let agent = world.start();
    world.wait_for(2);
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(bodies(&world), ["first", "half \u{1f600} of "]);
    assert_eq!(world.records()[1]["everyline.partial"], true);
    append(&path, [&text[text.len() - 1..], &Little.of(" rest\n")].concat());
    world.wait_for(3);
    // A single byte of the next line is no line.
    append(&path, &Little.of("x")[..1]);
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(world.records().len(), 3);
    append(&path, [&Little.of("x")[1..], &Little.of("yz\n")].concat());
    world.wait_for(4);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bodies(&world), ["first", "half \u{1f600} of ", "\u{1f600} rest", "xyz"]);
    let uid = world.records()[3]["log.record.uid"].as_str().unwrap().to_owned();
    let offset = u64::from_str_radix(uid.rsplit('-').next().unwrap(), 16).unwrap();
    assert_eq!(offset, fs::metadata(&path).unwrap().len() - 8, "in the file's bytes");
    assert_audit(&world, 0);
}

fn zeros_of_utf_16_are_no_holes_and_holes_in_it_are_skipped(world: World) {
    for (name, wide) in [("little", Little), ("big", Big)] {
        let file = File::create(world.path(&format!("plain/{name}.log"))).unwrap();
        // Longer than what is read at once, and before the hole a line without its end.
        let before = wide.marked(&(lines(name, 0..20_000) + name + " half"));
        file.write_all_at(&before, 0).unwrap();
        // U+0100 and U+4E00 begin or end with a zero byte.
        let from = (1 << 20) + (before.len() as u64).next_multiple_of(4096);
        file.write_all_at(&wide.of(&format!("\u{100}\u{4e00} {name}\n")), from).unwrap();
        let behind = wide.of(&lines(name, 20_000..20_100));
        file.write_all_at(&behind, from + 2 * (4 + name.len() as u64)).unwrap();
    }
    let agent = world.start();
    world.wait_for(2 * 20_102);
    assert_eq!(agent.stop(), Some(0));
    let mut holes = 0;
    for (name, wide) in [("little", Little), ("big", Big)] {
        let wanted = lines(name, 0..20_000)
            + &format!("{name} half\n\u{100}\u{4e00} {name}\n")
            + &lines(name, 20_000..20_100);
        let got: Vec<_> = bodies(&world).into_iter().filter(|it| it.contains(name)).collect();
        let at = got.iter().zip(wanted.lines()).position(|(a, b)| a != b);
        assert_eq!(at, None, "{:?}", &got[at.unwrap_or(0)..][..2]);
        assert_eq!(got.len(), wanted.lines().count());
        // All but the text: the newline behind "half" is not there.
        let size = fs::metadata(world.path(&format!("plain/{name}.log"))).unwrap().len();
        holes += size - (wide.marked(&wanted).len() as u64 - 2);
    }
    assert_audit(&world, holes);
}

fn zeros_written_ahead_of_utf_16_are_left_alone(world: World) {
    let path = world.path("plain/app.log");
    let file = File::create(&path).unwrap();
    let mut written = Little.marked(&lines("app", 0..30));
    file.write_all_at(&written, 0).unwrap();
    file.write_all_at(&[0; 5000], written.len() as u64).unwrap();
    let agent = world.start();
    world.wait_for(30);
    // A writer that allocates ahead fills them from where they begin.
    let mut write = |n| {
        let line = Little.of(&lines("app", n..n + 1));
        file.write_all_at(&line, written.len() as u64).unwrap();
        written.extend(line);
    };
    for n in 30..33 {
        write(n);
        world.wait_for(n + 1);
    }
    agent.kill();
    let agent = world.start();
    write(33);
    world.wait_for(34);
    assert_eq!(agent.stop(), Some(0));
    assert_lines(&world, &lines("app", 0..34));
    assert_audit(&world, 0);
}

fn zeros_before_what_was_just_written_in_utf_16_are_waited_for(world: World) {
    let path = world.path("plain/app.log");
    let file = File::create(&path).unwrap();
    file.set_len(100_000).unwrap();
    let agent = world.start();
    world.wait_for_first_look();
    let text = Big.marked(&lines("app", 0..400));
    // The mark comes last, and gaps begin and end in the middle of a character too.
    let gaps = [(0, 1_000), (2_001, 2_003), (3_000, 3_601), (5_003, 9_000)];
    let mut at = 0;
    for (start, end) in gaps {
        file.write_all_at(&text[at..start], at as u64).unwrap();
        file.write_all_at(&text[end..end + 500], end as u64).unwrap();
        std::thread::sleep(Duration::from_millis(150));
        file.write_all_at(&text[start..end], start as u64).unwrap();
        at = end + 500;
    }
    file.write_all_at(&text[at..], at as u64).unwrap();
    world.wait_for(400);
    assert_eq!(agent.stop(), Some(0));
    assert_lines(&world, &lines("app", 0..400));
    assert_audit(&world, 0);
}

#[test]
fn a_mark_is_not_part_of_the_first_record() {
    let world = World::new("auto");
    let bytes: [(&str, Vec<u8>); 4] = [
        ("a", "\u{feff}a \u{fc}\n".into()),
        ("b", Little.marked("b \u{fc}\n")),
        ("c", Big.marked("c \u{fc}\n")),
        ("d", "d \u{fc}\n".into()),
    ];
    for (name, bytes) in &bytes {
        fs::write(world.path(&format!("plain/{name}.log")), bytes).unwrap();
    }
    // A mark that comes a byte at a time, and a file that holds nothing else.
    let slow = world.path("plain/slow.log");
    fs::write(world.path("plain/empty.log"), "\u{feff}").unwrap();
    let agent = world.start();
    for byte in "\u{feff}slow\n".bytes() {
        append(&slow, [byte]);
        std::thread::sleep(Duration::from_millis(60));
    }
    world.wait_for(5);
    assert_eq!(agent.stop(), Some(0));
    let mut got = bodies(&world);
    got.sort();
    assert_eq!(got, ["a \u{fc}", "b \u{fc}", "c \u{fc}", "d \u{fc}", "slow"]);
    for record in world.records() {
        let uid = record["log.record.uid"].as_str().unwrap();
        let marked = match body(&record).chars().next() {
            Some('d') => "-0",
            Some('b' | 'c') => "-2",
            _ => "-3",
        };
        assert!(uid.ends_with(marked), "{record}");
    }
    assert_audit(&world, 0);
}

#[test]
fn text_in_other_encodings_is_read_as_such() {
    let mut world = World::new("auto");
    let dir = world.path("plain");
    let mut wanted = String::new();
    world.files = String::new();
    for (name, encoding, text) in [
        ("gbk", encoding_rs::GBK, "\u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}"),
        ("gb18030", encoding_rs::GB18030, "\u{4f60}\u{1f600}\u{20087}"),
        ("big5", encoding_rs::BIG5, "\u{4f60}\u{597d}"),
        ("shift_jis", encoding_rs::SHIFT_JIS, "\u{8868}\u{30bd}\u{5341}"),
        ("euc-kr", encoding_rs::EUC_KR, "\u{c548}\u{b155}"),
        ("windows-1252", encoding_rs::WINDOWS_1252, "na\u{ef}ve \u{20ac}"),
        ("koi8-r", encoding_rs::KOI8_R, "\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442}"),
    ] {
        world.files +=
            &format!("    - paths: [\"{}/{name}.log\"]\n      encoding: {name}\n", dir.display());
        let lines: String = (0..100).map(|n| format!("{name} {n} {text}\n")).collect();
        let (bytes, _, lossy) = encoding.encode(&lines);
        assert!(!lossy, "{name}");
        fs::write(dir.join(format!("{name}.log")), bytes).unwrap();
        wanted += &lines;
    }
    let agent = world.start();
    world.wait_for(700);
    assert_eq!(agent.stop(), Some(0));
    let (mut got, mut wanted): (Vec<_>, Vec<_>) =
        (bodies(&world), wanted.lines().map(str::to_owned).collect());
    got.sort();
    wanted.sort();
    assert_eq!(got, wanted);
    assert_audit(&world, 0);
}

#[test]
fn long_lines_of_utf_16_are_split_between_characters() {
    let mut world = World::new("auto");
    world.extra = "read:\n  max_line_bytes: 4KiB\n".into();
    let path = world.path("plain/app.log");
    let long = "x".to_owned() + &"\u{1f600}".repeat(5_000);
    append(&path, Little.marked(&format!("{long}\nshort\n")));
    let agent = world.start();
    world.wait_for(6);
    assert_eq!(agent.stop(), Some(0));
    let got = bodies(&world);
    assert_eq!(got[..got.len() - 1].concat(), long);
    assert_eq!(got.last().unwrap(), "short");
    assert_audit(&world, 0);
}

#[test]
fn each_life_of_a_file_says_for_itself_what_it_is_in() {
    let world = World::new("auto");
    let path = world.path("plain/app.log");
    let agent = world.start();
    let lives = [
        Little.marked(&lines("app", 0..30)),
        lines("app", 30..60).into_bytes(),
        Big.marked(&lines("app", 60..90)),
        format!("\u{feff}{}", lines("app", 90..120)).into_bytes(),
    ];
    for (number, life) in lives.iter().enumerate() {
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(&path).unwrap();
        file.write_all_at(life, 0).unwrap();
        world.wait_for(30 * (number + 1));
    }
    assert_eq!(agent.stop(), Some(0));
    assert_lines(&world, &lines("app", 0..120));
}

/// Reading begins behind the mark, at the file's end, and for a second sink in the middle.
#[test]
fn a_mark_is_heeded_wherever_reading_begins() {
    let mut world = World::new("auto");
    world.extra = "read:\n  start: end\n".into();
    let path = world.path("plain/app.log");
    append(&path, Big.marked(&lines("app", 0..30)));
    let agent = world.start();
    world.wait_for_first_look();
    append(&path, Big.of(&lines("app", 30..60)));
    world.wait_for(30);
    let second = world.path("out/second.ndjson");
    world.sinks += &format!("  second:\n    type: file\n    path: {}\n", second.display());
    world.write_config();
    agent.signal(rustix::process::Signal::HUP);
    world.wait_for_log("configuration was reloaded");
    // Where the second one begins, the next line is its first.
    let mut end = 60;
    while fs::metadata(&second).map_or(0, |about| about.len()) == 0 {
        append(&path, Big.of(&lines("app", end..end + 1)));
        end += 1;
        world.wait_for(end - 30);
        std::thread::sleep(Duration::from_millis(20));
        assert!(end < 1_000, "{}", world.log());
    }
    append(&path, Big.of(&lines("app", end..end + 30)));
    world.wait_for(end);
    assert_eq!(agent.stop(), Some(0));
    assert_lines(&world, &lines("app", 30..end + 30));
    let text = fs::read_to_string(second).unwrap();
    let got: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wanted = lines("app", 0..end + 30);
    let wanted: Vec<&str> = wanted.lines().collect();
    let got: Vec<&str> = got.iter().map(body).collect();
    assert_eq!(got, wanted[wanted.len() - got.len()..], "whole lines, to the last");
    assert!(got.len() > 30);
}

/// An operator sees what was forgotten, and configures it while the agent runs.
#[test]
fn a_reload_changes_what_is_configured_for_a_file_that_is_read() {
    let mut world = World::new("auto");
    world.extra = "read:\n  unfinished_after: 10m\n".into();
    let path = world.path("plain/app.log");
    append(&path, Little.of("one\n"));
    let agent = world.start();
    world.wait_for(1);
    assert_eq!(bodies(&world), ["o\0n\0e\0"], "nothing says that it is UTF-16");
    set_encoding(&mut world, "utf-16\n      attributes: {service.name: shop}");
    world.write_config();
    agent.signal(rustix::process::Signal::HUP);
    world.wait_for_log("configuration was reloaded");
    // The reader is told within moments. The zero of the first newline belongs to what follows.
    let mut count = 1;
    while bodies(&world).last().is_none_or(|last| last != "probe") {
        append(&path, Little.of("probe\n"));
        count += 1;
        world.wait_for(count);
        assert!(count < 100, "{:?} {}", bodies(&world), world.log());
    }
    append(&path, Little.of("\u{4f60}two\nthree\n"));
    let records = world.wait_for(count + 2);
    assert_eq!(bodies(&world)[count..], ["\u{4f60}two", "three"]);
    assert!(records[count..].iter().all(|record| record["service.name"] == "shop"), "{records:?}");
    agent.kill();
    append(&path, Little.of("four\n"));
    let agent = world.start();
    world.wait_for(count + 3);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bodies(&world)[count..], ["\u{4f60}two", "three", "four"]);
    assert_audit(&world, 0);
}

#[test]
fn an_encoding_that_cannot_be_read_is_refused_with_those_that_can() {
    let mut world = World::new("auto");
    set_encoding(&mut world, "klingon");
    let output = world.everyline(&["validate"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(
        said.contains("`klingon` is not an encoding that can be read; use one of utf-8, "),
        "{said}"
    );
    assert!(
        said.contains("utf-16le") && said.contains("gbk") && said.contains("shift_jis"),
        "{said}"
    );
    // Formats of container runtimes are UTF-8.
    let mut world = World::new("auto");
    set_encoding(&mut world, "gbk\n      format: cri");
    let said = String::from_utf8_lossy(&world.everyline(&["validate"]).stderr).into_owned();
    assert!(said.contains("`encoding` is for plain files only"), "{said}");
}
