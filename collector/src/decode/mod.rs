//! Decode: bytes to records. Sans I/O.
//!
//! A [`Decoder`] is a state machine over one source's bytes and a pure function of them: fed the
//! same bytes from a clean point it makes the same records, whatever the chunking. Resuming after a
//! crash relies on that (see ARCHITECTURE.md, "Replay"). It never drops: a line it cannot parse is
//! a record of the whole line with a mark.

use crate::read::identity::FileId;

/// Which stream a container wrote the line to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A plain file, or a line that could not be parsed.
    None,
}

/// Where a record begins: the first byte of the first physical line it was made of (of the piece,
/// for a split line).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file it begins in; a record joined from partials may end in the next one.
    pub file: FileId,
    /// Bytes from the beginning of the (uncompressed) file.
    pub offset: u64,
}

/// A record's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// The message's bytes as the writer wrote them; any bytes at all.
    Raw(&'a [u8]),
    /// The inside of a JSON string literal: escaped, valid JSON, valid UTF-8 (Docker's passes
    /// through untouched).
    Json(&'a [u8]),
}

/// What is unusual about a record. All-default for nearly every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// The line did not parse in its source's format; the body is the whole line.
    pub unparsed: bool,
    /// The source ended (rotated away for good, deleted) before the end of the message.
    pub partial: bool,
    /// The message was longer than the bound and is delivered in pieces: 1, 2, … 0 if it is whole.
    pub split: u32,
    /// True on the last piece of a split message.
    pub split_last: bool,
    /// Bytes cut off the end because the message was longer than the bound.
    pub cut: u64,
}

/// One log record, borrowing from the reader's buffer (or the decoder's, if it was joined).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins; makes `log.record.uid`.
    pub origin: Origin,
    /// RFC 3339, verbatim, checked: digits and separators only, safe inside JSON. None: unknown.
    pub timestamp: Option<&'a [u8]>,
    /// Which stream.
    pub stream: Stream,
    /// The message.
    pub body: Body<'a>,
    /// What is unusual about it.
    pub marks: Marks,
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
    /// No whole line in the input: call again with more bytes from the same offset on.
    NeedMore,
}
