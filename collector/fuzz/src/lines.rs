//! What every line format has to keep to: files are read in chunks as the reader does, and what comes out is
//! compared with the same files in other chunks, from other beginnings, and with what a naive reading says.

use std::collections::BTreeMap;

use collector::{
    config::LongLines,
    decode::{Decoder, Limits, MESSAGES, Step},
    identity::FileId,
    record::{Body, Marks, Stream},
    source::Format,
};

/// What a decoder is made with.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The format.
    pub format: Format,
    /// The longest message.
    pub bound: usize,
    /// What becomes of longer ones.
    pub long_lines: LongLines,
}

/// A file's number and an offset in it.
pub type Place = (usize, usize);

/// A record that owns its bytes, the body decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Where it begins.
    pub origin: Place,
    /// Where the decoder stood after it.
    pub end: Place,
    /// Its time.
    pub timestamp: Option<Vec<u8>>,
    /// Its stream.
    pub stream: Stream,
    /// The message.
    pub body: Vec<u8>,
    /// What is unusual.
    pub marks: Marks,
}

/// What one step left behind.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Where the decoder stood.
    at: Place,
    /// Where it would have to restart.
    resume: Place,
    record: Option<Owned>,
    /// Bytes used up without a record, because they are NULs.
    skipped: usize,
    /// It used up nothing: the source's end.
    flushed: bool,
}

/// A message, as a naive reading of one line has it.
#[derive(Debug)]
pub struct Parsed {
    /// Its stream.
    pub stream: Stream,
    /// What the line adds to the message.
    pub text: Vec<u8>,
}

/// Whose the texts are that belong together, and whether they parsed.
type Lane = (u8, bool);

/// Holds a decoder to everything: `parse` is the naive reading of a line, None if it is not one of the format.
pub fn check(
    setup: Setup,
    files: &[&[u8]],
    chunks: &[usize],
    parse: impl Fn(&[u8]) -> Option<Parsed>,
) {
    let whole = trace(setup, files, (0, 0), &[usize::MAX / 2]);
    let chunked = trace(setup, files, (0, 0), chunks);
    assert_eq!(records(&whole), records(&chunked), "chunks change the records");
    account(setup, files, &chunked, parse);
    order(&chunked);
    replay(setup, files, &chunked, chunks);
}

/// Reads `files` from `from` on, in chunks whose sizes repeat.
fn trace(setup: Setup, files: &[&[u8]], from: Place, chunks: &[usize]) -> Vec<Trace> {
    let limits = Limits { max_line_bytes: setup.bound, long_lines: setup.long_lines };
    let mut decoder = Decoder::new(setup.format, limits);
    let mut traces = Vec::new();
    let mut chunks = chunks.iter().copied().cycle();
    for (number, bytes) in files.iter().enumerate().skip(from.0) {
        let file = FileId(number as u64);
        let mut at = if number == from.0 { from.1 } else { 0 };
        let mut read = at;
        loop {
            let taken = own(decoder.next(file, at as u64, &bytes[at..read]), number, at);
            let Some(taken) = taken else {
                assert!(read - at < setup.bound + 4096, "a full buffer is not enough");
                if read == bytes.len() {
                    break;
                }
                read = bytes.len().min(read.saturating_add(chunks.next().unwrap_or(1)));
                continue;
            };
            assert!(taken.consumed > 0, "nothing is used up: {taken:?}");
            at += taken.consumed;
            assert!(at <= read, "more is used up than there is");
            traces.push(left(&decoder, setup, (number, at), taken));
        }
        loop {
            let rest = &bytes[at..];
            let step = match number + 1 == files.len() {
                true => decoder.finish(file, at as u64, rest),
                false => decoder.end_file(file, at as u64, rest),
            };
            let Some(step) = step else { break };
            let taken = own(step, number, at).expect("at its end a file has no more");
            assert!(taken.consumed > 0 || taken.record.is_some(), "nothing comes of it");
            at += taken.consumed;
            traces.push(left(&decoder, setup, (number, at), taken));
        }
        assert_eq!(at, bytes.len(), "bytes are left over");
    }
    assert_eq!(decoder.resume(), None, "the source has ended");
    traces
}

/// What a step came to.
#[derive(Debug)]
struct Taken {
    record: Option<Owned>,
    consumed: usize,
    skipped: bool,
}

/// Notes a step, and that the decoder holds no more than it may.
fn left(decoder: &Decoder, setup: Setup, at: Place, taken: Taken) -> Trace {
    // A vector that grows to its bound may have twice the room.
    let room = MESSAGES * 2 * (setup.bound + 64);
    assert!(decoder.pending_bytes() <= room, "{} bytes are held", decoder.pending_bytes());
    let resume = decoder.resume().map_or(at, |o| (o.file.0 as usize, o.offset as usize));
    assert!(resume <= at, "it would restart ahead of itself");
    Trace {
        at,
        resume,
        flushed: taken.consumed == 0,
        skipped: if taken.skipped { taken.consumed } else { 0 },
        record: taken.record,
    }
}

