//! What is delivered, to the byte: records of a fixed corpus. Three sinks get the same.
//!
//! Only what differs from run to run is replaced: the directory, files' ids, and the time at which a line without
//! one was read. `EVERYLINE_BLESS=1` writes the file anew; `EVERYLINE_BINARY=PATH` takes another agent, to see
//! what it makes of the same.

use std::{fs, path::Path, process::Command};

use collector::archive::read::segments;

use crate::{
    harness::{World, patience},
    receiver::Receiver,
};

const TIME: &str = "2026-11-22T01:02:03.456789012Z";

/// Messages that a log may hold, each a line.
fn messages() -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = [
        "a plain line",
        "",
        " blanks before and behind ",
        "tabs\tand a carriage return\r",
        r#"quotes " and backslashes \ and C:\new\temp"#,
        "\u{1b}[31mred\u{1b}[0m \u{7} \u{8} \u{c} \u{7f}",
        "\u{fc}ber \u{4f60}\u{597d} \u{1f600} \u{2028} \u{feff} \u{0}\u{0}\u{0} three zeros",
        "{\"level\":\"info\",\"msg\":\"JSON in a line\"}",
        "</script> & <b>",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    messages.push(b"not UTF-8: \xff\xfe \xc3\x28 \xe2\x82 \xf0\x9f\x98 end".to_vec());
    messages.push(b"cut surrogate \xed\xa0\x80 and too long \xc0\xaf".to_vec());
    // Longer than a message may be.
    let long: String = (0..900).map(|n| format!("{n} ")).collect();
    messages.push(long.into_bytes());
    messages
}

fn cri() -> Vec<u8> {
    let mut log = Vec::new();
    let mut line = |stream: &str, tag: &str, message: &[u8]| {
        log.extend(format!("{TIME} {stream} {tag} ").bytes());
        log.extend(message);
        log.push(b'\n');
    };
    for (n, message) in messages().iter().enumerate() {
        line(["stdout", "stderr"][n % 2], "F", message);
    }
    line("stdout", "P", b"one ");
    line("stderr", "P", b"another ");
    line("stdout", "P", b"message ");
    line("stderr", "F", b"stream");
    line("stdout", "F", b"of three");
    line("stdout", "F:tag", b"with a tag");
    log.extend(b"2026-11-22T03:02:03+02:00 stdout F another zone\n");
    log.extend(b"not a line of a runtime\n\n2026-13-45 stdout F no time\n");
    log.extend([0; 700]);
    log.extend(format!("{TIME} stdout F behind zeros\n{TIME} stdout P no end \n").bytes());
    log
}

