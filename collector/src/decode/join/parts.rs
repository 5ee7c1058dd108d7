//! What a decoder says of a physical line: whose message it is part of, and where its bytes are.

use crate::{
    identity::FileId,
    record::{Origin, Stream},
};

/// What a physical line, or the rest of one, is to its message.
#[derive(Debug, Clone, Copy)]
pub(in crate::decode) struct Part<'a> {
    /// The stream that the part was written to.
    pub stream: Stream,
    /// The message ends with the line.
    pub last: bool,
    /// What the message becomes if the line begins it.
    pub opening: Opening<'a>,
}

/// What is known of a message from its first line.
#[derive(Debug, Clone, Copy)]
pub(in crate::decode) struct Opening<'a> {
    /// The first byte of its first line.
    pub origin: Origin,
    /// That line's timestamp.
    pub timestamp: Option<&'a [u8]>,
    /// Whether the line did not parse.
    pub unparsed: bool,
}

/// Where a line's message bytes are.
#[derive(Debug, Clone, Copy)]
pub(in crate::decode) struct Line<'a> {
    /// The file.
    pub file: FileId,
    /// Of the first byte of `rest` in the file.
    pub offset: u64,
    /// Bytes before `rest` that are used up with the line.
    pub header: usize,
    /// Message bytes, and whatever follows the line.
    pub rest: &'a [u8],
    /// What the end of `rest` means.
    pub end: End,
}

/// What the end of the input means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decode) enum End {
    /// There may be more: a line ends at a newline only.
    Open,
    /// The file ends here, and so does its last line.
    File,
}