/// None: more is needed.
fn own(step: Step<'_>, file: usize, at: usize) -> Option<Taken> {
    let (record, consumed) = match step {
        Step::NeedMore => return None,
        Step::Consumed(consumed) => return Some(Taken { record: None, consumed, skipped: false }),
        Step::Skipped(consumed) => return Some(Taken { record: None, consumed, skipped: true }),
        Step::Record { record, consumed } => (record, consumed),
    };
    let body = match record.body {
        Body::Raw(bytes) => bytes.to_vec(),
        Body::Json(inside) => {
            let literal = [b"\"", inside, b"\""].concat();
            let text: Result<String, _> = serde_json::from_slice(&literal);
            text.expect("the inside of a JSON string").into_bytes()
        }
    };
    let record = Owned {
        origin: (record.origin.file.0 as usize, record.origin.offset as usize),
        end: (file, at + consumed),
        timestamp: record.timestamp.map(<[u8]>::to_vec),
        stream: record.stream,
        body,
        marks: record.marks,
    };
    Some(Taken { record: Some(record), consumed, skipped: false })
}

fn records(traces: &[Trace]) -> Vec<&Owned> {
    traces.iter().filter_map(|trace| trace.record.as_ref()).collect()
}

/// Every byte is in a record, counted as cut, skipped as a NUL, or no part of a message.
fn account(
    setup: Setup,
    files: &[&[u8]],
    traces: &[Trace],
    parse: impl Fn(&[u8]) -> Option<Parsed>,
) {
    let (mut wanted, mut nuls) = (BTreeMap::<Lane, Vec<u8>>::new(), 0);
    for file in files {
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            let before = line.iter().take_while(|byte| **byte == 0).count();
            nuls += before;
            let line = &line[before..];
            if line.is_empty() {
                continue;
            }
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let (lane, text) = match parse(line) {
                Some(parsed) => ((parsed.stream as u8, false), parsed.text),
                None => ((Stream::None as u8, true), line.to_vec()),
            };
            wanted.entry(lane).or_default().extend_from_slice(&text);
        }
    }
    let (mut got, mut cut) = (BTreeMap::<Lane, Vec<u8>>::new(), BTreeMap::<Lane, u64>::new());
    for record in records(traces) {
        let lane = (record.stream as u8, record.marks.unparsed);
        assert!(record.body.len() <= setup.bound, "longer than the bound");
        assert!(!record.marks.unparsed || record.timestamp.is_none(), "a time out of nowhere");
        got.entry(lane).or_default().extend_from_slice(&record.body);
        *cut.entry(lane).or_default() += record.marks.cut;
    }
    let skipped: usize = traces.iter().map(|trace| trace.skipped).sum();
    assert_eq!(skipped, nuls, "NULs that are skipped");
    assert!(wanted.keys().eq(got.keys()), "{wanted:?} became {got:?}");
    for (lane, wanted) in &wanted {
        let (got, cut) = (&got[lane], cut[lane]);
        match setup.long_lines {
            LongLines::Split => assert_eq!((got, cut), (wanted, 0), "{lane:?}"),
            LongLines::Cut => assert_eq!(got.len() as u64 + cut, wanted.len() as u64, "{lane:?}"),
        }
    }
}

/// No two records begin or end at the same place, but those that the source's end brings.
fn order(traces: &[Trace]) {
    let mut origins: Vec<Place> = records(traces).iter().map(|record| record.origin).collect();
    let count = origins.len();
    origins.sort_unstable();
    origins.dedup();
    assert_eq!(origins.len(), count, "two records have one origin");
    for pair in traces.windows(2) {
        assert!(pair[1].flushed || pair[0].at < pair[1].at, "it stands still: {pair:?}");
    }
}

/// A decoder that restarts where it is told to makes the records that were not made yet, and the same.
fn replay(setup: Setup, files: &[&[u8]], traces: &[Trace], chunks: &[usize]) {
    let step = traces.len() / 4 + 1;
    for (index, stop) in traces.iter().enumerate().step_by(step) {
        if stop.flushed {
            continue;
        }
        let mut again = trace(setup, files, stop.resume, &chunks[chunks.len() / 2..]);
        again.retain(|trace| trace.flushed || trace.at > stop.at);
        assert_eq!(records(&again), records(&traces[index + 1..]), "from {:?}", stop.resume);
    }
}
