//! Decode: bytes to records. Sans I/O.
//!
//! A [`Decoder`] is a state machine over one source's bytes and a pure function of them: fed the
//! same bytes from a clean point it makes the same records, whatever the chunking. Resuming after a
//! crash relies on that (see ARCHITECTURE.md, "Replay"). It never drops: a line it cannot parse is
//! a record of the whole line with a mark.

mod cri;
mod docker;
mod encoded;
mod join;
mod json_string;
mod marks;
mod nuls;
mod plain;
mod units;

use self::{cri::Cri, docker::Docker, join::End, marks::Mark, plain::Plain};
use crate::{
    config::{Charset, schema::LongLines},
    identity::FileId,
    record::{Origin, Record},
    source::Format,
};

/// Messages of one source that can be unfinished at once: one a stream, and what cannot be parsed.
pub const MESSAGES: usize = 4;

/// A message whose end is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// Where it begins.
    pub origin: Origin,
    /// Lines that it was made of so far; of a long one, more: it changes with every step forward.
    pub parts: u32,
}

/// What one call of [`Decoder::next`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record; `consumed` bytes of the input are used up (those of its last physical line).
    Record {
        /// The record.
        record: Record<'a>,
        /// Input bytes used up.
        consumed: usize,
    },
    /// Input was used up without completing a record (a partial, the rest of a cut line).
    Consumed(usize),
    /// NULs before a line were used up: no text, but what a power cut leaves.
    Skipped(usize),
    /// No whole line in the input: call again with more bytes from the same offset on.
    NeedMore,
}

/// Bounds on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest message (without header and newline; of a Docker line, as the container wrote it).
    /// Longer ones are split or cut. Decoding needs a buffer of 4 KiB more than this.
    pub max_line_bytes: usize,
    /// What to do with longer ones.
    pub long_lines: LongLines,
}

/// One source's decoder.
#[derive(Debug)]
pub struct Decoder(Inner);

// One a source, and sources are many: the rarely used Docker decoder keeps its buffers to itself.
#[derive(Debug)]
enum Inner {
    Cri(Cri),
    Docker(Box<Docker>),
    Plain(Plain),
}

impl Decoder {
    /// A decoder at a clean point: the beginning of a line, nothing unfinished before it.
    pub fn new(format: Format, limits: Limits) -> Self {
        Self(match format {
            Format::Cri => Inner::Cri(Cri::new(limits)),
            Format::DockerJson => Inner::Docker(Box::new(Docker::new(limits))),
            Format::Plain => Inner::Plain(Plain::new(limits)),
            Format::Encoded(charset) => Inner::Plain(Plain::within(limits, charset, charset)),
        })
    }

    /// One of the same kind at a clean point.
    pub fn anew(&self) -> Self {
        let limits = self.joiner().limits();
        Self(match &self.0 {
            Inner::Cri(_) => Inner::Cri(Cri::new(limits)),
            Inner::Docker(_) => Inner::Docker(Box::new(Docker::new(limits))),
            Inner::Plain(plain) => {
                let (setting, _) = plain.charsets();
                Inner::Plain(Plain::within(limits, setting, setting))
            }
        })
    }

    /// Whether a file's first bytes may say how it is encoded.
    #[inline]
    pub fn heeds_marks(&self) -> bool {
        matches!(self.0, Inner::Plain(_))
    }

    /// What follows is in the file that begins with `beginning`, at least [`Decoder::MARK`] bytes of it
    /// if it has them. To be called at a clean point, wherever in the file that is. How many bytes at the
    /// file's beginning are a mark and no text; None: more are needed to tell.
    pub fn begin_file(&mut self, beginning: &[u8]) -> Option<usize> {
        let Inner::Plain(plain) = &mut self.0 else { return Some(0) };
        let (setting, charset) = plain.charsets();
        let (now, bytes) = match marks::read(beginning) {
            Mark::Says(charset, bytes) => (charset, Some(bytes)),
            Mark::None => (setting, Some(0)),
            Mark::Open => (setting, None),
        };
        if now != charset {
            *plain = Plain::within(plain.joiner.limits(), setting, now);
        }
        bytes
    }

    /// Bytes of the longest mark.
    pub const MARK: usize = marks::LONGEST;

    /// Bytes of a code unit; they begin at multiples of it.
    pub fn unit(&self) -> usize {
        units::unit(self.charset())
    }

