//! The decoders against a naive oracle, in any chunks, replayed from any point; and cases by name.

mod cases;
mod encoded;
mod oracle;

use proptest::prelude::*;

use super::*;
use crate::record::{Body, Marks, Stream};

/// A record that owns its bytes, the body decoded; files are numbered from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    pub origin: (usize, usize),
    /// Where the decoder stood after it.
    pub end: (usize, usize),
    pub timestamp: Option<Vec<u8>>,
    pub stream: Stream,
    pub body: Vec<u8>,
    pub marks: Marks,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub format: Format,
    pub bound: usize,
    pub long_lines: LongLines,
}

impl Setup {
    fn decoder(self) -> Decoder {
        let limits = Limits { max_line_bytes: self.bound, long_lines: self.long_lines };
        Decoder::new(self.format, limits)
    }
}

/// What one step left behind.
#[derive(Debug, Clone)]
struct Trace {
    /// Where the decoder stood.
    at: (usize, usize),
    /// Where it would have to restart.
    resume: (usize, usize),
    record: Option<Owned>,
    /// It took up nothing.
    flushed: bool,
}

/// Reads `files` from `from` on, as a reader would, in chunks whose sizes repeat.
fn trace(setup: Setup, files: &[Vec<u8>], from: (usize, usize), chunks: &[usize]) -> Vec<Trace> {
    let mut decoder = setup.decoder();
    let mut traces = Vec::new();
    let mut chunks = chunks.iter().copied().cycle();
    for (number, bytes) in files.iter().enumerate().skip(from.0) {
        let file = FileId(number as u64);
        let mut at = if number == from.0 { from.1 } else { 0 };
        let mut read = at;
        let mut take = |decoder: &Decoder, at, record, flushed| {
            let resume = decoder.resume();
            let resume = resume.map_or((number, at), |o| (o.file.0 as usize, o.offset as usize));
            traces.push(Trace { at: (number, at), resume, record, flushed });
        };
        loop {
            let step = own(decoder.next(file, at as u64, &bytes[at..read]), number, at);
            let Some((record, consumed)) = step else {
                assert!(read - at < setup.bound + 4096, "a full buffer is not enough");
                if read == bytes.len() {
                    break;
                }
                read = bytes.len().min(read + chunks.next().unwrap_or(usize::MAX));
                continue;
            };
            assert!(consumed > 0 || record.is_none(), "a record that takes up nothing");
            at += consumed;
            take(&decoder, at, record, false);
        }
        let last = number + 1 == files.len();
        loop {
            let rest = &bytes[at..];
            let step = if last {
                decoder.finish(file, at as u64, rest)
            } else {
                decoder.end_file(file, at as u64, rest)
            };
            let Some(step) = step else { break };
            let (record, consumed) = own(step, number, at).expect("the end needs no more");
            at += consumed;
            take(&decoder, at, record, consumed == 0);
        }
        assert_eq!(at, bytes.len(), "bytes left over");
    }
    traces
}

/// None: more is needed. Otherwise the record, if it is one, and what was used up.
fn own(step: Step<'_>, file: usize, at: usize) -> Option<(Option<Owned>, usize)> {
    match step {
        Step::NeedMore => None,
        Step::Consumed(consumed) | Step::Skipped(consumed) => Some((None, consumed)),
        Step::Record { record, consumed } => {
            let body = match record.body {
                Body::Raw(bytes) => bytes.to_vec(),
                Body::Json(literal) => {
                    let literal = [b"\"", literal, b"\""].concat();
                    serde_json::from_slice::<String>(&literal).unwrap().into_bytes()
                }
            };
            let owned = Owned {
                origin: (record.origin.file.0 as usize, record.origin.offset as usize),
                end: (file, at + consumed),
                timestamp: record.timestamp.map(<[u8]>::to_vec),
                stream: record.stream,
                body,
                marks: record.marks,
            };
            Some((Some(owned), consumed))
        }
    }
}

fn records(traces: &[Trace]) -> Vec<Owned> {
    traces.iter().filter_map(|trace| trace.record.clone()).collect()
}

fn formats() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::Cri), Just(Format::DockerJson), Just(Format::Plain)]
}

fn setups() -> impl Strategy<Value = Setup> {
    let long_lines = prop_oneof![Just(LongLines::Split), Just(LongLines::Cut)];
    let bounds = prop_oneof![1_usize..24, 24_usize..200];
    (formats(), bounds, long_lines).prop_map(|(format, bound, long_lines)| Setup {
        format,
        bound,
        long_lines,
    })
}

fn messages() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[ -~]{0,40}".prop_map(String::into_bytes),
        2 => "[a\"\\\\\t\r\0é€😀]{0,30}".prop_map(String::into_bytes),
        1 => "[a-z]{100,300}".prop_map(String::into_bytes),
        1 => "\0{1,40}[a-z]{0,9}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>().prop_filter("newline", |b| *b != b'\n'), 0..40),
    ]
}

fn timestamps() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => Just("2026-11-22T01:42:33.123456789Z"),
        2 => Just("2026-11-22T01:43:34.5+02:00"),
        1 => Just("1970-01-01T00:00:00Z"),
        1 => Just("2262-04-11T23:47:16.854775807Z"),
        1 => Just("2026-02-30T00:00:00Z"),
        1 => Just("yesterday"),
    ]
}

