//! Docker's json-file format: `{"log":"…\n","stream":"stdout","time":"…"}`, one object a line.
//!
//! A `log` that does not end in a newline is part of a message that the stream's next line
//! continues (Docker splits at 16 KiB). A whole message passes through in the escaped form it has
//! in the file; a joined, split or cut one is decoded. The bound on a message counts its decoded
//! bytes. A physical line that is no such object, or too long to be held, is passed on whole (in
//! pieces), as unparsed. Keys but these three (`attrs`, from the daemon's log options) are left out.

mod parse;
mod scan;

use memchr::memchr;

use self::{parse::Parser, scan::Scanned};
use super::{
    Limits, Step,
    join::{End, Joiner, Line, Opening, Part},
    nuls,
};
use crate::{
    identity::FileId,
    record::{
        Body, Marks, Origin, Record, Stream,
        timestamp::{Recognizer, Stamp},
    },
};

/// Decodes a json-file.
#[derive(Debug)]
pub(super) struct Docker {
    pub(super) joiner: Joiner,
    times: Recognizer,
    parser: Parser,
    /// The decoded message of the line being taken, without its newline.
    text: Vec<u8>,
    /// What is left of a line whose message overflowed.
    rest: Option<Rest>,
}

/// The rest of a line of which pieces were made.
#[derive(Debug, Clone, Copy)]
struct Rest {
    stream: Stream,
    last: bool,
    /// How much of the decoded text went into pieces.
    taken: usize,
    /// Physical bytes not yet used up.
    left: usize,
    partial: bool,
}

/// A line's fields, but for the text.
#[derive(Debug, Clone, Copy)]
struct Entry {
    stream: Stream,
    stamp: Stamp,
    /// The text ended in a newline.
    complete: bool,
}

impl Docker {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            joiner: Joiner::new(limits),
            times: Recognizer::default(),
            parser: Parser::default(),
            text: Vec::new(),
            rest: None,
        }
    }

    /// As [`Joiner::give_back`].
    pub(super) fn give_back(&mut self) {
        self.joiner.give_back();
        self.parser = Parser::default();
        if self.rest.is_none() {
            self.text = Vec::new();
        }
    }

    pub(super) fn is_inside_line(&self) -> bool {
        self.rest.is_some() || self.joiner.inside().is_some()
    }

    #[inline]
    pub(super) fn next<'a>(&'a mut self, file: FileId, offset: u64, input: &'a [u8]) -> Step<'a> {
        if self.joiner.is_idle()
            && let Some(scanned) = scan::scan(&mut self.times, input)
            && scanned.complete
            && scanned.text.len() <= self.joiner.bound()
        {
            return whole(file, offset, &scanned);
        }
        self.step(file, offset, input, End::Open)
    }

    #[cold]
    pub(super) fn step<'a>(
        &'a mut self,
        file: FileId,
        offset: u64,
        input: &'a [u8],
        end: End,
    ) -> Step<'a> {
        self.joiner.settle();
        if self.rest.is_some() {
            return self.take_text(file, offset, input, end);
        }
        if let Some(part) = self.joiner.inside() {
            return self.joiner.take(part, Line { file, offset, header: 0, rest: input, end });
        }
        if let Some(step) = nuls::skip(input, nuls::FORMATTED, end) {
            return step;
        }
        if let Some(scanned) = scan::scan(&mut self.times, input) {
            if scanned.complete
                && scanned.text.len() <= self.joiner.bound()
                && !self.joiner.is_open(part(scanned.stream, true, file, offset, None))
            {
                return whole(file, offset, &scanned);
            }
            scan::unescape(scanned.text, &mut self.text);
            let Scanned { stream, time, complete, len, .. } = scanned;
            let entry = Entry { stream, stamp: Stamp::new(Some(time)), complete };
            return self.take_entry(entry, file, offset, input, len, false);
        }
        self.take_line(file, offset, input, end)
    }

    /// Takes a line that the scanner is not sure of.
    fn take_line<'a>(
        &'a mut self,
        file: FileId,
        offset: u64,
        input: &'a [u8],
        end: End,
    ) -> Step<'a> {
        let longest = self.joiner.bound() + JSON_OVERHEAD;
        let line = match memchr(b'\n', &input[..input.len().min(longest + 1)]) {
            Some(len) => Some((len, 1)),
            None if input.len() > longest => None,
            None if end == End::File => Some((input.len(), 0)),
            None => return Step::NeedMore,
        };
        if let Some((len, terminator)) = line
            && let Some(entry) = self.parser.parse(&mut self.times, &input[..len], &mut self.text)
        {
            let partial = terminator == 0;
            return self.take_entry(entry, file, offset, input, len + terminator, partial);
        }
        let opening = Opening { origin: Origin { file, offset }, timestamp: None, unparsed: true };
        let part = Part { stream: Stream::None, last: true, opening };
        self.joiner.take(part, Line { file, offset, header: 0, rest: input, end })
    }

    /// Takes a line whose text is decoded.
    fn take_entry<'a>(
        &'a mut self,
        entry: Entry,
        file: FileId,
        offset: u64,
        input: &'a [u8],
        len: usize,
        partial: bool,
    ) -> Step<'a> {
        let Entry { stream, stamp, complete: last } = entry;
        self.joiner.open(part(stream, last, file, offset, stamp.get()));
        self.rest = Some(Rest { stream, last, taken: 0, left: len, partial });
        self.take_text(file, offset, input, End::Open)
    }

    /// Goes on with a decoded line.
    fn take_text<'a>(
        &'a mut self,
        file: FileId,
        offset: u64,
        input: &'a [u8],
        end: End,
    ) -> Step<'a> {
        let Some(rest) = self.rest.take() else { return Step::NeedMore };
        if input.len() < rest.left && end == End::Open {
            self.rest = Some(rest);
            return Step::NeedMore;
        }
        let part = part(rest.stream, rest.last, file, offset, None);
        let next = Origin { file, offset: offset + 1 };
        let text = &self.text[rest.taken..];
        let (step, taken) = self.joiner.take_decoded(part, text, rest.left, rest.partial, next);
        if let Some(taken) = taken {
            self.rest = Some(Rest { taken: rest.taken + taken, left: rest.left - 1, ..rest });
        }
        step
    }
}

fn part(
    stream: Stream,
    last: bool,
    file: FileId,
    offset: u64,
    timestamp: Option<&[u8]>,
) -> Part<'_> {
    let origin = Origin { file, offset };
    Part { stream, last, opening: Opening { origin, timestamp, unparsed: false } }
}

/// The record of a line that is a whole message.
#[inline]
fn whole<'a>(file: FileId, offset: u64, scanned: &Scanned<'a>) -> Step<'a> {
    let record = Record {
        origin: Origin { file, offset },
        timestamp: Some(scanned.time),
        stream: scanned.stream,
        body: Body::Json(scanned.text),
        marks: Marks::default(),
    };
    Step::Record { record, consumed: scanned.len }
}

/// A physical line may be longer than the bound on a message by this much and still be parsed; a
/// little less than what the reader's buffer has beyond the bound.
const JSON_OVERHEAD: usize = 2048;
