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
use crate::archive::search::{
    Error, Excluded, Names, Options, Order, Pattern, Query, Search, Show, Summary,
};

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
        let payload = packed(&raw);
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
    let search = Search { query: query.clone(), show, threads: 2, ..Search::default() };
    found_by(&search, dir)
}

fn found_by(search: &Search, dir: &Path) -> (Vec<String>, Summary) {
    let mut out = Vec::new();
    let summary = search.run(dir, &mut out).unwrap();
    (String::from_utf8(out).unwrap().lines().map(str::to_owned).collect(), summary)
}

/// In the order of their times; a pod's lines stay in its own.
fn in_order<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<&'a Entry> {
    let mut latest = [i64::MIN; PODS.len()];
    let key = |entry: &'a Entry| {
        latest[entry.pod] = latest[entry.pod].max(entry.milliseconds);
        (latest[entry.pod], entry)
    };
    let mut keyed: Vec<(i64, &Entry)> = entries.into_iter().map(key).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, entry)| entry).collect()
}

fn lines<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<String> {
    entries.into_iter().map(Entry::line).collect()
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
        let naive = |entry: &&Entry| {
            let value: Value = serde_json::from_str(&entry.line()).unwrap();
            let text = |key: &str| value[key].as_str().unwrap();
            let time: Timestamp = text("timestamp").parse().unwrap();
            regex.as_ref().is_none_or(|regex| regex.is_match(text("body")) != invert)
                && query.since.is_none_or(|since| since <= time)
                && query.until.is_none_or(|until| time <= until)
                && glob.as_ref().is_none_or(|glob| glob.is_match(text("k8s.pod.name")))
                && stream.is_none_or(|stream| stream == text("log.iostream"))
        };
        let expected = lines(in_order(entries.iter().filter(naive)));
        let (found, summary) = run(dir.path(), &query, AS_STORED);
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(summary.found, expected.len() as u64);
        prop_assert_eq!(summary.frames + summary.skipped, entries.len().div_ceil(a_frame) as u64);
        let (counted, summary) = run(dir.path(), &query, Show::Nothing);
        prop_assert_eq!((counted.len(), summary.found), (0, expected.len() as u64));
    }
}

/// What a search over several logs whose clocks step back and forth must come to.
#[derive(Debug, Clone)]
struct Asked {
    entries: Vec<Entry>,
    a_frame: usize,
    room: usize,
    tail: Option<u64>,
    limit: Option<u64>,
    before: usize,
    after: usize,
}