    /// How much of `rest`, the beginning of a line at `offset`, is left without a character that is not
    /// whole at its end. For encodings other than UTF-8.
    pub fn whole(&self, offset: u64, rest: &[u8]) -> usize {
        match self.charset() {
            Charset::UTF_8 => rest.len(),
            charset => units::whole(charset, rest, offset),
        }
    }

    fn charset(&self) -> Charset {
        match &self.0 {
            Inner::Plain(plain) => plain.charsets().1,
            Inner::Cri(_) | Inner::Docker(_) => Charset::UTF_8,
        }
    }

    /// One step forward. `offset` is that of `input[0]` in `file`; the next call continues behind
    /// what this one used up. Given [`Step::NeedMore`], call again from the same offset with more
    /// input; it is never the answer to `max_line_bytes` + 4 KiB or more.
    #[inline]
    pub fn next<'a>(&'a mut self, file: FileId, offset: u64, input: &'a [u8]) -> Step<'a> {
        match &mut self.0 {
            Inner::Cri(cri) => cri.next(file, offset, input),
            Inner::Docker(docker) => docker.next(file, offset, input),
            Inner::Plain(plain) => plain.next(file, offset, input),
        }
    }

    /// The file ends here but its source goes on in another one. `rest` is what [`Decoder::next`]
    /// left, at `offset`. Call it, each time behind what the last call used up, until it returns
    /// None. Makes a record (marked partial) of a line without a newline; an unfinished message that
    /// only its next line can end is carried over.
    pub fn end_file<'a>(
        &'a mut self,
        file: FileId,
        offset: u64,
        rest: &'a [u8],
    ) -> Option<Step<'a>> {
        if rest.is_empty() && !self.is_inside_line() {
            return None;
        }
        Some(match &mut self.0 {
            Inner::Cri(cri) => cri.step(file, offset, rest, End::File),
            Inner::Docker(docker) => docker.step(file, offset, rest, End::File),
            Inner::Plain(plain) => plain.step(file, offset, rest, End::File),
        })
    }

    /// The source ends here for good. As [`Decoder::end_file`], and then what is unfinished, oldest
    /// first, marked partial. Those last records use up nothing: they end where the file does, and
    /// are the only ones that may end where settled bytes do. On a replay they are therefore never
    /// to be suppressed: they come again only if [`Decoder::resume`] still pointed at them.
    pub fn finish<'a>(&'a mut self, file: FileId, offset: u64, rest: &'a [u8]) -> Option<Step<'a>> {
        if !rest.is_empty() || self.is_inside_line() {
            return self.end_file(file, offset, rest);
        }
        let record = match &mut self.0 {
            Inner::Cri(cri) => cri.joiner.flush(),
            Inner::Docker(docker) => docker.joiner.flush(),
            Inner::Plain(plain) => plain.flush(),
        }?;
        Some(Step::Record { record, consumed: 0 })
    }

    /// Where decoding must restart to come to this state again: the beginning of the oldest
    /// unfinished message. None: here.
    pub fn resume(&self) -> Option<Origin> {
        self.joiner().resume()
    }

    /// The messages whose end is not there yet (lines whose newline is not there are the caller's).
    pub fn unfinished(&self) -> [Option<Unfinished>; MESSAGES] {
        self.joiner().unfinished()
    }

    /// Gives back memory that only later messages would use. For when nothing is read for a while,
    /// not between lines.
    pub fn give_back(&mut self) {
        match &mut self.0 {
            Inner::Docker(docker) => docker.give_back(),
            Inner::Cri(cri) => cri.joiner.give_back(),
            Inner::Plain(plain) => plain.give_back(),
        }
    }

    /// Memory held for unfinished messages.
    pub fn pending_bytes(&self) -> usize {
        self.joiner().pending_bytes()
    }

    /// Whether a part of a line is used up.
    pub fn is_inside_line(&self) -> bool {
        match &self.0 {
            Inner::Docker(docker) => docker.is_inside_line(),
            Inner::Cri(_) | Inner::Plain(_) => self.joiner().inside().is_some(),
        }
    }

    fn joiner(&self) -> &join::Joiner {
        match &self.0 {
            Inner::Cri(cri) => &cri.joiner,
            Inner::Docker(docker) => &docker.joiner,
            Inner::Plain(plain) => &plain.joiner,
        }
    }
}

#[cfg(test)]
mod tests;
