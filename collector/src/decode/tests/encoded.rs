//! Plain files in other encodings: against the text they were made from, in any chunks, replayed from
//! any point.

use super::*;

fn encode(charset: Charset, text: &str) -> Vec<u8> {
    match charset {
        Charset::UTF_16LE => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Charset::UTF_16BE => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        other => other.encoding().encode(text).0.into_owned(),
    }
}

fn setup(charset: Charset, bound: usize, long_lines: LongLines) -> Setup {
    Setup { format: Format::Encoded(charset), bound, long_lines }
}

fn charsets() -> impl Strategy<Value = Charset> {
    let names = vec!["utf-16le", "utf-16be", "gb18030", "utf-16le", "utf-16be"];
    prop::sample::select(names).prop_map(|name| Charset::named(name).unwrap())
}

/// Characters whose code units hold newlines and NULs, and some of two units.
fn texts() -> impl Strategy<Value = String> {
    let line = "[ -~\u{4f60}\u{0a0a}\u{010a}\u{0a00}\u{0100}\u{1f600}]{0,30}";
    (prop::collection::vec(line, 0..8), any::<bool>())
        .prop_map(|(lines, ends)| lines.join("\n") + if ends { "\n" } else { "" })
}

fn bodies(records: &[Owned]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.body.clone()).unwrap()).collect()
}

proptest! {
    #[test]
    fn lines_are_those_of_the_text(
        charset in charsets(), text in texts(),
        chunks in proptest::collection::vec(1_usize..9, 1..6),
    ) {
        let files = [encode(charset, &text)];
        let setup = setup(charset, 1 << 20, LongLines::Split);
        let got = records(&trace(setup, &files, (0, 0), &chunks));
        let mut wanted: Vec<&str> = text.split('\n').collect();
        if wanted.last() == Some(&"") {
            wanted.pop();
        }
        prop_assert_eq!(bodies(&got), wanted);
        for record in got {
            // In the file's bytes, and never inside a code unit.
            prop_assert!(!charset.is_wide() || record.origin.1 % 2 == 0 && record.end.1 % 2 == 0);
        }
    }

    #[test]
    fn long_lines_are_split_between_characters(
        charset in charsets(), text in texts(), bound in 4_usize..40,
        chunks in proptest::collection::vec(1_usize..60, 1..6),
    ) {
        let files = [encode(charset, &text)];
        let setup = setup(charset, bound, LongLines::Split);
        let got = records(&trace(setup, &files, (0, 0), &chunks));
        prop_assert_eq!(bodies(&got).concat(), text.replace('\n', ""));
        prop_assert_eq!(&got, &records(&trace(setup, &files, (0, 0), &[usize::MAX / 2])));
    }

    /// Whatever the bytes are, halves of code units included.
    #[test]
    fn any_bytes_are_the_same_records_in_any_chunks_and_replayed(
        charset in charsets(), bound in 1_usize..40, cut in any::<bool>(),
        bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(10), Just(0xd8), any::<u8>()], 0..200),
        chunks in proptest::collection::vec(1_usize..60, 1..6),
        stop in any::<prop::sample::Index>(),
    ) {
        let files = [bytes];
        let long_lines = if cut { LongLines::Cut } else { LongLines::Split };
        let setup = setup(charset, bound, long_lines);
        let whole = records(&trace(setup, &files, (0, 0), &[usize::MAX / 2]));
        let first = trace(setup, &files, (0, 0), &chunks);
        prop_assert_eq!(records(&first), whole.clone());
        let mut origins: Vec<_> = whole.iter().map(|record| record.origin).collect();
        origins.dedup();
        prop_assert_eq!(origins.len(), whole.len());
        prop_assume!(!first.is_empty());
        let stop = stop.index(first.len());
        let Trace { at, resume, flushed, .. } = first[stop];
        prop_assume!(!flushed);
        let mut again = trace(setup, &files, resume, &[usize::MAX / 2]);
        again.retain(|trace| trace.flushed || trace.at > at);
        prop_assert_eq!(records(&again), records(&first[stop + 1..]));
    }
}