fn asked() -> impl Strategy<Value = Asked> {
    let body = prop::sample::select(vec!["hit", "miss", "miss", "miss"]);
    let entry = (body, 0..PODS.len(), 0_i64..10_000).prop_map(|(body, pod, milliseconds)| Entry {
        body: body.to_owned(),
        pod,
        milliseconds,
        stderr: false,
        escape_all: false,
    });
    // Of some archives nearly all is in order, as an agent that keeps up writes them.
    let entries = (prop::collection::vec(entry, 1..120), any::<bool>(), 0_i64..500);
    let entries = entries.prop_map(|(mut entries, in_order, late)| {
        for (number, entry) in (0_i64..).zip(&mut entries).filter(|_| in_order) {
            entry.milliseconds = number * 80 + entry.milliseconds % (late + 1);
        }
        entries
    });
    let few = || prop::option::of(0_u64..30);
    let room = prop::sample::select(vec![1_usize, 800, 3_000, 1 << 20]);
    (entries, 1_usize..12, room, few(), few(), 0_usize..4, 0_usize..4).prop_map(
        |(mut entries, a_frame, room, tail, limit, before, after)| {
            for (number, entry) in entries.iter_mut().enumerate() {
                entry.body += &format!(" {number}");
            }
            Asked { entries, a_frame, room, tail, limit, before, after }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn lines_come_by_time_in_whatever_room(asked in asked(), newest: bool, pattern: bool) {
        let dir = tempdir().unwrap();
        archive(dir.path(), &asked.entries, asked.a_frame);
        let pattern = pattern.then(|| Pattern::new("hit", Options::default()).unwrap());
        let hit = |entry: &&Entry| pattern.is_none() || entry.body.starts_with("hit");
        let mut expected = lines(in_order(asked.entries.iter().filter(hit)));
        let tail = asked.tail.map_or(usize::MAX, |tail| usize::try_from(tail).unwrap());
        expected.drain(..expected.len().saturating_sub(tail));
        if newest {
            expected.reverse();
        }
        expected.truncate(asked.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap()));
        let order = if newest { Order::Newest } else { Order::Oldest };
        let search = Search {
            query: Query { pattern: pattern.clone(), ..Query::default() },
            show: AS_STORED,
            order,
            tail: asked.tail,
            limit: asked.limit,
            threads: 2,
            room: asked.room,
            ..Search::default()
        };
        let (found, summary) = found_by(&search, dir.path());
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(summary.found, expected.len() as u64);
        let (none, counted) = found_by(&Search { show: Show::Nothing, ..search }, dir.path());
        prop_assert_eq!((none.len(), counted.found), (0, summary.found));
    }

    #[test]
    fn what_is_around_a_line_is_of_its_log_in_its_order_and_shown_once(
        asked in asked(),
        newest: bool,
    ) {
        let dir = tempdir().unwrap();
        archive(dir.path(), &asked.entries, asked.a_frame);
        let Asked { before, after, .. } = asked;
        let pattern = Some(Pattern::new("hit", Options::default()).unwrap());
        let search = Search {
            query: Query { pattern, ..Query::default() },
            show: AS_STORED,
            order: if newest { Order::Newest } else { Order::Oldest },
            before,
            after,
            threads: 2,
            room: asked.room,
            ..Search::default()
        };
        let (found, _) = found_by(&search, dir.path());
        for (pod, name) in PODS.iter().enumerate() {
            let log: Vec<&Entry> = asked.entries.iter().filter(|entry| entry.pod == pod).collect();
            let hits: Vec<usize> =
                (0..log.len()).filter(|index| log[*index].body.starts_with("hit")).collect();
            let near = |index: &usize| {
                hits.iter().any(|hit| *index + before >= *hit && *index <= *hit + after)
            };
            let mut expected: Vec<String> =
                (0..log.len()).filter(near).map(|index| log[index].line()).collect();
            if newest {
                expected.reverse();
            }
            let label = format!("\"{name}\"");
            let shown: Vec<&String> = found.iter().filter(|line| line.contains(&label)).collect();
            prop_assert_eq!(shown, expected.iter().collect::<Vec<_>>());
        }
        let hits: Vec<&String> = found.iter().filter(|line| line.contains("\"hit")).collect();
        let (alone, _) = found_by(&Search { before: 0, after: 0, ..search.clone() }, dir.path());
        prop_assert_eq!(hits, alone.iter().collect::<Vec<_>>());
        // The newest hits have their whole context, though others are near.
        let tail = asked.tail.unwrap_or(1);
        let (found, _) = found_by(&Search { tail: Some(tail), after: 0, ..search }, dir.path());
        let hits = found.iter().filter(|line| alone.contains(line)).count();
        prop_assert!(hits as u64 >= tail.min(alone.len() as u64));
    }
}

#[test]
fn many_logs_whose_clocks_step_back_together_stay_in_their_order() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 8_000, None);
    let mut logs: Vec<Vec<String>> = vec![Vec::new(); 40];
    for round in 0..16_i64 {
        // A node's clock that is set back by five seconds at once, in the middle.
        let second = START + if round < 8 { round } else { round - 5 };
        let mut round_lines = Vec::new();
        for (pod, log) in logs.iter_mut().enumerate() {
            let time = Timestamp::from_second(second).unwrap();
            let line = format!(
                r#"{{"timestamp":"{time}","log.record.uid":"1-0","body":"{round}","k8s.pod.name":"p{pod}"}}"#
            );
            log.push(line.clone());
            round_lines.push(line);
        }
        writer.append(&[frame(&round_lines, "p", second)]).unwrap();
    }
    for room in [1, 5_000, 1 << 20] {
        let search = Search { show: AS_STORED, threads: 2, room, ..Search::default() };
        let (found, _) = found_by(&search, dir.path());
        let newest = Search { order: Order::Newest, ..search };
        let (mut backwards, _) = found_by(&newest, dir.path());
        backwards.reverse();
        assert_eq!(found, backwards);
        for (pod, log) in logs.iter().enumerate() {
            let label = format!("\"p{pod}\"");
            let ours: Vec<&String> = found.iter().filter(|line| line.contains(&label)).collect();
            assert_eq!(ours, log.iter().collect::<Vec<_>>());
        }
    }
}

