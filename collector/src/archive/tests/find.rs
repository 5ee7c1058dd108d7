//! Search against a naive one: every line parsed by serde_json, every body matched by the regular
//! expression, every time parsed.

use std::{
    io::{self, Write},
    time::Duration,
};

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;
use tempfile::tempdir;

use super::*;
use crate::archive::search::{Error, Names, Options, Pattern, Query, Search, Show, Summary};

const PODS: [&str; 3] = ["web-1", "web-2", "db-0"];
/// 2026-01-31T10:00:00Z.
const START: i64 = 1_769_853_600;

#[derive(Debug, Clone)]
struct Entry {
    body: String,
    pod: usize,
    /// After `START`.
    milliseconds: i64,
    stderr: bool,
    /// Encode the body with every character escaped, as an odd encoder may.
    escape_all: bool,
}

impl Entry {
    fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(START * 1_000 + self.milliseconds).unwrap()
    }

    fn line(&self) -> String {
        let body = match self.escape_all {
            true => self.body.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect(),
            false => serde_json::to_string(&self.body).unwrap().trim_matches('"').to_owned(),
        };
        // A body that begins or ends with a quote loses its backslash's partner to the trim above.
        let body = match serde_json::from_str::<String>(&format!("\"{body}\"")) {
            Ok(value) if value == self.body => format!("\"{body}\""),
            _ => serde_json::to_string(&self.body).unwrap(),
        };
        let (time, pod) = (self.time(), PODS[self.pod]);
        let stream = if self.stderr { "stderr" } else { "stdout" };
        format!(
            r#"{{"timestamp":"{time}","log.record.uid":"1-0","body":{body},"everyline.split":2,"log.iostream":"{stream}","k8s.namespace.name":"shop","k8s.pod.name":"{pod}","k8s.container.name":"app"}}"#
        )
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let body = prop_oneof![
        4 => "[abekns ABEKNS\"\\\\/<&:\n\t\u{1b}éK\u{17f}😀]{0,12}",
        1 => "(error|Error|connection refused|web|stderr|timestamp){1,2}",
        1 => any::<String>(),
    ];
    (body, 0..PODS.len(), 0_i64..10_000, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(body, pod, milliseconds, stderr, escape_all)| Entry {
            body,
            pod,
            milliseconds,
            stderr,
            escape_all,
        },
    )
}