#[test]
fn what_stands_for_no_character_is_replaced() {
    for (name, bytes, wanted) in [
        (
            "utf-16le",
            &b"a\0\x3d\xd8b\0\n\0\x00\xdc\n\0c\0d"[..],
            ["a\u{fffd}b", "\u{fffd}", "c\u{fffd}"],
        ),
        ("gbk", b"a\xff\xc4\xe3\n\x81\nc\x81", ["a\u{fffd}\u{4f60}", "\u{fffd}", "c\u{fffd}"]),
        ("euc-kr", b"a\xffb\n\xff\nc\xb0", ["a\u{fffd}b", "\u{fffd}", "c\u{fffd}"]),
    ] {
        let setup = setup(Charset::named(name).unwrap(), 100, LongLines::Split);
        assert_eq!(
            bodies(&records(&trace(setup, &[bytes.to_vec()], (0, 0), &[3]))),
            wanted,
            "{name}"
        );
    }
}

#[test]
fn reading_that_begins_in_the_middle_of_a_code_unit_finds_the_next() {
    let setup = setup(Charset::UTF_16LE, 100, LongLines::Split);
    let files = [encode(Charset::UTF_16LE, "ab\ncd\n")];
    assert_eq!(bodies(&records(&trace(setup, &files, (0, 1), &[2]))), ["\u{fffd}b", "cd"]);
}

#[test]
fn nuls_before_a_line_are_skipped_in_whole_code_units() {
    for charset in [Charset::UTF_16LE, Charset::UTF_16BE] {
        let line = encode(charset, "\u{4e00}a\n\u{100}\n");
        for nuls in [16, 40, 600] {
            let files = [[vec![0; nuls], line.clone()].concat()];
            let setup = setup(charset, 100, LongLines::Split);
            let got = records(&trace(setup, &files, (0, 0), &[5]));
            assert_eq!(bodies(&got), ["\u{4e00}a", "\u{100}"], "{charset:?} {nuls}");
            assert_eq!(got[0].origin, (0, nuls));
        }
    }
}

#[test]
fn a_mark_decides_whatever_the_setting_and_only_for_its_file() {
    let limits = Limits { max_line_bytes: 100, long_lines: LongLines::Split };
    let gbk = Charset::named("gbk").unwrap();
    for format in [Format::Plain, Format::Encoded(gbk), Format::Encoded(Charset::UTF_16BE)] {
        let mut decoder = Decoder::new(format, limits);
        assert!(decoder.heeds_marks());
        assert_eq!(decoder.begin_file(b"\xff\xfea\0\n\0"), Some(2));
        assert_eq!(decoder.unit(), 2);
        let step = own(decoder.next(FileId(0), 2, b"a\0\n\0"), 0, 2).unwrap();
        assert_eq!((step.0.unwrap().body, step.1), (b"a".to_vec(), 4));
        // The first half of a mark: it is waited for, and the setting holds until then.
        assert_eq!(decoder.begin_file(b"\xef\xbb"), None);
        assert_eq!(
            decoder.unit(),
            if format == Format::Encoded(Charset::UTF_16BE) { 2 } else { 1 }
        );
        assert_eq!(decoder.begin_file(b"\xef\xbb\xbfx\n"), Some(3));
        assert_eq!(decoder.unit(), 1);
        let step = own(decoder.next(FileId(0), 3, "\u{fc}\n".as_bytes()), 0, 3).unwrap();
        assert_eq!(step.0.unwrap().body, "\u{fc}".as_bytes());
        assert_eq!(decoder.begin_file(b"none\n"), Some(0));
        let step = own(decoder.next(FileId(0), 4, b"\xc4\xe3\n"), 0, 4);
        if format == Format::Encoded(gbk) {
            assert_eq!(step.unwrap().0.unwrap().body, "\u{4f60}".as_bytes());
        }
    }
    for format in [Format::Cri, Format::DockerJson] {
        assert!(!Decoder::new(format, limits).heeds_marks());
    }
}

#[test]
fn memory_for_a_long_line_is_given_back() {
    let limits = Limits { max_line_bytes: 1 << 20, long_lines: LongLines::Split };
    let mut decoder = Decoder::new(Format::Encoded(Charset::UTF_16LE), limits);
    let line = encode(Charset::UTF_16LE, &("\u{4f60}".repeat(100_000) + "\n"));
    assert!(matches!(decoder.next(FileId(0), 0, &line), Step::Record { .. }));
    decoder.give_back();
    let Inner::Plain(plain) = &decoder.0 else { panic!() };
    assert_eq!((plain.conversion.as_ref().unwrap().pending(), decoder.pending_bytes()), (0, 0));
}
