//! Messages that are not simply one physical line: joined from partials, split into pieces, cut.
//!
//! Holds at most one unfinished message a stream, each bounded by `max_line_bytes`. Knows no format:
//! a decoder says which bytes of a line are message and whether the message ends with the line.
//!
//! A message longer than the bound is cut where the bound falls, or up to three bytes before, so as
//! not to break a character within one physical line. Where that is depends on the message
//! alone, never on how its bytes arrived, so a replay makes the same pieces. Every record uses up at
//! least one byte (but for those flushed at the end of a source), so no two end at the same offset.

mod messages;
mod parts;

use super::{Limits, MESSAGES, Step, Unfinished, units};
use crate::{
    config::{Charset, LongLines},
    record::{Body, Marks, Origin, Record},
};
use messages::{Lane, Messages};
pub(super) use parts::{End, Line, Opening, Part};

/// Joins partials and splits or cuts long messages.
#[derive(Debug)]
pub(super) struct Joiner {
    /// On a message, bytes; at least 1.
    bound: usize,
    long_lines: LongLines,
    /// What the messages are in.
    charset: Charset,
    messages: Messages,
    /// The message that the physical line being read belongs to, once part of the line is used up.
    inside: Option<Inside>,
    /// The message whose text the last record borrows; cleared before anything else happens.
    lent: Option<Lane>,
    /// How many messages are open, beside [`CONVERTED`].
    open: u8,
}

#[derive(Debug, Clone, Copy)]
struct Inside {
    lane: Lane,
    last: bool,
}

impl Joiner {
    /// An empty one.
    pub(super) fn new(limits: Limits) -> Self {
        Self::of(limits, Charset::UTF_8)
    }

    /// An empty one of messages that are converted; never idle.
    pub(super) fn encoded(limits: Limits, charset: Charset) -> Self {
        Self { open: CONVERTED, ..Self::of(limits, charset) }
    }

    fn of(limits: Limits, charset: Charset) -> Self {
        let Limits { max_line_bytes, long_lines } = limits;
        let bound = max_line_bytes.max(1);
        Self {
            bound,
            long_lines,
            charset,
            messages: Messages::default(),
            inside: None,
            lent: None,
            open: 0,
        }
    }

    /// What it was made with.
    pub(super) fn limits(&self) -> Limits {
        Limits { max_line_bytes: self.bound, long_lines: self.long_lines }
    }

    /// The bound on a message; at least 1.
    #[inline]
    pub(super) fn bound(&self) -> usize {
        self.bound
    }

