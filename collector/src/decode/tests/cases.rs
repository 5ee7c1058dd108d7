//! Cases by name.

use super::*;

const TIME: &str = "2026-11-22T01:42:33.123456789Z";

fn run(format: Format, bound: usize, files: &[&str]) -> Vec<Owned> {
    run_mode(format, bound, LongLines::Split, files)
}

fn run_mode(format: Format, bound: usize, long_lines: LongLines, files: &[&str]) -> Vec<Owned> {
    let files: Vec<_> = files.iter().map(|text| text.replace('@', TIME).into_bytes()).collect();
    records(&trace(Setup { format, bound, long_lines }, &files, (0, 0), &[usize::MAX / 2]))
}

fn bodies(records: &[Owned]) -> Vec<&str> {
    records.iter().map(|record| std::str::from_utf8(&record.body).unwrap()).collect()
}

#[test]
fn a_cri_line() {
    let all = run(Format::Cri, 100, &["@ stderr F hello\n"]);
    assert_eq!(
        all,
        [Owned {
            origin: (0, 0),
            end: (0, 46),
            timestamp: Some(TIME.into()),
            stream: Stream::Stderr,
            body: b"hello".to_vec(),
            marks: Marks::default(),
        }]
    );
}

#[test]
fn a_line_without_a_message_ends_what_was_unfinished() {
    let ended = run(Format::Cri, 100, &["@ stdout P last words\n@ stdout F\n@ stderr F x\n"]);
    assert_eq!(bodies(&ended), ["last words", "x"]);
    assert!(ended.iter().all(|record| record.marks == Marks::default()), "{ended:?}");
    let at_the_end = run(Format::Cri, 100, &["@ stdout P last words\n@ stdout F"]);
    assert_eq!(bodies(&at_the_end), ["last words"]);
    let alone = run(Format::Cri, 100, &["@ stdout F\n@ stderr F:tag\n"]);
    assert_eq!((alone[0].marks.unparsed, alone[1].marks.unparsed), (false, true));
}

#[test]
fn empty_messages_carriage_returns_and_nuls_are_kept() {
    let all = run(Format::Cri, 100, &["@ stdout F \n@ stdout F a\r\n@ stdout F \0\n"]);
    assert_eq!(bodies(&all), ["", "a\r", "\0"]);
    assert_eq!(bodies(&run(Format::Plain, 100, &["\n\na\r\n"])), ["", "", "a\r"]);
}

#[test]
fn partials_are_joined_per_stream() {
    let all = run(
        Format::Cri,
        100,
        &[
            "@ stdout P one \n@ stderr P un \n@ stdout P two \ngarbage\n@ stderr F deux\n@ stdout F three\n",
        ],
    );
    assert_eq!(bodies(&all), ["garbage", "un deux", "one two three"]);
    assert!(all[0].marks.unparsed && !all[1].marks.unparsed);
    assert_eq!((all[1].origin, all[2].origin), ((0, 45), (0, 0)));
}

#[test]
fn a_partial_is_completed_by_the_next_file() {
    let all = run(Format::Cri, 100, &["@ stdout P one \n", "@ stdout F two\n"]);
    assert_eq!(bodies(&all), ["one two"]);
    assert_eq!((all[0].origin, all[0].end), ((0, 0), (1, 44)));
    assert_eq!(all[0].marks, Marks::default());
}

#[test]
fn partials_without_an_end_are_flushed_when_the_source_ends() {
    let all = run(Format::Cri, 100, &["@ stderr P a\n@ stdout P b\n@ stderr P c\n"]);
    assert_eq!(bodies(&all), ["ac", "b"]);
    assert!(all.iter().all(|record| record.marks.partial));
}