fn cri_lines() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![8 => Just("stdout"), 8 => Just("stderr"), 1 => Just("stdin")];
    let tags = prop_oneof![
        8 => Just("F".to_owned()),
        8 => Just("P".to_owned()),
        1 => "[FPX]:?[a-z:]{0,9}",
        1 => "F:[a-z]{180,200}",
    ];
    let line =
        (timestamps(), stream, tags, messages()).prop_map(|(time, stream, tags, message)| {
            [format!("{time} {stream} {tags} ").as_bytes(), &message].concat()
        });
    let broken =
        (timestamps(), "[ FP]{0,3}").prop_map(|(time, rest)| format!("{time} stdout{rest}"));
    let line = (prop_oneof![9 => Just(0), 1 => 1_usize..40], line)
        .prop_map(|(nuls, line)| [vec![0; nuls], line].concat());
    prop_oneof![12 => line, 1 => broken.prop_map(String::into_bytes), 1 => messages()]
}

fn docker_lines() -> impl Strategy<Value = Vec<u8>> {
    let text = messages().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let stream = prop_oneof![8 => Just("stdout"), 8 => Just("stderr"), 1 => Just("stdin")];
    let whole = prop_oneof![2 => Just(true), 1 => Just(false)];
    let shape = 0_usize..12;
    let line = (text, stream, timestamps(), whole, shape).prop_map(
        |(text, stream, time, whole, shape)| {
            let mut log = serde_json::to_string(&text).unwrap();
            log.truncate(log.len() - 1);
            if shape % 2 == 0 {
                log = log.replace('<', "\\u003c").replace('a', "\\u0061").replace('😀', "\\ud83d\\ude00");
            }
            let log = log + if whole { "\\n\"" } else { "\"" };
            match shape {
                0 => format!(r#"{{"stream":"{stream}","log":{log},"time":"{time}"}}"#),
                1 => format!(r#"{{"log":{log},"stream":"{stream}","attrs":{{"a":["b",{{}}]}},"time":"{time}"}}"#),
                2 => format!(r#"{{"log":"x","log":{log},"stream":"{stream}","time":"{time}"}}"#),
                3 => format!(r#" {{"log":{log} , "stream":"{stream}"}} "#),
                4 => format!(r#"{{"log":{log},"stream":"{stream}","time":"{time}""#),
                5 => format!(r#"{{"log":{log},"stream":7,"time":"{time}"}}"#),
                _ => format!(r#"{{"log":{log},"stream":"{stream}","time":"{time}"}}"#),
            }
        },
    );
    let line = line.boxed();
    let mutated = (line.clone(), any::<prop::sample::Index>(), "[\"\\\\{}x\u{1}]").prop_map(
        |(line, at, byte)| {
            let mut bytes = line.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte.as_bytes()[0];
            bytes
        },
    );
    let behind_nuls = (1_usize..40, line.clone())
        .prop_map(|(nuls, line)| [vec![0; nuls], line.into_bytes()].concat());
    prop_oneof![8 => line.prop_map(String::into_bytes), 3 => mutated, 1 => behind_nuls, 1 => messages()]
}

fn file(format: Format) -> BoxedStrategy<Vec<u8>> {
    let lines = match format {
        Format::Cri => cri_lines().boxed(),
        Format::DockerJson => docker_lines().boxed(),
        Format::Plain | Format::Encoded(_) => messages().boxed(),
    };
    (proptest::collection::vec(lines, 0..12), any::<bool>())
        .prop_map(|(lines, ends)| {
            let mut bytes = lines.join(&b'\n');
            if ends {
                bytes.push(b'\n');
            }
            bytes
        })
        .boxed()
}

fn inputs() -> impl Strategy<Value = (Setup, Vec<Vec<u8>>)> {
    setups()
        .prop_flat_map(|setup| (Just(setup), proptest::collection::vec(file(setup.format), 1..4)))
}

proptest! {

    #[test]
    fn agrees_with_the_oracle_in_any_chunks(
        (setup, files) in inputs(),
        chunks in proptest::collection::vec(1_usize..60, 1..6),
    ) {
        let expected = oracle::records(setup, &files);
        let whole = records(&trace(setup, &files, (0, 0), &[usize::MAX / 2]));
        prop_assert_eq!(&whole, &expected);
        let chunked = records(&trace(setup, &files, (0, 0), &chunks));
        prop_assert_eq!(&chunked, &expected);
    }

    #[test]
    fn replay_makes_the_same_records_again(
        (setup, files) in inputs(),
        stop in any::<prop::sample::Index>(),
        chunks in proptest::collection::vec(1_usize..90, 1..4),
    ) {
        let first = trace(setup, &files, (0, 0), &chunks);
        prop_assume!(!first.is_empty());
        let stop = stop.index(first.len());
        let Trace { at, resume, flushed, .. } = first[stop];
        prop_assume!(!flushed);
        let mut again = trace(setup, &files, resume, &[usize::MAX / 2]);
        again.retain(|trace| trace.flushed || trace.at > at);
        prop_assert_eq!(records(&again), records(&first[stop + 1..]));
    }

    #[test]
    fn no_two_records_share_an_origin((setup, files) in inputs()) {
        let all = records(&trace(setup, &files, (0, 0), &[17]));
        let mut origins: Vec<_> = all.iter().map(|record| record.origin).collect();
        origins.sort_unstable();
        origins.dedup();
        prop_assert_eq!(origins.len(), all.len());
    }

    #[test]
    fn any_bytes_are_decoded_or_passed_on(
        setup in setups(),
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let files = [bytes];
        let expected = oracle::records(setup, &files);
        prop_assert_eq!(records(&trace(setup, &files, (0, 0), &[7, 100])), expected);
    }
}