fn pattern() -> impl Strategy<Value = (String, Options)> {
    let text = prop_oneof![
        Just("error".to_owned()),
        Just("connection refused|Error".to_owned()),
        Just("^a.*b$".to_owned()),
        Just("(?i)bea|éK".to_owned()),
        Just(r#"\bab?e\b|"[ab]"#.to_owned()),
        Just("n[ab]|[^a]b".to_owned()),
        Just("(ab|be)+n?".to_owned()),
        "[abekns ABE\"/<é]{1,4}",
    ];
    (text, any::<bool>(), any::<bool>())
        .prop_map(|(text, ignore_case, fixed)| (text, Options { ignore_case, fixed }))
}

/// Writes entries into an archive, so many a frame and so many bytes a segment.
fn archive(dir: &Path, entries: &[Entry], a_frame: usize) {
    let mut writer = open(dir, 2_000, None);
    for chunk in entries.chunks(a_frame) {
        let raw: String = chunk.iter().map(|entry| entry.line() + "\n").collect();
        let payload = zstd::bulk::compress(raw.as_bytes(), 1).unwrap();
        let seconds = chunk.iter().map(|entry| entry.time().as_second());
        let times = TimeBounds { from: seconds.clone().min().unwrap(), to: seconds.max().unwrap() };
        let mut labels: Vec<Label> = chunk
            .iter()
            .map(|entry| Label {
                namespace: Some("shop".into()),
                pod: Some(PODS[entry.pod].into()),
                container: Some("app".into()),
            })
            .collect();
        labels.sort();
        labels.dedup();
        let header = Header::new(&payload, raw.len(), 0, times, labels);
        writer.append(&[(header, payload.into())]).unwrap();
    }
}

fn run(dir: &Path, query: &Query, show: Show) -> (Vec<String>, Summary) {
    let search = Search { query: query.clone(), show, limit: None, follow: false, threads: 2 };
    let mut out = Vec::new();
    let summary = search.run(dir, &mut out).unwrap();
    (String::from_utf8(out).unwrap().lines().map(str::to_owned).collect(), summary)
}

const AS_STORED: Show = Show::Json { terminal: false };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn finds_what_a_naive_search_finds(
        entries in prop::collection::vec(entry(), 1..60),
        a_frame in 1_usize..12,
        wanted in prop::option::of(pattern()),
        invert: bool,
        since in prop::option::of(-500_i64..10_500),
        until in prop::option::of(-500_i64..10_500),
        pod in prop::option::of(prop::sample::select(vec!["web-*", "web-1", "*-0", "x", "*"])),
        stream in prop::option::of(prop::sample::select(vec!["stdout", "stderr"])),
    ) {
        let dir = tempdir().unwrap();
        archive(dir.path(), &entries, a_frame);
        let at = |ms: Option<i64>| ms.map(|ms| Timestamp::from_millisecond(START * 1_000 + ms).unwrap());
        let compiled = wanted.as_ref().map(|(text, options)| Pattern::new(text, *options));
        let Ok(compiled) = compiled.transpose() else { return Ok(()) };
        let query = Query {
            invert: invert && compiled.is_some(),
            pattern: compiled,
            since: at(since),
            until: at(until),
            pods: Names::new(&pod.map(str::to_owned).into_iter().collect::<Vec<_>>()).unwrap(),
            stream: stream.map(str::to_owned),
            ..Query::default()
        };
        let regex = wanted.map(|(text, options)| {
            let text = if options.fixed { regex::escape(&text) } else { text };
            regex::RegexBuilder::new(&text).case_insensitive(options.ignore_case).build().unwrap()
        });
        let glob = pod.map(|pod| globset::Glob::new(pod).unwrap().compile_matcher());
        let naive = |line: &String| {
            let value: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| value[key].as_str().unwrap();
            let time: Timestamp = text("timestamp").parse().unwrap();
            regex.as_ref().is_none_or(|regex| regex.is_match(text("body")) != invert)
                && query.since.is_none_or(|since| since <= time)
                && query.until.is_none_or(|until| time <= until)
                && glob.as_ref().is_none_or(|glob| glob.is_match(text("k8s.pod.name")))
                && stream.is_none_or(|stream| stream == text("log.iostream"))
        };
        let expected: Vec<String> = entries.iter().map(Entry::line).filter(naive).collect();
        let (found, summary) = run(dir.path(), &query, AS_STORED);
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(summary.found, expected.len() as u64);
        prop_assert_eq!(summary.frames + summary.skipped, entries.len().div_ceil(a_frame) as u64);
        let (counted, summary) = run(dir.path(), &query, Show::Nothing);
        prop_assert_eq!((counted.len(), summary.found), (0, expected.len() as u64));
    }
}

fn plain(number: usize, pod: usize) -> Entry {
    let milliseconds = i64::try_from(number).unwrap() * 1_000;
    Entry { body: format!("number {number}"), pod, milliseconds, stderr: false, escape_all: false }
}

#[test]
fn headers_skip_what_cannot_match() {
    let dir = tempdir().unwrap();
    let entries: Vec<_> = (0..60).map(|number| plain(number, number / 20)).collect();
    archive(dir.path(), &entries, 5);
    let at = |second| Timestamp::from_second(START + second).ok();
    let query = Query { since: at(12), until: at(17), ..Query::default() };
    let (found, summary) = run(dir.path(), &query, AS_STORED);
    assert_eq!((found.len(), summary.frames, summary.skipped), (6, 2, 10));
    let query = Query { pods: Names::new(&["db-*".into()]).unwrap(), ..Query::default() };
    let (found, summary) = run(dir.path(), &query, AS_STORED);
    assert_eq!((found.len(), summary.frames, summary.skipped), (20, 4, 8));
}