    /// Whether a line can be handled without looking at this at all.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.open == 0 && self.lent.is_none()
    }

    /// Whether the message that `part` would belong to is begun.
    pub(super) fn is_open(&self, part: Part<'_>) -> bool {
        self.messages.get(Lane::of(part)).is_some_and(|message| message.open)
    }

    /// Takes back what the last record borrowed. Goes first in every call.
    pub(super) fn settle(&mut self) {
        if let Some(lane) = self.lent.take() {
            self.messages.clear(lane);
        }
    }

    /// Gives back what only later messages would use. To be called when nothing is read for a while,
    /// not between lines.
    pub(super) fn give_back(&mut self) {
        self.settle();
        self.messages.give_back();
    }

    /// Begins the message of `part`, unless it is begun.
    pub(super) fn open(&mut self, part: Part<'_>) {
        self.open += u8::from(self.messages.open(part));
    }

    /// The rest of a line that is partly used up.
    pub(super) fn inside(&self) -> Option<Part<'static>> {
        let Inside { lane, last } = self.inside?;
        let origin = self.messages.get(lane)?.origin?;
        let opening = Opening { origin, timestamp: None, unparsed: lane == Lane::Unparsed };
        Some(Part { stream: lane.stream(), last, opening })
    }

    /// Takes a line, or as much of it as makes a record.
    pub(super) fn take<'a>(&'a mut self, part: Part<'a>, line: Line<'a>) -> Step<'a> {
        let message = self.messages.get(Lane::of(part));
        if message.is_some_and(|message| message.cutting) {
            return self.discard(part, line, 0);
        }
        let gathered = message.map_or(0, |message| message.text.len());
        let room = self.bound - gathered;
        let unit = units::unit(self.charset);
        let window = &line.rest[..line.rest.len().min(room + unit)];
        let (len, terminator) = match units::newline(self.charset, window, line.offset) {
            Some(len) => (len, unit),
            None if line.rest.len() >= room + unit => return self.overflow(part, line, room),
            None if line.end == End::File => (line.rest.len(), 0),
            None => return Step::NeedMore,
        };
        self.inside = None;
        self.end_line(part, &line.rest[..len], terminator == 0, line.header + len + terminator)
    }

    /// Takes a line's message where it is not a run of the file's bytes (it was decoded). Returns
    /// how much of `text` went into a piece, if the rest must be brought again because the message
    /// overflowed; each such piece uses up one byte of the line's `left`, so that it has an origin
    /// and an end of its own.
    pub(super) fn take_decoded<'a>(
        &'a mut self,
        part: Part<'a>,
        text: &'a [u8],
        left: usize,
        partial: bool,
        next: Origin,
    ) -> (Step<'a>, Option<usize>) {
        let (lane, bound) = (Lane::of(part), self.bound);
        let message = self.messages.get_mut(lane);
        if message.cutting {
            message.cut += text.len() as u64;
            return (self.end_line(part, &[], partial, left), None);
        }
        let room = bound - message.text.len();
        if text.len() <= room {
            return (self.end_line(part, text, partial, left), None);
        }
        let fresh = message.text.is_empty();
        let keep = units::boundary(Charset::UTF_8, (text, 0), room, fresh);
        self.open(part);
        match self.long_lines {
            LongLines::Split => (self.piece(lane, &text[..keep], next, 1), Some(keep)),
            LongLines::Cut => {
                let message = self.messages.get_mut(lane);
                message.text.extend_from_slice(&text[..keep]);
                message.cutting = true;
                message.cut += (text.len() - keep) as u64;
                (self.end_line(part, &[], partial, left), None)
            }
        }
    }

    /// The oldest unfinished message, ended by force.
    pub(super) fn flush(&mut self) -> Option<Record<'_>> {
        self.settle();
        self.inside = None;
        let (oldest, _) = self.messages.oldest()?;
        Some(self.close(oldest, &[], true))
    }

    /// Where the oldest unfinished message begins.
    pub(super) fn resume(&self) -> Option<Origin> {
        if self.open == 0 {
            return None;
        }
        self.messages.oldest()?.1.origin
    }

    /// Every unfinished message.
    pub(super) fn unfinished(&self) -> [Option<Unfinished>; MESSAGES] {
        let mut unfinished = [None; MESSAGES];
        for (lane, message) in self.messages.open_ones() {
            let parts = message.parts;
            let origin = message.origin;
            unfinished[lane as usize] = origin.map(|origin| Unfinished { origin, parts });
        }
        unfinished
    }

    /// Memory held.
    pub(super) fn pending_bytes(&self) -> usize {
        self.messages.bytes()
    }

    /// The line overflows its message: a piece, or the beginning of what is cut.
    fn overflow<'a>(&'a mut self, part: Part<'a>, line: Line<'a>, room: usize) -> Step<'a> {
        let (lane, long_lines, charset) = (Lane::of(part), self.long_lines, self.charset);
        self.open(part);
        self.inside = Some(Inside { lane, last: part.last });
        let message = self.messages.get_mut(lane);
        let text = (line.rest, line.offset);
        let keep = units::boundary(charset, text, room, message.text.is_empty());
        match long_lines {
            LongLines::Split => {
                let next = Origin { file: line.file, offset: line.offset + keep as u64 };
                self.piece(lane, &line.rest[..keep], next, line.header + keep)
            }
            LongLines::Cut => {
                message.text.extend_from_slice(&line.rest[..keep]);
                message.cutting = true;
                self.discard(part, line, keep)
            }
        }
    }

    /// Counts what is left of a line from `from` on.
    fn discard<'a>(&'a mut self, part: Part<'a>, line: Line<'a>, from: usize) -> Step<'a> {
        let (lane, charset) = (Lane::of(part), self.charset);
        let message = self.messages.get_mut(lane);
        let (rest, offset) = (&line.rest[from..], line.offset + from as u64);
        let (len, terminator) = match units::newline(charset, rest, offset) {
            Some(len) => (len, units::unit(charset)),
            None if line.end == End::File => (rest.len(), 0),
            None => {
                // One unit stays, so that the record has one to take up should the file end here.
                let used = units::units(charset, rest.len().saturating_sub(1), offset);
                // Nor is a header taken up alone: at the file's end the line would have nothing left.
                if line.header + from + used == 0 || line.rest.is_empty() {
                    return Step::NeedMore;
                }
                message.cut += used as u64;
                self.inside = Some(Inside { lane, last: part.last });
                return Step::Consumed(line.header + from + used);
            }
        };
        message.cut += len as u64;
        self.inside = None;
        self.end_line(part, &[], terminator == 0, line.header + from + len + terminator)
    }

    /// The line ends, and with it the message if it is its last.
    fn end_line<'a>(
        &'a mut self,
        part: Part<'a>,
        text: &'a [u8],
        partial: bool,
        consumed: usize,
    ) -> Step<'a> {
        if !part.last {
            self.open(part);
            let message = self.messages.get_mut(Lane::of(part));
            message.text.extend_from_slice(text);
            message.parts = message.parts.wrapping_add(1);
            return Step::Consumed(consumed);
        }
        if self.is_open(part) {
            let record = self.close(Lane::of(part), text, partial);
            return Step::Record { record, consumed };
        }
        let Opening { origin, timestamp, unparsed } = part.opening;
        let marks = Marks { unparsed, partial, ..Marks::default() };
        let body = Body::Raw(text);
        let record = Record { origin, timestamp, stream: part.stream, body, marks };
        Step::Record { record, consumed }
    }

    /// A full piece, the next of which begins at `next`.
    fn piece<'a>(
        &'a mut self,
        lane: Lane,
        tail: &'a [u8],
        next: Origin,
        consumed: usize,
    ) -> Step<'a> {
        let message = self.messages.get_mut(lane);
        message.pieces += 1;
        message.parts = message.parts.wrapping_add(1);
        let marks =
            Marks { unparsed: lane == Lane::Unparsed, split: message.pieces, ..Marks::default() };
        let origin = message.piece_origin.replace(next);
        let record = self.lend(lane, origin, tail, marks);
        Step::Record { record, consumed }
    }

    fn close<'a>(&'a mut self, lane: Lane, tail: &'a [u8], partial: bool) -> Record<'a> {
        self.open -= 1;
        let message = self.messages.get_mut(lane);
        message.open = false;
        message.cutting = false;
        let split = message.pieces > 0;
        let marks = Marks {
            unparsed: lane == Lane::Unparsed,
            partial,
            split: if split { message.pieces + 1 } else { 0 },
            split_last: split,
            cut: message.cut,
        };
        let origin = message.piece_origin;
        self.lend(lane, origin, tail, marks)
    }

    /// A record of the gathered text and `tail`.
    fn lend<'a>(
        &'a mut self,
        lane: Lane,
        origin: Option<Origin>,
        tail: &'a [u8],
        marks: Marks,
    ) -> Record<'a> {
        let message = self.messages.get_mut(lane);
        let body = if message.text.is_empty() {
            tail
        } else {
            self.lent = Some(lane);
            message.text.extend_from_slice(tail);
            &message.text
        };
        Record {
            origin: origin.expect("an open message has an origin"),
            timestamp: message.stamp.get(),
            stream: lane.stream(),
            body: Body::Raw(body),
            marks,
        }
    }
}

/// Counted as an open message that is in no lane, where every message is converted: so a decoder's quick
/// way needs no look at the encoding.
const CONVERTED: u8 = 1 << 7;