#[test]
fn a_last_line_without_a_newline_is_partial() {
    for (format, line) in [
        (Format::Cri, "@ stdout F end"),
        (Format::DockerJson, r#"{"log":"end\n","stream":"stdout","time":"@"}"#),
        (Format::Plain, "end"),
    ] {
        let all = run(format, 100, &[line]);
        assert_eq!(bodies(&all), ["end"]);
        assert_eq!(all[0].marks, Marks { partial: true, ..Marks::default() });
    }
}

#[test]
fn lines_that_are_no_cri_lines_pass_whole() {
    for line in [
        "",
        " ",
        "hello",
        "@",
        "@ stdout F:x",
        "@ stdout",
        "@ stdout X m",
        "@ stdin F m",
        "@  stdout F m",
        "2026-13-22T01:42:33Z stdout F m",
        "@ stdout FP m",
    ] {
        let all = run(Format::Cri, 100, &[&format!("{line}\n")]);
        assert_eq!(bodies(&all), [line.replace('@', TIME)]);
        assert_eq!(all[0].marks, Marks { unparsed: true, ..Marks::default() });
        assert_eq!((all[0].stream, &all[0].timestamp), (Stream::None, &None));
    }
}

#[test]
fn reserved_tags_are_passed_over() {
    assert_eq!(bodies(&run(Format::Cri, 100, &["@ stdout P:x a\n@ stdout F:y:z b\n"])), ["ab"]);
}

#[test]
fn long_lines_are_split_into_numbered_pieces() {
    let all = run(Format::Cri, 4, &["@ stdout F 0123456789\n"]);
    assert_eq!(bodies(&all), ["0123", "4567", "89"]);
    let marks: Vec<_> = all.iter().map(|r| (r.marks.split, r.marks.split_last)).collect();
    assert_eq!(marks, [(1, false), (2, false), (3, true)]);
    let origins: Vec<_> = all.iter().map(|record| record.origin.1).collect();
    assert_eq!(origins, [0, 44, 48]);
    assert!(all.iter().all(|record| record.timestamp.as_deref() == Some(TIME.as_bytes())));
}

#[test]
fn a_message_as_long_as_the_bound_is_whole() {
    for (format, text) in [
        (Format::Cri, "@ stdout P 01\n@ stdout P 23\n@ stdout F \n"),
        (Format::Plain, "0123\n"),
        (Format::DockerJson, "{\"log\":\"0123\\n\",\"stream\":\"stdout\",\"time\":\"@\"}\n"),
    ] {
        let all = run(format, 4, &[text]);
        assert_eq!(bodies(&all), ["0123"]);
        assert_eq!(all[0].marks, Marks::default());
    }
}

#[test]
fn joined_partials_are_split_too() {
    let all =
        run(Format::Cri, 4, &["@ stdout P 01\n@ stdout P 23\n@ stdout P 4\n@ stdout F 5678\n"]);
    assert_eq!(bodies(&all), ["0123", "4567", "8"]);
    // The second begins with the message of the third line, the third inside the fourth.
    let origins: Vec<_> = all.iter().map(|record| record.origin.1).collect();
    assert_eq!(origins, [0, 43 + 43 + 40, 43 + 43 + 42 + 43]);
}

#[test]
fn pieces_do_not_break_characters() {
    assert_eq!(bodies(&run(Format::Plain, 4, &["abcäö€😀\n"])), ["abc", "äö", "€", "😀"]);
}

#[test]
fn long_lines_are_cut_and_the_rest_counted() {
    for (format, text) in [
        (Format::Cri, "@ stdout P 012\n@ stdout P 3456\n@ stdout F 789\n@ stdout F next\n"),
        (Format::Plain, "0123456789\nnext\n"),
        (
            Format::DockerJson,
            "{\"log\":\"012345\",\"stream\":\"stdout\",\"time\":\"@\"}\n{\"log\":\"6789\\n\",\"stream\":\"stdout\",\"time\":\"@\"}\n{\"log\":\"next\\n\",\"stream\":\"stdout\",\"time\":\"@\"}\n",
        ),
    ] {
        let all = run_mode(format, 4, LongLines::Cut, &[text]);
        assert_eq!(bodies(&all), ["0123", "next"]);
        assert_eq!((all[0].marks.cut, all[1].marks.cut), (6, 0));
    }
}

#[test]
fn a_gibibyte_without_a_newline_takes_no_more_memory_than_the_bound() {
    let chunk = vec![b'x'; 1 << 20];
    let bound = (1 << 20) - 4096;
    for (long_lines, held) in [(LongLines::Split, 0), (LongLines::Cut, 2 * bound)] {
        let mut decoder = Setup { format: Format::Plain, bound, long_lines }.decoder();
        let (mut offset, mut pieces) = (0_u64, 0);
        while offset < 1 << 30 {
            match decoder.next(FileId(1), offset, &chunk) {
                Step::Record { record, consumed } => {
                    pieces += 1;
                    assert_eq!(record.marks.split, pieces);
                    offset += consumed as u64;
                }
                Step::Consumed(consumed) | Step::Skipped(consumed) => offset += consumed as u64,
                Step::NeedMore => panic!("a full buffer is not enough"),
            }
            assert!(decoder.pending_bytes() <= held);
            assert_eq!(decoder.resume(), Some(Origin { file: FileId(1), offset: 0 }));
        }
        assert_eq!(pieces > 1000, long_lines == LongLines::Split);
        let Step::Record { record, .. } = decoder.next(FileId(1), offset, b"end\n") else {
            panic!("the line ends")
        };
        assert_eq!(record.marks.split_last, long_lines == LongLines::Split);
        assert_eq!(record.marks.cut > 1 << 29, long_lines == LongLines::Cut);
        let Step::NeedMore = decoder.next(FileId(1), offset + 4, b"") else {
            panic!("nothing left")
        };
        assert_eq!(decoder.resume(), None);
        assert!(decoder.pending_bytes() <= 64 * 1024);
    }
}

#[test]
fn a_docker_line_passes_through_escaped() {
    let line = "{\"log\":\"a\\u003cb \\\"c\\\"\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-22T01:42:33Z\"}\n";
    let setup = Setup { format: Format::DockerJson, bound: 100, long_lines: LongLines::Split };
    let mut decoder = setup.decoder();
    let Step::Record { record, consumed } = decoder.next(FileId(1), 0, line.as_bytes()) else {
        panic!("a whole line")
    };
    assert_eq!(consumed, line.len());
    assert_eq!(record.body, Body::Json(b"a\\u003cb \\\"c\\\""));
    assert_eq!(record.timestamp, Some(&b"2026-11-22T01:42:33Z"[..]));
}

#[test]
fn docker_partials_are_joined() {
    let all = run(
        Format::DockerJson,
        100,
        &[
            "{\"log\":\"a\\u003c\",\"stream\":\"stdout\",\"time\":\"@\"}\n{\"log\":\"b\\\\n\",\"stream\":\"stdout\",\"time\":\"@\"}\n{\"log\":\"c\\n\",\"stream\":\"stdout\",\"time\":\"@\"}\n",
        ],
    );
    assert_eq!(bodies(&all), ["a<b\\nc"]);
}

#[test]
fn of_a_key_given_twice_the_last_counts() {
    let all = run(
        Format::DockerJson,
        100,
        &[
            "{\"log\":\"a\\n\",\"log\":\"b\\n\",\"stream\":\"stderr\",\"stream\":\"stdout\",\"time\":\"@\"}\n",
        ],
    );
    assert_eq!(bodies(&all), ["b"]);
    assert_eq!(all[0].stream, Stream::Stdout);
}

#[test]
fn json_that_is_no_log_line_passes_whole() {
    let bomb = format!("{{\"log\":\"x\\n\",\"attrs\":{}", "[".repeat(200_000));
    let nested = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    for line in [
        "{}",
        "null",
        "[]",
        "{\"log\":1}",
        "{\"log\":null}",
        "{\"log\":\"x\\n\",\"time\":\"soon\"}",
        "{\"log\":\"x\\n\"} {}",
        "{\"log\":\"x",
        &bomb,
        &nested,
    ] {
        let all = run(Format::DockerJson, 1 << 20, &[&format!("{line}\n")]);
        assert_eq!(all.len(), 1);
        assert!(all[0].marks.unparsed);
        assert_eq!(all[0].body, line.as_bytes());
    }
}

#[test]
fn docker_without_stream_or_time_is_still_a_line() {
    let all = run(Format::DockerJson, 100, &["{\"log\":\"x\\n\",\"n\":1e300}\n"]);
    assert_eq!(bodies(&all), ["x"]);
    assert_eq!((all[0].marks, &all[0].timestamp), (Marks::default(), &None));
}

#[test]
fn a_docker_line_too_long_to_hold_passes_in_pieces() {
    let line = format!("{{\"log\":\"{}\\n\"}}\n", "x".repeat(10_000));
    let all = run(Format::DockerJson, 1000, &[&line]);
    assert!(all.len() > 10 && all.iter().all(|record| record.marks.unparsed));
    let joined: Vec<u8> = all.into_iter().flat_map(|record| record.body).collect();
    assert_eq!(joined, line.trim_end().as_bytes());
}

/// The rest of such a message is counted and thrown away, and a line of it may have no text at all.
#[test]
fn at_the_end_of_a_file_every_step_uses_something_up() {
    let long = "x".repeat(200);
    for last in ["P", "F", "P:x", "F:y"] {
        for newline in ["", "\n"] {
            let text = format!("{TIME} stderr P {long}\n{TIME} stderr {last} {newline}");
            let setup = Setup { format: Format::Cri, bound: 100, long_lines: LongLines::Cut };
            let files = [text.into_bytes(), format!("{TIME} stderr F end\n").into_bytes()];
            for chunk in [1, 2, 7, usize::MAX / 2] {
                let traces = trace(setup, &files, (0, 0), &[chunk]);
                let places: Vec<_> = traces.iter().map(|trace| trace.at).collect();
                assert!(
                    places.is_sorted_by(|one, next| one < next),
                    "{last:?} {chunk}: {places:?}"
                );
                let bodies = records(&traces).into_iter().map(|record| record.body.len()).max();
                assert_eq!(bodies, Some(100));
            }
        }
    }
}

#[test]
fn years_1970_and_2262() {
    for time in ["1970-01-01T00:00:00.000000000Z", "2262-04-11T23:47:16.854775807Z"] {
        let all = run(Format::Cri, 100, &[&format!("{time} stdout F m\n")]);
        assert_eq!(all[0].timestamp.as_deref(), Some(time.as_bytes()));
    }
}

#[test]
fn what_is_given_back_was_needed_by_no_unfinished_message() {
    for (format, first, last) in [
        (Format::Cri, "@ stdout P one \n", "@ stdout F two\n"),
        (
            Format::DockerJson,
            "{\"log\":\"one \",\"stream\":\"stdout\",\"time\":\"@\"}\n",
            "{\"log\":\"two\\n\",\"stream\":\"stdout\",\"time\":\"@\"}\n",
        ),
    ] {
        let (first, last) = (first.replace('@', TIME), last.replace('@', TIME));
        let setup = Setup { format, bound: 100, long_lines: LongLines::Split };
        let mut decoder = setup.decoder();
        for round in 0..2 {
            let step = decoder.next(FileId(1), round, first.as_bytes());
            assert_eq!(step, Step::Consumed(first.len()));
            decoder.give_back();
            let Step::Record { record, .. } = decoder.next(FileId(1), 100, last.as_bytes()) else {
                panic!("the message ends")
            };
            assert_eq!(record.body, Body::Raw(b"one two"));
            assert!(decoder.pending_bytes() > 0, "a buffer is kept between lines");
            decoder.give_back();
            assert_eq!((decoder.pending_bytes(), decoder.resume()), (0, None));
        }
    }
}