#[test]
fn a_limit_ends_the_search_after_the_first_lines() {
    let dir = tempdir().unwrap();
    let entries: Vec<_> = (0..500).map(|number| plain(number, 0)).collect();
    archive(dir.path(), &entries, 7);
    for limit in [0, 1, 7, 10, 499, 500, 501] {
        let search = Search {
            query: Query::default(),
            show: Show::Text { color: false, zone: crate::zone::Zone::UTC },
            limit: Some(limit),
            follow: false,
            threads: 2,
        };
        let mut out = Vec::new();
        let summary = search.run(dir.path(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = usize::try_from(limit).unwrap().min(500);
        assert_eq!((text.lines().count(), summary.found), (expected, expected as u64));
        for (number, line) in text.lines().enumerate() {
            assert!(line.ends_with(&format!("shop/web-1/app│ number {number}")), "{line}");
        }
    }
}

#[test]
fn strangers_lines_are_searched_as_they_are() {
    let dir = tempdir().unwrap();
    let lines =
        ["", "plain needle", "{\"body\":\"nee", "{\"body\":7,\"x\":\"needle\"}", "{}", "\\"];
    open(dir.path(), 1 << 20, None).append(&[frame(&lines, "web", 5)]).unwrap();
    let query = Query {
        pattern: Some(Pattern::new("needle", Options::default()).unwrap()),
        ..Query::default()
    };
    let (found, _) = run(dir.path(), &query, AS_STORED);
    assert_eq!(found, ["plain needle", "{\"body\":7,\"x\":\"needle\"}"]);
    assert_eq!(run(dir.path(), &Query::default(), AS_STORED).0, lines[1..]);
}

#[test]
fn damage_is_counted_and_passed_over() {
    let dir = tempdir().unwrap();
    let entries: Vec<_> = (0..20).map(|number| plain(number, 0)).collect();
    archive(dir.path(), &entries, 5);
    let path = &read::segments(dir.path()).unwrap()[0].path;
    let mut bytes = std::fs::read(path).unwrap();
    bytes[150] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let (found, summary) = run(dir.path(), &Query::default(), AS_STORED);
    assert_eq!((found.len(), summary.damaged), (15, 1));
    assert_eq!(found[0], entries[5].line());
}

/// Passes on what is written; closed after so many lines, as `head` does.
struct Head {
    lines: usize,
    seen: crossbeam_channel::Sender<String>,
}

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in std::str::from_utf8(bytes).unwrap().lines() {
            if self.lines == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.lines -= 1;
            self.seen.send(line.to_owned()).unwrap();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn following_shows_new_lines_through_new_segments_and_a_restarted_writer() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("archive");
    let (seen, lines) = crossbeam_channel::unbounded();
    let (ended, end) = crossbeam_channel::bounded(1);
    let followed = path.clone();
    // Not a scoped thread: if this test fails, nobody would end it.
    std::thread::spawn(move || {
        let search = Search {
            query: Query::default(),
            show: AS_STORED,
            limit: None,
            follow: true,
            threads: 2,
        };
        // It waits for an archive that is not there yet.
        ended.send(search.run(&followed, &mut Head { lines: 42, seen })).unwrap();
    });
    let patience = Duration::from_secs(20);
    let next = || lines.recv_timeout(patience).unwrap();
    let append = |writer: &mut Writer, number| {
        writer.append(&[frame(&[line(number)], "web", 5)]).unwrap()[0].encode()
    };
    let mut writer = open(&path, 500, None);
    for number in 0..40 {
        append(&mut writer, number);
        if number % 10 == 9 {
            for number in number - 9..=number {
                assert_eq!(next(), line(number));
            }
        }
    }
    // A crash before a commit: what comes instead of the lost frame is seen, too.
    let committed = writer.position().encode();
    append(&mut writer, 40);
    assert_eq!(next(), line(40));
    drop(writer);
    let mut writer = open(&path, 500, Some(&committed));
    append(&mut writer, 41);
    assert_eq!(next(), line(41));
    // Its reader is gone.
    append(&mut writer, 42);
    match end.recv_timeout(patience).unwrap() {
        Err(Error::Write(error)) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
        other => panic!("{other:?}"),
    }
}
