//! The fast way to read a json-file line: as Docker writes it, byte for byte, or not at all.
//!
//! Accepts `{"log":"…","stream":"stdout","time":"…"}` and a newline, with every escape in `log`
//! checked. Says nothing about lines that look different: those are `parse`'s. A property test holds
//! that both mean the same wherever this one speaks.

use crate::{
    decode::json_string,
    record::{Stream, timestamp::Recognizer},
};

/// A line's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scanned<'a> {
    /// The message, escaped, without its newline.
    pub text: &'a [u8],
    /// Whether it had one.
    pub complete: bool,
    /// The stream.
    pub stream: Stream,
    /// The time, a valid timestamp.
    pub time: &'a [u8],
    /// Bytes of the line, the line's newline included.
    pub len: usize,
}

/// Reads the line at the front of `input`.
#[inline]
pub(super) fn scan<'a>(times: &mut Recognizer, input: &'a [u8]) -> Option<Scanned<'a>> {
    let rest = input.strip_prefix(LOG)?;
    let log_len = json_string::scan(rest)?;
    let (log, rest) = rest.split_at(log_len);
    let (middle, rest) = rest.split_first_chunk()?;
    let stream = match middle {
        STDOUT => Stream::Stdout,
        STDERR => Stream::Stderr,
        _ => return None,
    };
    let time_len = times.prefix(rest)?;
    let (time, rest) = rest.split_at(time_len);
    if !rest.starts_with(END) {
        return None;
    }
    let (text, complete) = strip_newline(log);
    let len = LOG.len() + log_len + STDOUT.len() + time_len + END.len();
    Some(Scanned { text, complete, stream, time, len })
}

/// Decodes what [`scan`] found into `out`.
pub(super) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (character, len) = json_string::escape(&rest[at..]).expect("the scanner checked it");
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[at + len..];
    }
    out.extend_from_slice(rest);
}

/// Takes an escaped newline off the end.
#[inline]
fn strip_newline(log: &[u8]) -> (&[u8], bool) {
    let Some(text) = log.strip_suffix(b"\\n") else { return (log, false) };
    // The backslash may itself be the second half of an escaped one.
    let backslashes = text.iter().rev().take_while(|byte| **byte == b'\\').count();
    if backslashes.is_multiple_of(2) { (text, true) } else { (log, false) }
}

const LOG: &[u8; 8] = b"{\"log\":\"";
const STDOUT: &[u8; 28] = b"\",\"stream\":\"stdout\",\"time\":\"";
const STDERR: &[u8; 28] = b"\",\"stream\":\"stderr\",\"time\":\"";
const END: &[u8; 3] = b"\"}\n";