/// A line of a log, so many milliseconds after `START`.
fn line_at(log: usize, milliseconds: i64, number: usize) -> String {
    let time = Timestamp::from_millisecond(START * 1_000 + milliseconds).unwrap();
    format!(
        r#"{{"timestamp":"{time}","log.record.uid":"1-0","body":"{number}","k8s.pod.name":"p{log}"}}"#
    )
}

/// Writes lines, as their log and time, into frames each of which is an extent of its own. Whichever
/// part of them is asked for from either end is a part of one order, which is that of every log.
fn come_in_one_order_from_either_end(frames: &[Vec<(usize, i64)>]) {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 1, None);
    let mut logs: Vec<Vec<String>> = Vec::new();
    let mut count = 0;
    for lines in frames {
        let mut written = Vec::new();
        for &(log, milliseconds) in lines {
            let line = line_at(log, milliseconds, count);
            logs.resize(logs.len().max(log + 1), Vec::new());
            logs[log].push(line.clone());
            written.push(line);
            count += 1;
        }
        let (header, payload) = frame(&written, "p", 0);
        let seconds = lines.iter().map(|(_, milliseconds)| START + milliseconds / 1_000);
        let times = TimeBounds { from: seconds.clone().min().unwrap(), to: seconds.max().unwrap() };
        writer.append(&[(Header { times, ..header }, payload)]).unwrap();
    }
    for room in [800, 1 << 20] {
        let search = Search { show: AS_STORED, threads: 1, room, ..Search::default() };
        let (all, _) = found_by(&search, dir.path());
        assert_eq!(all.len(), count);
        for (log, lines) in logs.iter().enumerate() {
            let label = format!("\"p{log}\"");
            let shown: Vec<&String> = all.iter().filter(|line| line.contains(&label)).collect();
            assert_eq!(shown, lines.iter().collect::<Vec<_>>());
        }
        for tail in [1, count / 3, count] {
            for order in [Order::Oldest, Order::Newest] {
                let search = Search { order, tail: Some(tail as u64), ..search.clone() };
                let (mut found, _) = found_by(&search, dir.path());
                if order == Order::Newest {
                    found.reverse();
                }
                assert_eq!(found, all[count - tail..], "{order:?}, the newest {tail} of {count}");
            }
        }
    }
}