fn docker() -> Vec<u8> {
    let mut log = Vec::new();
    let mut line = |stream: &str, message: &str| {
        let message = serde_json::to_string(message).unwrap();
        let text = format!(r#"{{"log":{message},"stream":"{stream}","time":"{TIME}"}}"#);
        log.extend(text.bytes());
        log.push(b'\n');
    };
    for (n, message) in messages().iter().enumerate() {
        let message = String::from_utf8_lossy(message);
        line(["stdout", "stderr"][n % 2], &format!("{message}\n"));
    }
    line("stdout", "two ");
    line("stderr", "other\n");
    line("stdout", "parts\n");
    let odd = [
        r#"{"log":"\u00fc \ud83d\ude00 \ud800 \/ \u0000\n","stream":"stdout","time":"TIME"}"#,
        r#"{"time":"TIME","attrs":{"tag":"x"},"stream":"stderr","log":"in another order\n"}"#,
        r#"{ "log" : "blanks\n" , "stream" : "stdout" , "time" : "TIME" }"#,
        r#"{"log":"no time\n","stream":"stdout"}"#,
        r#"{"log":"half"#,
        "no JSON",
    ];
    for text in odd {
        log.extend(text.replace("TIME", TIME).bytes());
        log.push(b'\n');
    }
    log.extend([0; 20]);
    log.extend(format!(r#"{{"log":"behind zeros\n","stream":"stdout","time":"{TIME}"}}"#).bytes());
    log.extend(
        format!("\n{{\"log\":\"no end\",\"stream\":\"stdout\",\"time\":\"{TIME}\"}}\n").bytes(),
    );
    log
}

fn plain() -> Vec<u8> {
    let mut log = Vec::new();
    for message in messages() {
        log.extend(message);
        log.push(b'\n');
    }
    log.extend(b"before zeros");
    log.extend([0; 600]);
    log.extend(b"behind zeros\n");
    log.extend([0; 16]);
    log.extend(b"behind few\nno end");
    log
}

fn utf_16() -> Vec<u8> {
    let text: String = messages().iter().map(|it| String::from_utf8_lossy(it) + "\n").collect();
    format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Lines of one log after the other, each log's in its order, without what differs from run to run.
fn same_each_time(text: &str, dir: &Path) -> String {
    let text = text.replace(&*dir.to_string_lossy(), "DIR");
    let mut lines: Vec<(String, String)> = text
        .lines()
        .map(|line| {
            let log = after(line, "\"log.file.path\":\"").unwrap_or_default();
            (log.split('"').next().unwrap_or_default().to_owned(), without_ids(line))
        })
        .collect();
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines.into_iter().map(|(_, line)| line + "\n").collect()
}

fn after<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_once(key).map(|(_, rest)| rest)
}

fn without_ids(line: &str) -> String {
    let id = "\"log.record.uid\":\"";
    let time = "\"observed_timestamp\":\"";
    let mut line = line.to_owned();
    for (key, length, name) in [(id, 16, "FILE"), (time, TIME.len(), "NOW")] {
        if let Some(at) = line.find(key).map(|at| at + key.len()) {
            line.replace_range(at..at + length, name);
        }
    }
    line
}

fn is_golden(sink: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/records.ndjson");
    if std::env::var_os("EVERYLINE_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    for (number, (got, wanted)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(got, wanted, "{sink}, line {}", number + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "{sink}");
    assert!(text == golden, "{sink}");
}

#[test]
fn records_are_what_they_always_were() {
    let mut world = World::new("auto");
    let receiver = Receiver::start(&[]);
    world.extra = "read:\n  max_line_bytes: 2KiB\n  unfinished_after: 1s\n".into();
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    world.sinks += "  store:\n    type: archive\n";
    world.files += &format!(
        "    - paths: [\"{}/plain/*.wide\"]\n      encoding: utf-16be\n",
        world.dir.path().display()
    );
    fs::write(world.container("a").live(), cri()).unwrap();
    let id = "c0ffee".repeat(10) + "c0ff";
    let dir = world.path("docker").join(&id);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(format!("{id}-json.log")), docker()).unwrap();
    fs::write(world.path("plain/app.log"), plain()).unwrap();
    fs::write(world.path("plain/app.wide"), utf_16()).unwrap();
    let binary = std::env::var_os("EVERYLINE_BINARY");
    let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_everyline").into());
    let agent = world.start_by(Command::new(binary));
    // Each log's last line has no end.
    let ended = |text: &str| text.matches("no end").count() == 3;
    let until = std::time::Instant::now() + patience();
    let file = || fs::read_to_string(world.path("out/out.ndjson")).unwrap_or_default();
    while !(ended(&file()) && ended(&receiver.text())) {
        assert!(std::time::Instant::now() < until, "{}\n{}", file(), world.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(agent.stop(), Some(0));
    let mut archive = Vec::new();
    for segment in segments(&world.path("state/archive")).unwrap() {
        archive.extend(zstd::decode_all(fs::File::open(segment.path).unwrap()).unwrap());
    }
    let dir = world.dir.path();
    is_golden("file", &same_each_time(&file(), dir));
    is_golden("http", &same_each_time(&receiver.text(), dir));
    is_golden("archive", &same_each_time(&String::from_utf8(archive).unwrap(), dir));
}
