//! A record: what a decoder makes of a line, and an encoder takes.

pub mod timestamp;

use crate::identity::FileId;

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