#[test]
fn a_clock_that_stepped_back_shows_no_line_twice_and_leaves_none_out() {
    // From the newest on, the last two frames are scanned first, for what is later than the first.
    // The last one is scanned again for the rest: with the second, if that has older lines, too.
    for logs in [2, 40] {
        let second = [vec![(0, 9_000)], vec![(0, 9_000), (1, 0)]];
        for second in second {
            let everyone = |milliseconds| (0..logs).map(|log| (log, milliseconds)).collect();
            come_in_one_order_from_either_end(&[everyone(5_000), second, everyone(0)]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn many_logs_whose_clocks_step_back_come_in_one_order_from_either_end(
        logs in prop::sample::select(vec![3_usize, 40]),
        rounds in prop::collection::vec((0_i64..5, 0_i64..5, any::<bool>(), 0_usize..3), 1..12),
    ) {
        // In some frames all have lines, in some only a few of them; a few are early or late there.
        let frame = |(clock, other, all, few): &(i64, i64, bool, usize)| {
            let many = if *all { logs } else { 1 + few };
            let time = |log| if log < *few { other * 4_000 } else { clock * 4_000 };
            (0..many).map(|log| (log, time(log))).collect()
        };
        let frames: Vec<Vec<_>> = rounds.iter().map(frame).collect();
        come_in_one_order_from_either_end(&frames);
    }
}

#[test]
fn what_is_excluded_is_left_out_of_headers_and_lines() {
    let dir = tempdir().unwrap();
    let entries: Vec<_> = (0..60).map(|number| plain(number, number / 20)).collect();
    archive(dir.path(), &entries, 8);
    let excluding = |pods: &[&str], namespaces: &[&str]| {
        let names = |names: &[&str]| {
            Names::new(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let excluded =
            Excluded { pods: names(pods), namespaces: names(namespaces), ..Excluded::default() };
        run(dir.path(), &Query { excluded, ..Query::default() }, AS_STORED)
    };
    let (found, summary) = excluding(&["web-*"], &[]);
    assert_eq!(found, lines(&entries[40..]));
    // One frame has lines of a pod that is left out and of one that is not.
    assert_eq!((summary.frames, summary.skipped), (3, 5));
    assert_eq!(excluding(&["web-1", "db-?"], &[]).0, lines(&entries[20..40]));
    assert!(excluding(&[], &["sh*"]).0.is_empty());
    assert_eq!(excluding(&["x"], &["y"]).0.len(), 60);
}

#[test]
fn lines_without_names_are_not_excluded() {
    let dir = tempdir().unwrap();
    let strangers = ["plain one", "{\"body\":\"two\"}"];
    let (header, payload) = frame(&strangers, "web", 5);
    let labels = Vec::new();
    let header = Header::new(&payload, header.raw_len, header.lines, header.times, labels);
    open(dir.path(), 1 << 20, None).append(&[(header, payload)]).unwrap();
    let pods = Names::new(&["*".into()]).unwrap();
    let excluded = Excluded { pods, ..Excluded::default() };
    let query = Query { excluded, ..Query::default() };
    assert_eq!(run(dir.path(), &query, AS_STORED).0, strangers);
}

#[test]
fn a_gap_stands_between_lines_that_do_not_follow_each_other() {
    let dir = tempdir().unwrap();
    let bodies = ["a", "hit", "b", "hit", "c", "d", "e", "hit", "f"];
    let mut entries: Vec<_> = (0..bodies.len()).map(|number| plain(number, 0)).collect();
    for (entry, body) in entries.iter_mut().zip(bodies) {
        entry.body = body.to_owned();
    }
    archive(dir.path(), &entries, 2);
    let search = |before, after, order| {
        let pattern = Some(Pattern::new("hit", Options::default()).unwrap());
        let search = Search {
            query: Query { pattern, ..Query::default() },
            show: Show::Text { color: false, zone: crate::zone::Zone::UTC },
            order,
            before,
            after,
            ..Search::default()
        };
        let (found, _) = found_by(&search, dir.path());
        let bodies = found.iter().map(|line| line.rsplit("│ ").next().unwrap());
        bodies.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(search(1, 1, Order::Oldest), "a hit b hit c -- e hit f");
    assert_eq!(search(0, 1, Order::Oldest), "hit b hit c -- hit f");
    assert_eq!(search(2, 1, Order::Oldest), "a hit b hit c d e hit f");
    assert_eq!(search(1, 0, Order::Newest), "hit e -- hit b hit a");
}

#[test]
fn following_begins_now_and_shows_what_comes_around_a_line() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 1 << 20, None);
    let mut append = |number: usize, body: &str| {
        let entry = Entry { body: body.to_owned(), ..plain(number, 0) };
        writer.append(&[frame(&[entry.line()], "web-1", 5)]).unwrap();
        entry.line()
    };
    append(0, "old hit");
    let before = append(1, "before");
    let (seen, lines) = crossbeam_channel::unbounded();
    let followed = dir.path().to_owned();
    std::thread::spawn(move || {
        let pattern = Some(Pattern::new("hit", Options::default()).unwrap());
        let search = Search {
            query: Query { pattern, ..Query::default() },
            show: AS_STORED,
            follow: true,
            from_now: true,
            before: 1,
            after: 2,
            ..Search::default()
        };
        // It ends with this process.
        let _closed = search.run(&followed, &mut Head { lines: usize::MAX, seen });
    });
    std::thread::sleep(Duration::from_secs(1));
    let next = || lines.recv_timeout(Duration::from_secs(20)).unwrap();
    let hit = append(2, "new hit");
    assert_eq!((next(), next()), (before, hit));
    // What comes behind it comes later, each in its turn.
    for number in 3..5 {
        assert_eq!(append(number, "after"), next());
    }
    append(5, "too late");
    let last = append(6, "another hit");
    assert!(next().contains("too late"));
    assert_eq!(next(), last);
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
            threads: 2,
            ..Search::default()
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

/// Nanoseconds since the epoch are counted from 1677 to 2262 only, and who writes lines may write any year.
#[test]
fn lines_of_any_year_are_found_in_either_order() {
    // Days in milliseconds, around the beginning and the end of what timestamps can be.
    let day = 86_400_000;
    let first = -62_000_000_000_000 - START * 1_000;
    let last = 253_300_000_000_000 - START * 1_000;
    for from in [first, last, 9_223_372_036_000 - START * 1_000] {
        for count in [1, 90] {
            let dir = tempdir().unwrap();
            let entry = |number: i64| Entry { milliseconds: from + number * day, ..plain(0, 0) };
            let entries: Vec<Entry> = (0..count).map(entry).collect();
            archive(dir.path(), &entries, 1);
            let expected = lines(&entries);
            for tail in [None, Some(1), Some(7), Some(1_000)] {
                for order in [Order::Oldest, Order::Newest] {
                    let search =
                        Search { show: AS_STORED, tail, order, threads: 2, ..Search::default() };
                    let (mut found, _) = found_by(&search, dir.path());
                    if order == Order::Newest {
                        found.reverse();
                    }
                    let wanted = tail.map_or(expected.len(), |tail| tail as usize);
                    let wanted = &expected[expected.len().saturating_sub(wanted)..];
                    assert_eq!(found, wanted, "{count} from {from}, {order:?}, {tail:?}");
                }
            }
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

#[test]
fn a_search_finds_no_line_of_a_frame_with_a_flipped_byte() {
    let dir = tempdir().unwrap();
    let entries: Vec<_> = (0..9).map(|number| plain(number, 0)).collect();
    archive(dir.path(), &entries, 3);
    let path = &read::segments(dir.path()).unwrap()[0].path;
    let whole = std::fs::read(path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(path, bytes).unwrap();
        let (found, _) = run(dir.path(), &Query::default(), AS_STORED);
        let without = |frame: &usize| {
            let left = entries.chunks(3).enumerate().filter(|(number, _)| number != frame);
            left.flat_map(|(_, chunk)| chunk).map(Entry::line).collect::<Vec<_>>()
        };
        assert!((0..3).any(|frame| found == without(&frame)), "byte {at}: {found:?}");
    }
}

#[test]
fn a_frame_is_whole_if_its_header_says_so_and_zstd_has_its_checksum_besides() {
    let dir = tempdir().unwrap();
    let entry = plain(1, 0);
    let (header, payload) = frame(&[entry.line()], "web", 5);
    let mut other = payload.to_vec();
    // zstd's checksum are the last four bytes.
    *other.last_mut().unwrap() ^= 1;
    assert!(zstd::decode_all(&payload[..]).is_ok() && zstd::decode_all(&other[..]).is_err());
    let written = Header { payload_crc: crc32c::crc32c(&other), ..header.clone() };
    let frames = [(header, other.clone().into()), (written, other.into())];
    open(dir.path(), 1 << 20, None).append(&frames).unwrap();
    let (found, summary) = run(dir.path(), &Query::default(), AS_STORED);
    let expected = (vec![entry.line()], 1, 1);
    assert_eq!((found, summary.frames, summary.damaged), expected, "the first is not its header's");
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
            follow: true,
            threads: 2,
            ..Search::default()
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
